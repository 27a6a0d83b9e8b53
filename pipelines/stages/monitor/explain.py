"""explain, between diagnose and decide: since when, along with what, and where; and the page about a partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines import store
from pipelines.errors import PermanentError
from pipelines.handoffs.config import pinned_problem
from pipelines.paths import version_uri
from pipelines.stages.monitor.past import Past, past
from pipelines.stages.waiting import handed_on

if TYPE_CHECKING:
    from pipelines.monitoring.explain.contribution import Contribution, ScoreShift
    from pipelines.monitoring.explain.root_cause import Explained
    from pipelines.training.model import Model


def explain(problem_name: str, diagnosed: dict[str, Any]) -> dict[str, Any]:
    """Explain the findings; of a partition without any it says so, and reads nothing.

    Result: what `diagnose` gave, and "explained": `root_cause.Explained` as JSON.
    """
    from pipelines.monitoring.diagnose.finding import Diagnosis
    from pipelines.monitoring.explain.root_cause import nothing_to_explain

    problem = pinned_problem(problem_name, diagnosed.get("config"))
    diagnosis = Diagnosis.model_validate(diagnosed["diagnosis"])
    if not diagnosis.findings:
        told = nothing_to_explain(diagnosis.unjudged.values())
    else:
        told = _explained(past(diagnosed["version"], handed_on(problem, diagnosed)), diagnosis)
    return {**diagnosed, "explained": told.model_dump(mode="json")}


def _explained(what_was: Past, diagnosis: Any) -> Explained:
    from pipelines.features.schema import feature_units
    from pipelines.monitoring.explain.root_cause import (
        LEAST_SHIFT,
        Explained,
        changes_of,
        paragraph,
        scores_since,
        sides,
    )

    profiles, performance = what_was.profiles(), what_was.performance()
    changes = changes_of(diagnosis, what_was.reference, profiles, performance)
    change = changes[0].change if changes else None
    since = change.since if change else None
    before, after = sides(list(profiles), scores_since(changes))
    shift, contributions, notes = _shift(what_was, profiles, before, after)
    told: dict[str, Any] = {
        "since": since,
        "shape": change.shape if change else None,
        "changes": changes,
        "before": before,
        "after": after,
        "shift": shift,
        "contributions": contributions,
        "performance": [shown_performance(one) for one in performance],
        **_slices(what_was, [one["partition"] for one in performance if not one["is_held_out"]], since, notes),
    }
    explained = Explained(**told, notes=tuple(notes), paragraph="")
    is_number = what_was.trained_problem.task == "regression"
    return explained.model_copy(
        update={
            "paragraph": paragraph(
                diagnosis,
                explained,
                every=what_was.problem.partitions.every,
                units=feature_units(what_was.trained_problem),
                loss="squared error" if is_number else "log loss",
                least_shift=LEAST_SHIFT * ((what_was.reference.label_std or 1.0) if is_number else 1.0),
            )
        }
    )


def _shift(
    what_was: Past, profiles: dict[str, Any], before: list[str], after: list[str]
) -> tuple[ScoreShift | None, tuple[Contribution, ...], list[str]]:
    from pipelines.monitoring.explain.contribution import pooled, score_shift

    if not before:
        return None, (), ["There is no partition before to compare the scores with."]
    try:
        model = _model(what_was)
    except PermanentError as error:
        return None, (), [f"The model could not be read, so no feature's part is known: {error}"]
    rows, is_after = what_was.explained_rows(before, after)
    one, other = (pooled([profiles[key] for key in keys], what_was.reference) for keys in (before, after))
    seed = what_was.problem.evaluation.bootstrap.seed
    found = score_shift(what_was.reference, one, other, model, rows, is_after, seed)
    if found is None:
        return None, (), ["The scores of one side, or its features, are not there: no feature's part is known."]
    return *found, []


def _slices(what_was: Past, labelled: list[str], since: str | None, notes: list[str]) -> dict[str, Any]:
    """Where the losses rose; `notes` grows by why that could not be told."""
    from pipelines.metrics.bootstrap import blocks_of
    from pipelines.monitoring.explain.error_slices import error_slices, losses_of

    start = since if since is not None else max(labelled, default=None)
    after = [key for key in labelled if start is not None and key >= start]
    before = [key for key in labelled if key not in after]
    if not after:
        notes.append("No labels have come since then: where the model does worse is not known.")
        return {}
    features = list(what_was.trained_problem.feature_names)
    rows, found, is_after, has_held_out = what_was.compared(before, after, features)
    slices, looked_at = error_slices(
        what_was.problem, rows, losses_of(found), is_after, blocks_of(what_was.problem, rows)
    )
    if not looked_at:
        notes.append("Too few labelled rows, before or since, to look for where the model does worse.")
    return {
        "labelled_before": before,
        "labelled_after": after,
        "has_held_out": has_held_out,
        "slices": slices,
        "slices_looked_at": looked_at,
    }


def _model(what_was: Past) -> Model:
    from pipelines import tracking

    lineage = store.read_json(version_uri(what_was.problem, what_was.version, "lineage.json"))
    return tracking.load_model(lineage["run_id"])


def shown_performance(one: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of a partition's performance."""
    names = (
        "partition",
        "is_held_out",
        "rows",
        "auc",
        "r2",
        "log_loss",
        "rmse",
        "positive_rate",
        "mean_label",
        "mean_score",
        "calibration_gap",
        "bias",
    )
    return {name: one[name] for name in names if one.get(name) is not None}
