"""series: what one number was in each partition, and which series a finding shows in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pipelines.monitoring.detect.detection import LabelledPartition
from pipelines.monitoring.diagnose.finding import Finding
from pipelines.profiles.column import ColumnProfile, Frozen, Numbers
from pipelines.profiles.distance import jensen_shannon
from pipelines.profiles.profile import SCORE, Profiles, Reference

# In the order in which one stands for how good a model is.
SKILLS = ("auc", "r2", "log_loss")
OF_KIND = {"calibration drift": ("calibration_gap", "bias"), "label shift": ("positive_rate", "mean_label")}
OF_SCORE = {"prediction drift": "mean", "feedback loop": "std"}
OF_COLUMNS = ("data fault", "covariate shift", "feature change")
NAMES = {
    "auc": "AUC",
    "r2": "R2",
    "log_loss": "log loss",
    "calibration_gap": "mean score less positive rate",
    "bias": "mean score less mean label",
    "positive_rate": "positive rate",
    "mean_label": "mean label",
}
MEASURES = {"null share": "null_share", "unseen share": "unseen_share", "non-finite share": "non_finite_share"}
WORDS = {
    "mean": "mean of {}",
    "std": "standard deviation of {}",
    "null_share": "share of {} that is empty",
    "unseen_share": "share of {} that is new to the model",
    "js": "Jensen-Shannon distance of {} to training",
    "non_finite_share": "share of {} that is NaN or infinite",
}


class Series(Frozen):
    """A number by partition, oldest first; None where there is none.

    `table`: `profiles` (measure of a column) or `labels` (a metric of scores whose labels have come).
    """

    name: str
    table: Literal["profiles", "labels"]
    column: str
    measure: str
    keys: tuple[str, ...]
    values: tuple[float | None, ...]


def series_of(
    finding: Finding,
    reference: Reference,
    profiles: Mapping[str, Profiles],
    performance: Sequence[LabelledPartition],
) -> Series | None:
    """The series in which a finding shows; None where nothing was measured that does.

    Args:
        profiles: by partition, oldest first. performance: of labelled partitions, oldest first.
    """
    if finding.kind in OF_SCORE:
        return column_series(reference, profiles, SCORE, OF_SCORE[finding.kind])
    if finding.kind in OF_COLUMNS:
        column = next(iter(features_of(finding, reference.columns)), None)
        return None if column is None else column_series(reference, profiles, column, _measure(finding, column))
    return metric_series(performance, OF_KIND.get(finding.kind, SKILLS))


def metric_series(performance: Sequence[LabelledPartition], metrics: Iterable[str] = SKILLS) -> Series | None:
    """The first of these metrics that any labelled partition has."""
    for metric in metrics:
        values = tuple(part.value(metric) for part in performance)
        if any(value is not None for value in values):
            keys = tuple(part.partition for part in performance)
            return Series(name=NAMES[metric], table="labels", column=SCORE, measure=metric, keys=keys, values=values)
    return None


def column_series(
    reference: Reference, profiles: Mapping[str, Profiles], column: str, measure: str | None = None
) -> Series:
    """A measure of a column; without one, the mean of a number and, of a category, the distance to training."""
    trained = reference.columns[column]
    measure = measure or ("mean" if isinstance(trained.bins, Numbers) else "js")
    values = tuple(measured(part[column], measure, trained.profile) for part in profiles.values())
    name = WORDS[measure].format("the scores" if column == SCORE else column)
    return Series(name=name, table="profiles", column=column, measure=measure, keys=tuple(profiles), values=values)


def measured(profile: ColumnProfile, measure: str, trained: ColumnProfile) -> float | None:
    """A measure of one profile; `trained` is that of the training data, to which distances are.

    >>> column = ColumnProfile(rows=4, nulls=1, unseen=0, mean=2, min=1, max=3, counts=(1, 2, 0, 1))
    >>> measured(column, "null_share", column), measured(column, "mean", column), measured(column, "js", column)
    (0.25, 2.0, 0.0)
    """
    if measure in ("mean", "std"):
        value: float | None = getattr(profile, measure)
        return value
    if not profile.rows:
        return None
    if measure == "js":
        return float(jensen_shannon(trained.counts, profile.counts))
    counts: dict[str, int] = {
        "null_share": profile.nulls,
        "unseen_share": profile.unseen,
        "non_finite_share": profile.non_finite,
    }
    return counts[measure] / profile.rows


def features_of(finding: Finding, columns: Iterable[str]) -> list[str]:
    """The columns that carry a finding, the most telling first.

    Where it names none, those that its numbers are of: the largest first; of a fault in the order told.

    >>> features_of(Finding(kind="covariate shift", evidence="", numbers={"a": 1.2, "b": 3}), ["a", "b", "c"])
    ['b', 'a']
    >>> features_of(Finding(kind="data fault", evidence="", numbers={"a b null share": 0.5}), ["a", "a b"])
    ['a b']
    """
    longest_first = sorted(columns, key=len, reverse=True)
    if finding.features:
        return [name for name in finding.features if name in longest_first]
    if finding.kind == "data fault":
        of_numbers = [
            next((name for name in longest_first if number.startswith(f"{name} ")), None) for number in finding.numbers
        ]
        return list(dict.fromkeys(name for name in of_numbers if name))
    return sorted((name for name in finding.numbers if name in longest_first), key=lambda name: -finding.numbers[name])


def _measure(finding: Finding, column: str) -> str | None:
    measures = (MEASURES.get(number.removeprefix(f"{column} ")) for number in finding.numbers)
    return next((measure for measure in measures if measure), None)
