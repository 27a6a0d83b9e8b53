"""The stage `train.refit`: once its gate has passed, the challenger is fitted again, on all that may be learnt from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

from pipelines import ledger, store
from pipelines.artifacts import table_schema
from pipelines.dataset import training_sets
from pipelines.dataset.fingerprint import fingerprint
from pipelines.documents.lineage import Lineage, PinnedTable, Refit
from pipelines.documents.measures import Measured
from pipelines.errors import EvergreenError, GateFailed
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import Gated, Refitted, training_set_of
from pipelines.html.wording import span
from pipelines.paths import train_staging_uri
from pipelines.problem import Problem
from pipelines.release.versions import load_version, taught, version_lineage
from pipelines.stages.train.checkpoints import StoredCheckpoint
from pipelines.temporary import temporary_folder

if TYPE_CHECKING:
    from pipelines.evaluation.gate.refitted import RefitCheck
    from pipelines.training.model import Model


def refit(problem_name: str, gated: Gated) -> Refitted:
    """Fit the challenger's recipe again, on all mature partitions, and let that model serve in the place of the tested
    one, if it is sound. The tested model stays in its run: it is what has shown how good the recipe is, and what the
    next challenger is compared with.

    With training.refit off the tested model itself serves. A retry finds the run of an earlier try. The lineage.json
    of the new run has how it was made.

    Raises:
        GateFailed: the model is not sound; the champion goes on serving.
        DataError: the rows cannot be learnt from.
    """
    from pipelines import tracking

    problem = problem_of(problem_name, gated)
    if not problem.training.refit:
        return Refitted(
            **gated.model_dump(), tested_run=gated.run_id, refit="the tested model serves (training.refit is off)"
        )
    tested_run = gated.run_id
    recorded = tracking.run_lineage(tested_run)
    tags = {"training": f"{recorded['training']}-refit", "candidate": gated.candidate}
    done = tracking.find_run(problem, tags)
    if done is not None:
        earlier = tracking.run_lineage(done[0])["refit"]
        assert earlier is not None, "the run carries the tags of a refit"
        return _served_by(done[0], tracking.logged_sha256(done[0]), gated, earlier["check"]["reason"])
    tags |= {
        "partition": gated.partition,
        "tested_run": tested_run,
        "gate": gated.verdict,
        "feature_set": problem.feature_set,
        "config_hash": problem.config_hash,
        "how": recorded["how"],
    }
    run_id = tracking.start_candidate(problem, gated.candidate, tags)
    try:
        check, sha256 = _refit(problem, gated, recorded, run_id, tags)
    except EvergreenError as error:
        tracking.fail(run_id, error.what)
        raise
    tracking.annotate(tested_run, tags={"refit_run": run_id})
    return _served_by(run_id, sha256, gated, check.reason)


def _served_by(run_id: str, sha256: str | None, gated: Gated, reason: str) -> Refitted:
    """The model of `run_id` is to serve, in the place of the one that was tested."""
    tested = gated.model_dump()
    models = gated.models_sha256 | ({run_id: sha256} if sha256 else {})
    return Refitted(**tested | {"run_id": run_id, "tested_run": gated.run_id, "refit": reason, "models_sha256": models})


def _refit(
    problem: Problem, gated: Gated, recorded: Lineage, run_id: str, tags: dict[str, str]
) -> tuple[RefitCheck, str]:
    """Fit, check and log the model; the check, and the SHA-256 of the model's file.

    The run's lineage.json is the tested model's, and says how it was fitted again.
    """
    from pipelines import tracking
    from pipelines.release.refit import refit_model, refit_rows

    tested = tracking.load_model(gated.run_id, gated.models_sha256.get(gated.run_id))
    parent = recorded.get("parent")
    base, after, bases = None, None, None
    if parent is not None:
        base = version_lineage(problem, parent)["run_id"]
        after = max(taught(problem, parent).partitions)
        # A training that began before there were refits went on from what serves.
        bases = (
            load_version(problem, parent, recorded.get("parent_run") or base),
            load_version(problem, parent, base),
        )
    state = StoredCheckpoint(f"{train_staging_uri(problem, recorded['training'])}/refit.checkpoint", problem)
    with temporary_folder() as folder:
        tables = (_pinned(problem, recorded, "events"), _pinned(problem, recorded, "labels"))
        rows = refit_rows(problem, recorded, *tables, after, folder)
        model = refit_model(problem, recorded, tested, rows, bases, state)
        learnt = fingerprint(problem, rows)
    pins = training_set_of(recorded)
    test = training_sets.split(problem, pins, "test")
    check, metrics = _checked(problem, tested, model, test)
    refit: Refit = {"of": gated.run_id, "base": base, "after": after, "rows": learnt, "check": check.document()}
    _decide(problem, gated, recorded["training"], refit)
    spec = problem.training.of(gated.candidate)
    logged = tracking.log_candidate(
        problem,
        gated.candidate,
        model,
        tags=tags
        | {
            "training_set": learnt["hash"][:12],
            "trained_until": learnt["partitions"][-1],
            "window": span(learnt.get("partitions")),
        },
        parameters={
            "model": spec.model,
            **spec.parameters,
            **recorded["parameters"],
            "threshold": model.threshold,
            "train_rows": learnt["rows"],
            "fitted_rows": model.fitted_rows,
        },
        # Of rows that it has learnt from: they say how well it fits, and nothing of how good it is.
        metrics={f"in_sample_{name}": value for name, value in metrics.items() if value is not None},
        dataset_uri=store.table_uri(problem, "events"),
        dataset_version=recorded["tables"]["events"],
        example=test.select(problem.feature_names).slice(0, 5),
        files=training_sets.training_files(problem, pins)
        | {
            name: json.dumps(content, indent=1).encode()
            for name, content in {
                "lineage.json": recorded | {"refit": refit},
                "evaluation.json": tracking.run_evaluation(gated.run_id),
                "reference.json": tracking.run_file(gated.run_id, "reference.json"),
                "dropped_features.json": model.dropped,
            }.items()
        },
        run_id=run_id,
    )
    store.delete(state.uri)
    return check, logged.sha256


def _checked(problem: Problem, tested: Model, model: Model, test: pa.Table) -> tuple[RefitCheck, Measured]:
    from pipelines.evaluation.gate.refitted import refit_check
    from pipelines.metrics.bootstrap import blocks_of
    from pipelines.metrics.metrics import measure
    from pipelines.metrics.scored import scored

    labels, weights = test["label"].to_numpy(), test["weight"].to_numpy()
    theirs, ours = (
        scored(problem, labels, each_model.scores(test), weights, each_model.threshold)
        for each_model in (tested, model)
    )
    check = refit_check(problem, theirs, ours, blocks_of(problem, test))
    return check, measure(ours) if check.gain is not None else {}


def _decide(problem: Problem, gated: Gated, training: str, refit: Refit) -> None:
    """Raises:
    GateFailed: the refitted model is not sound.
    """
    check = refit["check"]
    ledger.record(
        problem,
        decision=f"refit:{training}",
        kind="refit",
        partition=gated.partition,
        verdict="passed" if check["passed"] else "failed",
        action="register" if check["passed"] else "keep champion",
        reason=check["reason"],
        evidence=dict(refit),
    )
    if not check["passed"]:
        raise GateFailed(
            f"{gated.candidate}, fitted again on all partitions up to {refit['rows']['partitions'][-1]}, "
            f"is not sound: {check['reason']}",
            where=f"refit of {problem.name}, data until {gated.partition}",
            cure="the champion goes on serving; look at the newest partitions, which the tested model has not learnt "
            "from; training.refit: false lets the tested model serve",
        )


def _pinned(problem: Problem, recorded: Lineage, name: PinnedTable) -> ds.Dataset:
    version = recorded["tables"][name]
    if version is None:
        return ds.dataset(table_schema(problem, name).empty_table())
    return store.dataset(problem, name, version)
