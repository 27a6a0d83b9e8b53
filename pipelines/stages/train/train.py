"""train: search, fit and log one candidate."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from pipelines import store
from pipelines.config import Candidate, Parameters
from pipelines.dataset import training_sets
from pipelines.errors import ConfigError, EvergreenError, NothingToDo
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import BuildsOn, Checked, Trained
from pipelines.paths import train_staging_uri
from pipelines.problem import Problem
from pipelines.release.versions import load_version
from pipelines.stages.train.checkpoints import StoredCheckpoint
from pipelines.training.beyond_memory import is_large, left_out

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.training.model import Model


log = logging.getLogger(__name__)


MEASURED_ROWS = 100_000  # training rows, at most, that a run's training metrics are measured on


def train(problem_name: str, checked: Checked, candidate: str) -> Trained:
    """Search, fit and log one candidate. A retry goes on where an earlier try was: trials, rounds, or the finished run.

    Where the champion is updated, that is done with its candidate alone; the baselines are fitted on the same rows.

    Raises:
        NothingToDo: another candidate is updated; the new rows make the champion no better; the run began with a
            config that has no such candidate; or the rows are beyond memory, and others alone learn from such.
    """
    from pipelines import tracking
    from pipelines.dataset.fingerprint import fingerprint
    from pipelines.html.wording import span
    from pipelines.metrics.metrics import METRICS, measure
    from pipelines.metrics.scored import scored
    from pipelines.release.lineage import lineage, surroundings
    from pipelines.training.fit import fit
    from pipelines.training.search import search, searched_metric
    from pipelines.training.update import updated

    problem = problem_of(problem_name, checked)
    _require_known(problem, candidate)
    spec, champion = problem.training.of(candidate), _updated(problem, checked, candidate)
    if champion is None:
        _require_in_memory_or_on_disk(problem, checked, candidate)
    tags = {"training": checked.training, "candidate": candidate}
    done = tracking.find_run(problem, tags)
    if done is not None:
        run_id, metrics = done
        # `evaluate` has added the ends of intervals.
        of_validation = {name: metrics.get(f"validation_{name}") for name in METRICS}
        return Trained(
            config=checked.config,
            candidate=candidate,
            run_id=run_id,
            validation={name: value for name, value in of_validation.items() if value is not None},
            model_sha256=tracking.logged_sha256(run_id),
        )

    tags |= {
        "partition": checked.partition,
        "training_set": checked.training_set,
        "feature_set": checked.feature_set,
        "config_hash": problem.config_hash,
        "trained_until": checked.trained_until,
        "how": checked.how if champion else "scratch",
    }
    if champion:
        tags["builds_on"] = champion.version
    run_id = tracking.start_candidate(problem, candidate, tags)
    is_shared = champion is None and problem.training.has_workers(candidate, is_large(problem, checked.splits["train"]))
    try:
        learnt_from = _training_rows(problem, checked, is_shared)
        validation = training_sets.split(problem, checked, "validation")
        searched: Parameters = {}
        state = StoredCheckpoint(f"{train_staging_uri(problem, checked.training)}/{candidate}.checkpoint", problem)
        if champion:
            searched = tracking.run_lineage(champion.run_id)["parameters"]
            learnt_from = _in_memory(problem, learnt_from, f"how: {checked.how}", "update")
            before = load_version(problem, champion.version, champion.run_id)
            model = updated(problem, candidate, checked.how, before, learnt_from, validation)
            _require_new(problem, before, model, champion.version)
        else:
            if spec.search:
                trials = tracking.RunTrials(run_id, searched_metric(problem))
                rows = _training_rows(problem, checked) if is_shared else learnt_from
                rows = _in_memory(problem, rows, f"training.candidates.{candidate}.search", "search parameters")
                searched = search(problem, candidate, rows, trials).parameters
            model = fit(problem, candidate, learnt_from, validation, parameters=searched, checkpoint=state)
    except EvergreenError as error:
        tracking.fail(run_id, error.what)
        raise
    measured = {}
    measured_rows = {"train": _evenly(learnt_from, MEASURED_ROWS)} if isinstance(learnt_from, pa.Table) else {}
    for split, rows in {**measured_rows, "validation": validation}.items():
        labels, weights = rows["label"].to_numpy(), rows["weight"].to_numpy()
        measured[split] = measure(scored(problem, labels, model.scores(rows), weights, model.threshold))
    _, test = training_sets.stream(problem, checked, "test")
    taught = fingerprint(problem, learnt_from) if champion else model.learnt_from
    prints = {"train": taught, "validation": fingerprint(problem, validation), "test": fingerprint(problem, test)}
    made_of = lineage(
        problem, checked, prints, candidate, searched, surroundings(), is_streamed=not isinstance(learnt_from, pa.Table)
    )
    logged = tracking.log_candidate(
        problem,
        candidate,
        model,
        tags=tags | {"window": span(taught.get("partitions"))},
        parameters={
            "model": spec.model,
            **spec.parameters,
            **searched,
            "seed": problem.training.seed,
            "threshold": model.threshold,
            "sampling": problem.dataset.sampling.method,
            "resampling": problem.dataset.resampling.method,
            "augmentation": problem.dataset.augmentation.method,
            "train_rows": prints["train"]["rows"],
            "fitted_rows": model.fitted_rows,
            **{
                name: section.model_dump(mode="json", exclude_defaults=True) or "default"
                for name, section in _sections(spec).items()
            },
            **({"engine": problem.training.engine.workers_in_words} if is_shared and problem.training.engine else {}),
            "events_version": checked.events_version,
            "labels_version": checked.labels_version,
            "features_version": checked.features_version,
        },
        metrics={
            f"{split}_{name}": value
            for split, values_of in measured.items()
            for name, value in values_of.items()
            if value is not None
        },
        dataset_uri=store.table_uri(problem, "training_sets"),
        dataset_version=checked.training_set_version,
        example=validation.select(problem.feature_names).slice(0, 5),
        files=training_sets.training_files(problem, checked)
        | {
            "lineage.json": json.dumps(made_of, indent=1).encode(),
            "dropped_features.json": json.dumps(model.dropped, indent=1).encode(),
        },
        run_id=run_id,
    )
    store.delete(state.uri)
    return Trained(
        config=checked.config,
        candidate=candidate,
        run_id=run_id,
        validation=measured["validation"],
        model_sha256=logged.sha256,
    )


def _require_known(problem: Problem, candidate: str) -> None:
    if candidate not in problem.training.candidates:
        raise NothingToDo(
            "the config that this run began with has no such candidate",
            where=f"{problem.name}.train, candidate {candidate}",
            cure="trigger a new run: it goes by problem.yaml as it is now",
        )


def _require_in_memory_or_on_disk(problem: Problem, checked: Checked, candidate: str) -> None:
    if reason := left_out(problem, checked.splits["train"]).get(candidate):
        raise NothingToDo(
            f"{candidate} is left out: {reason}",
            where=f"{problem.name}.train, candidate {candidate}",
            cure="the others compete; set training.memory_limit_mb higher, or draw fewer rows (dataset.sampling)",
        )


def _training_rows(problem: Problem, pins: Checked, is_shared: bool = False) -> pa.Table | ds.Dataset:
    """The training split: in memory, or on disk where it is too large for that, or `is_shared` among workers."""
    if not is_shared and not is_large(problem, pins.splits["train"]):
        group = problem.dataset.split.group_by  # folds keep groups together
        return training_sets.split(problem, pins, "train", extra=[group] if group else [])
    uri = f"{train_staging_uri(problem, pins.training)}/train"
    schema, batches = training_sets.stream(problem, pins, "train")
    store.stage(uri, batches, schema, is_passed_on=is_shared)
    return store.staged(uri)


def _updated(problem: Problem, checked: Checked, candidate: str) -> BuildsOn | None:
    """The champion, where it is this candidate that goes on from it; None: it is fitted from scratch."""
    champion = checked.builds_on
    if champion is None or problem.training.candidates[candidate].is_baseline:
        return None
    if candidate != champion.candidate:
        raise NothingToDo(
            f"version {champion.version} is updated, which is {champion.candidate}",
            where=f"candidate {candidate}",
            cure="train from scratch (how: scratch) to have all candidates compete",
        )
    return champion


def _require_new(problem: Problem, before: Model, model: Model, version: str) -> None:
    rounds = [getattr(each_model.estimator, "rounds_", None) for each_model in (before, model)]
    if model.calibration is None and rounds[0] == rounds[1]:
        raise NothingToDo(
            f"the new rows make version {version} no better on the validation split, so that nothing was learnt",
            where=f"{problem.name}.train, how: continue",
            cure="train from scratch (how: scratch), or wait for more rows",
        )


def _in_memory(problem: Problem, rows: pa.Table | ds.Dataset, where: str, what: str) -> pa.Table:
    if isinstance(rows, pa.Table):
        return rows
    raise ConfigError(
        f"the training rows are too many to {what} on ({problem.training.memory_limit_mb} MB are allowed)",
        where=where,
        cure="take a sample (dataset.sampling), or raise training.memory_limit_mb",
    )


def _evenly(rows: pa.Table, most: int) -> pa.Table:
    """`most` rows, or all if there are fewer, in their order and evenly apart: all of the time that they span.

    >>> _evenly(pa.table({"n": range(10)}), 4)["n"].to_pylist()
    [0, 2, 5, 7]
    """
    if rows.num_rows <= most:
        return rows
    is_taken = np.zeros(rows.num_rows, dtype=bool)
    is_taken[np.arange(most) * rows.num_rows // most] = True
    return rows.filter(pa.array(is_taken))


def _sections(spec: Candidate) -> dict[str, BaseModel]:
    """What else a candidate was given: for comparing runs in MLflow."""
    sections = {
        "preprocessing": spec.preprocessing,
        "selection": spec.selection,
        "imbalance": spec.imbalance,
        "calibration": spec.calibration,
    }
    return {name: section for name, section in sections.items() if section is not None}
