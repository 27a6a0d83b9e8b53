"""explain, between diagnose and decide: since when, along with what, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipelines.errors import PermanentError
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.monitoring import Diagnosed, Explained
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.release.versions import load_version
from pipelines.stages.monitor import evidence
from pipelines.stages.monitor.past import Past, past
from pipelines.stages.waiting import handed_on

if TYPE_CHECKING:
    from pipelines.monitoring.detect.detection import LabelledPartition
    from pipelines.monitoring.explain.contribution import Contribution, ScoreShift
    from pipelines.monitoring.explain.error_slices import ErrorSlice
    from pipelines.monitoring.explain.root_cause import Explanation
    from pipelines.profiles.profile import Profiles
    from pipelines.training.model import Model

SHOWN = (
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


class _Shift(NamedTuple):
    """Of the scores; `notes`: why it is not known."""

    shift: ScoreShift | None = None
    contributions: tuple[Contribution, ...] = ()
    notes: tuple[str, ...] = ()


class _Slices(NamedTuple):
    """Where losses rose, between two sides of labelled partitions; `notes`: why that is not known."""

    before: list[str]
    after: list[str]
    has_held_out: bool = False
    slices: tuple[ErrorSlice, ...] = ()
    looked_at: int = 0
    notes: tuple[str, ...] = ()


def explain(problem_name: str, diagnosed: Diagnosed) -> Explained:
    """Explain the findings; of a partition without any it says so, and reads nothing of the past."""
    from pipelines.monitoring.explain.root_cause import nothing_to_explain

    problem = problem_of(problem_name, diagnosed)
    diagnosis = evidence.read(Diagnosis, diagnosed.diagnosis)
    if diagnosis.findings:
        explanation = _explanation(past(diagnosed.version, handed_on(problem, diagnosed)), diagnosis)
    else:
        explanation = nothing_to_explain(diagnosis.unjudged.values())
    uri = evidence.keep(problem, diagnosed, "explanation", explanation)
    return Explained(**diagnosed.model_dump(), explanation=uri, since=explanation.since)


def _explanation(what_was: Past, diagnosis: Diagnosis) -> Explanation:
    from pipelines.features.schema import feature_units
    from pipelines.monitoring.explain.root_cause import (
        LEAST_SHIFT,
        Explanation,
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
    shift = _shift(what_was, profiles, before, after)
    slices = _slices(what_was, [part.partition for part in performance if not part.is_held_out], since)
    explanation = Explanation(
        since=since,
        shape=change.shape if change else None,
        changes=changes,
        before=tuple(before),
        after=tuple(after),
        shift=shift.shift,
        contributions=shift.contributions,
        labelled_before=tuple(slices.before),
        labelled_after=tuple(slices.after),
        has_held_out=slices.has_held_out,
        slices=slices.slices,
        slices_looked_at=slices.looked_at,
        performance=tuple(shown_performance(part) for part in performance),
        notes=(*shift.notes, *slices.notes),
        paragraph="",
    )
    is_number = what_was.trained_problem.task == "regression"
    words = paragraph(
        diagnosis,
        explanation,
        every=what_was.problem.partitions.every,
        units=feature_units(what_was.trained_problem),
        loss="squared error" if is_number else "log loss",
        least_shift=LEAST_SHIFT * ((what_was.reference.label_std or 1.0) if is_number else 1.0),
    )
    return explanation.model_copy(update={"paragraph": words})


def _shift(what_was: Past, profiles: dict[str, Profiles], before: list[str], after: list[str]) -> _Shift:
    from pipelines.monitoring.explain.contribution import pooled, score_shift

    if not before:
        return _Shift(notes=("There is no partition before to compare the scores with.",))
    try:
        model = _model(what_was)
    except PermanentError as error:
        return _Shift(notes=(f"The model could not be read, so no feature's part is known: {error}",))
    rows, is_after = what_was.explained_rows(before, after)
    earlier, later = (pooled([profiles[key] for key in keys], what_was.reference) for keys in (before, after))
    seed = what_was.problem.evaluation.bootstrap.seed
    shift = score_shift(what_was.reference, earlier, later, model, rows, is_after, seed)
    if shift is None:
        note = "The scores of one side, or its features, are not there: no feature's part is known."
        return _Shift(notes=(note,))
    return _Shift(*shift)


def _slices(what_was: Past, labelled: list[str], since: str | None) -> _Slices:
    """Where the losses rose."""
    from pipelines.metrics.bootstrap import blocks_of
    from pipelines.monitoring.explain.error_slices import error_slices, losses_of

    start = since if since is not None else max(labelled, default=None)
    after = [key for key in labelled if start is not None and key >= start]
    before = [key for key in labelled if key not in after]
    if not after:
        note = "No labels have come since then: where the model does worse is not known."
        return _Slices([], [], notes=(note,))
    features = list(what_was.trained_problem.feature_names)
    rows, truth, is_after, has_held_out = what_was.compared(before, after, features)
    problem = what_was.problem
    slices, looked_at = error_slices(problem, rows, losses_of(truth), is_after, blocks_of(problem, rows))
    note = "Too few labelled rows, before or since, to look for where the model does worse."
    return _Slices(before, after, has_held_out, tuple(slices), looked_at, () if looked_at else (note,))


def _model(what_was: Past) -> Model:
    return load_version(what_was.problem, what_was.version)


def shown_performance(part: LabelledPartition) -> LabelledPartition:
    """What the page shows of a partition's performance."""
    from pipelines.monitoring.detect.detection import LabelledPartition

    numbers = {name: value for name in SHOWN if (value := part.value(name)) is not None}
    values = {"partition": part.partition, "is_held_out": part.is_held_out, **numbers}
    return LabelledPartition.model_validate(values)
