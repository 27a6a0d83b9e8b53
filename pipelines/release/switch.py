"""switch: another version serves at once, without a training: the one before, or a baseline.

Both are for a champion that does harm now (Huyen, ch. 9; Burkov, ch. 9: roll back first, find out after). A version
goes on serving until a challenger passes the gate, as any champion does. On the ledger they are promotions, as they
say what serves from when on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pipelines import ledger, store
from pipelines.dataset import training_sets
from pipelines.documents.evaluation import Evaluation, Report
from pipelines.documents.lineage import VersionLineage
from pipelines.documents.version import VersionFiles
from pipelines.errors import ConfigError, DataError, NothingToDo
from pipelines.handoffs.training import training_set_of
from pipelines.metrics.metrics import goodness
from pipelines.paths import facts_uri, version_uri
from pipelines.problem import Problem
from pipelines.release.versions import load_version, model_files, version_problem, write_version_files

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

REFERENCE_ROWS = 500_000  # training rows, at most, that monitoring compares with
ROLLED_BACK, FELL_BACK = "rolled back", "fell back"  # actions on the ledger


class Switch(NamedTuple):
    """What serves from now on."""

    version: str
    replaced: str
    """Version that served until now."""
    candidate: str | None = None
    """Name of the baseline that serves; None: no baseline does."""


def roll_back(problem: Problem, partition: str, reason: str) -> Switch:
    """Let the version serve that served before the champion. Safe to repeat.

    Once: the version that was left is not gone back to, and what served still earlier is not known to be better.

    Raises:
        DataError: no version is known that served before, or it cannot serve any more.
    """
    from pipelines import tracking

    champion, before = tracking.serving(problem), tracking.previous(problem)
    if done := _done(problem, ROLLED_BACK, partition, str(champion.version)):
        return done
    if before is None or before.version == champion.version:
        raise DataError(
            f"version {champion.version} serves, and none is known that served before it",
            where=f"registered model {problem.name}, alias previous",
            cure=f"train one ({problem.name}.train), or let a baseline serve (`evergreen fall-back {problem.name}`)",
        )
    version = str(before.version)
    _require_files(problem, version)
    load_version(problem, version, before.run_id)  # what could not serve is no way back
    return _switch(problem, Switch(version, str(champion.version)), partition, ROLLED_BACK, reason)


def fall_back(problem: Problem, partition: str, reason: str) -> Switch:
    """Let the best baseline of the champion's own training serve, as a version of its own. Safe to repeat.

    The baseline is the best by training.select_by on the champion's test rows; its model was fitted then and is taken
    as it is. A random one never serves.

    Raises:
        NothingToDo: a baseline serves already.
        ConfigError: the problem has no baseline that could serve.
    """
    from pipelines import tracking

    champion = tracking.serving(problem)
    if done := _done(problem, FELL_BACK, partition, str(champion.version)):
        return done
    if champion.tags.get("kind") == "fallback":
        raise NothingToDo(
            f"version {champion.version}, a baseline, serves already",
            where=f"problem {problem.name}",
            cure=f"train a challenger: {problem.name}.train",
        )
    evaluation = tracking.run_evaluation(champion.run_id)
    trained_problem = version_problem(problem, str(champion.version))
    name = best_baseline(trained_problem, baseline_metrics(evaluation))
    version = _register(problem, trained_problem, champion, evaluation, name)
    return _switch(problem, Switch(version, str(champion.version), name), partition, FELL_BACK, reason)


def best_baseline(trained_problem: Problem, metrics: Mapping[str, Mapping[str, float | None]]) -> str:
    """The baseline that would serve: the best by training.select_by of those that are not random. `metrics`: what each
    baseline was measured to, by its name.

    Raises:
        ConfigError: there is none.
    """
    metric: str = trained_problem.training.select_by
    measured: dict[str, float] = {}
    for name, values in metrics.items():
        value = values.get(metric)
        if value is not None and trained_problem.training.candidates[name].model != "random":
            measured[name] = goodness(metric, value)
    if not measured:
        raise ConfigError(
            f"no baseline has a {metric} that it could serve by",
            where="training.baselines",
            cure="name one that is not random, such as {prior: {model: prior}}, and train again",
        )
    return max(measured, key=lambda name: measured[name])


def baseline_metrics(evaluation: Evaluation) -> dict[str, Mapping[str, float | None]]:
    """What each baseline of an evaluation was measured to on its test rows."""
    return {name: baseline["metrics"] for name, baseline in evaluation.get("baselines", {}).items()}


def _register(
    problem: Problem, trained_problem: Problem, champion: ModelVersion, evaluation: Evaluation, name: str
) -> str:
    """The baseline as a version, with all files that scoring and monitoring read of one."""
    from pipelines import tracking
    from pipelines.metrics.scored import scored
    from pipelines.monitoring.estimate.held_out import to_parquet
    from pipelines.profiles.profile import reference
    from pipelines.release.card import card
    from pipelines.release.history import history

    baseline = evaluation["baselines"][name]
    run_id = baseline["run_id"]
    model = load_version(problem, str(champion.version), run_id)
    made_of = tracking.run_lineage(run_id)
    pins = training_set_of(made_of)
    test = training_sets.split(trained_problem, pins, "test")
    learnt = training_sets.drawn(trained_problem, pins, "train", REFERENCE_ROWS)
    test_scored = scored(
        trained_problem, test["label"].to_numpy(), model.scores(test), test["weight"].to_numpy(), model.threshold
    )
    built = reference(
        learnt.select(trained_problem.feature_names),
        learnt["label"].to_numpy(),
        test_scored,
        trained_problem.monitoring.bins,
        history(trained_problem, pins, model),
        trained_problem.vector_features,
    )
    report: Report = {
        "run_id": run_id,
        "task": trained_problem.task,
        "rows": test.num_rows,
        "metrics": {metric: {"value": value} for metric, value in baseline["metrics"].items()},
        "threshold": model.threshold,
        "partitions": sorted(set(test["partition"].to_pylist())),
    }
    # What a later gate compares it with: how it did when it came in, and the baselines beside it.
    tracking.annotate(run_id, files={"evaluation.json": {**evaluation, "challenger": report}})
    tags = {"partition": str(made_of["partition"]), "candidate": name, "kind": "fallback", "gate": "none"}
    version: str = tracking.register(problem, run_id, tags)
    lineage: VersionLineage = {
        **made_of,
        "version": version,
        "run_id": run_id,
        **model_files(run_id, (), {}),
        "how": "fallback",
        "replaces": str(champion.version),
    }
    about = card(trained_problem, report, lineage, store.read_json(facts_uri(trained_problem, pins.training_set)))
    until = tracking.run_tag(run_id, "trained_until")
    files: VersionFiles = {
        "problem.json": tracking.run_file(run_id, "problem.json"),
        "reference.json": {"trained_until": until, "reference": built.model_dump(mode="json")},
        "held_out.parquet": to_parquet(trained_problem, test, test_scored),
        "lineage.json": lineage,
        "card.md": about.markdown.encode(),
        "card.html": about.html,
    }
    write_version_files(problem, version, files)
    tracking.describe(problem, version, about.markdown)
    return version


def _require_files(problem: Problem, version: str) -> None:
    for name in ("problem.json", "reference.json"):
        if not store.exists(version_uri(problem, version, name)):
            raise DataError(
                f"version {version} served before, and its {name} is gone",
                where=version_uri(problem, version, name),
                cure=f"let a baseline serve (`evergreen fall-back {problem.name}`), or train a new version",
            )


def _done(problem: Problem, action: str, partition: str, champion: str) -> Switch | None:
    """What an earlier try did about this partition, if what serves is what it wanted."""
    for row in ledger.decisions(problem, "promotion"):
        if (row["action"], row["partition"], row["model_version"]) == (action, partition, champion):
            return Switch(champion, **row["evidence"])
    return None


def _switch(problem: Problem, switch: Switch, partition: str, action: str, reason: str) -> Switch:
    """The ledger first: a try that is killed in between is then repeated, and not taken for done."""
    from pipelines import tracking

    version, champion, candidate = switch
    evidence = {"replaced": champion} | ({} if candidate is None else {"candidate": candidate})
    ledger.record(
        problem,
        decision=f"{action}:{partition}:{champion}:{version}",
        kind="promotion",
        partition=partition,
        verdict=f"version {champion} does harm",
        action=action,
        reason=reason,
        model_version=version,
        evidence=evidence,
    )
    (tracking.roll_back if action == ROLLED_BACK else tracking.promote)(problem, version)
    return switch
