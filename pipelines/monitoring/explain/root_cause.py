"""root_cause: since when, what goes along with it, where it hurts; and that in a paragraph for people.

It says what happened at the same time, with sizes. That one thing made the other happen no number here can show, and
no word here claims it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.monitoring.explain.change_point import ChangePoint, change_point
from pipelines.monitoring.explain.contribution import Contribution, ScoreShift
from pipelines.monitoring.explain.error_slices import ErrorSlice
from pipelines.monitoring.explain.series import Series, column_series, metric_series, series_of
from pipelines.profiles.column import Frozen
from pipelines.profiles.profile import SCORE, Profiles, Reference

SHOWN = 3  # features and slices in the paragraph
LEAST_SHARE = 0.1  # of the shift, for a feature to be worth a mention
MISSING = 0.1  # change of the share of missing values, for it to be what is told of a feature
LEAST_SHIFT = 0.005  # of the mean score (of a regression in standard deviations of labels): below, it stood still
FRACTIONS = {0.25: "a quarter", 0.33: "a third", 0.5: "half", 0.67: "two thirds", 0.75: "three quarters"}
PLURAL = ("two thirds", "three quarters")


class Change(Frozen):
    """A series and its newest change, None where it has none that is no chance."""

    series: Series
    change: ChangePoint | None


class Explained(Frozen):
    """What is known of the cause. Goes along with the decision as JSON.

    since, shape: of the leading finding's series (the first of `changes`), None where no partition stands out.
    before, after: the partitions whose scores `shift` compares, of which `contributions` tells the features' parts;
    labelled_before, labelled_after: those whose losses `slices` compares, rows held out from training among the earlier
    ones where `has_held_out`. notes: what could not be told, and why.
    """

    since: str | None = None
    shape: str | None = None
    changes: tuple[Change, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    shift: ScoreShift | None = None
    contributions: tuple[Contribution, ...] = ()
    labelled_before: tuple[str, ...] = ()
    labelled_after: tuple[str, ...] = ()
    has_held_out: bool = False
    slices: tuple[ErrorSlice, ...] = ()
    slices_looked_at: int = 0
    performance: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    paragraph: str


def changes_of(
    diagnosis: Diagnosis,
    reference: Reference,
    profiles: Mapping[str, Profiles],
    performance: Sequence[Mapping[str, Any]],
) -> tuple[Change, ...]:
    """The series of each finding, the leading one's first, then how good the scores were and their mean; each once."""
    found = [series_of(finding, reference, profiles, performance) for finding in diagnosis.findings]
    found += [metric_series(performance), column_series(reference, profiles, SCORE, "mean") if profiles else None]
    named = {one.name: one for one in reversed(found) if one is not None}
    order = dict.fromkeys(one.name for one in found if one is not None)
    return tuple(
        Change(series=named[name], change=change_point(named[name].keys, named[name].values)) for name in order
    )


def scores_since(changes: Sequence[Change]) -> str | None:
    """Since when the leading series is another one, or else the mean score: whose shift is to be told."""
    chosen = [one.change for one in changes[:1]]
    chosen += [one.change for one in changes if one.series.column == SCORE and one.series.measure == "mean"]
    return next((change.since for change in chosen if change is not None), None)


def sides(keys: Sequence[str], since: str | None) -> tuple[list[str], list[str]]:
    """Partitions before and after: since when, or else the newest against all others; nothing where a side is empty.

    >>> sides(["a", "b", "c"], "b"), sides(["a", "b", "c"], None), sides(["a"], None)
    ((['a'], ['b', 'c']), (['a', 'b'], ['c']), ([], []))
    """
    start = since if since is not None else max(keys, default=None)
    before = [key for key in keys if start is not None and key < start]
    after = [key for key in keys if start is not None and key >= start]
    return (before, after) if before and after else ([], [])


def nothing_to_explain(unjudged: Iterable[str] = ()) -> Explained:
    """`unjudged`: what could not be judged, and why."""
    if why := ", ".join(unjudged):
        return Explained(paragraph=f"Nothing was found in this partition, but not all could be judged: {why}.")
    return Explained(paragraph="Nothing in this partition is beyond the policy's limits: there is nothing to explain.")


def paragraph(
    diagnosis: Diagnosis,
    explained: Explained,
    *,
    every: str,
    units: Mapping[str, str | None],
    loss: str,
    least_shift: float = LEAST_SHIFT,
) -> str:
    """One paragraph for somebody who has never seen the system: what, since when, along with what, and where.

    Args:
        every: day or week. units: of the features. loss: what the slices' loss is called.
    """
    told = [f"{_capital(diagnosis.findings[0].kind)}: {diagnosis.findings[0].evidence}."]
    told.append(_since(explained, every))
    if explained.shift:
        told.append(_shift(explained, explained.shift, units, every, least_shift))
    if explained.slices_looked_at:
        told.append(_where(explained.slices, loss))
    return " ".join(one for one in told if one)


def _since(explained: Explained, every: str) -> str:
    if not explained.changes:
        return "No series of numbers shows it, so it cannot be said since when."
    series, change = explained.changes[0].series, explained.changes[0].change
    if change is None:
        return (
            f"Over the {_known(series)} partitions that are known, the {series.name} shows no change that chance would "
            f"not show as well: it cannot be said since when."
        )
    up = "rose" if change.after > change.before else "fell"
    ends = f"the {every} of {change.first}", f"that of {change.last}"
    between = "" if change.first == change.last else f" (it may have begun between {ends[0]} and {ends[1]})"
    if change.shape == "gradual":
        return (
            f"Gradually since the {every} of {change.since}{between}, the {series.name} {up}, "
            f"from {_number(change.before)} to {_number(change.after)} by now."
        )
    return (
        f"Since the {every} of {change.since}{between}, the {series.name} is {_number(change.after)} on average; "
        f"before, it was {_number(change.before)}."
    )


def _shift(explained: Explained, shift: ScoreShift, units: Mapping[str, str | None], every: str, least: float) -> str:
    moved = shift.after - shift.before
    what = f"mean probability of {shift.label}" if shift.label else "mean score"
    before = f"{len(explained.before)} {every}{'s' * (len(explained.before) != 1)} before"
    since = f"since {explained.after[0]}" if len(explained.after) > 1 else f"in this {every}"
    ends = f"{_number(shift.after)} {since} and {_number(shift.before)} in the {before}"
    if abs(moved) < least:
        return f"The {what} has hardly moved: it is {ends}."
    is_told = _is_of_mean_score(explained) and not shift.label
    told = "" if is_told else f"The {what} is {'higher' if moved > 0 else 'lower'}: {ends}. "
    leading = [one for one in explained.contributions if one.share is not None and abs(one.share) >= LEAST_SHARE]
    if not leading:
        return f"{told}No single feature goes along with much of that difference."
    with_it = [one for one in leading if one.share is not None and one.share > 0][:SHOWN]
    against = [one for one in leading if one.share is not None and one.share < 0][:1]
    clauses: list[str] = []
    for one in with_it:
        part = _fraction(one.share or 0)
        verb = "" if clauses else " go along" if part in PLURAL else " goes along"
        clauses.append(f"{part}{verb} with {_moved(one, units)}")
    parts = [f"of that difference {_joined(clauses)}"] if clauses else []
    parts += [f"{'' if clauses else 'the feature '}{_moved(one, units)} pulls the other way" for one in against]
    return f"{told}{_capital('; '.join(parts))}."


def _is_of_mean_score(explained: Explained) -> bool:
    """Whether the leading series has told the shift of the scores already."""
    leading = explained.changes[:1]
    return explained.since is not None and any(
        one.series.column == SCORE and one.series.measure == "mean" for one in leading
    )


def _where(slices: Sequence[ErrorSlice], loss: str) -> str:
    if not slices:
        return "No part of the rows got worse for sure beyond all others."
    told = [
        f"{one.name} ({loss} {_number(one.loss)}, before {_number(one.loss_before)}; {one.rows:,} rows)"
        for one in slices[:SHOWN]
    ]
    return f"Errors rose most, beyond those of all other rows, where {_joined(told)}."


def _moved(one: Contribution, units: Mapping[str, str | None]) -> str:
    if one.category is not None:
        return f"{one.feature} ({one.category} in {_percent(one.after)} of the rows instead of {_percent(one.before)})"
    if abs(one.missing_after - one.missing_before) > MISSING or one.before is None or one.after is None:
        return f"{one.feature} (missing in {_percent(one.missing_after)} instead of {_percent(one.missing_before)})"
    unit = f" {units[one.feature]}" if units.get(one.feature) else ""
    after, before = _apart(one.after, one.before)
    if after == before:
        return f"{one.feature} (mean still {after}{unit}, but differently distributed)"
    return f"{one.feature} (mean {after} instead of {before}{unit})"


def _apart(one: float, other: float) -> tuple[str, str]:
    """Both with as many digits as it takes to tell them apart, within reason.

    >>> _apart(1016.6, 1017.4), _apart(0.25, 0.5), _apart(1, 1.0000001)
    (('1,016.6', '1,017.4'), ('0.25', '0.5'), ('1', '1'))
    """
    told = [(f"{one:,.{digits}g}", f"{other:,.{digits}g}") for digits in (3, 4, 5) if max(abs(one), abs(other)) < 1e5]
    return next(
        (pair for pair in told if pair[0] != pair[1] and "e" not in "".join(pair)), (_number(one), _number(other))
    )


def _fraction(share: float) -> str:
    """A share in words, where one is near; more than all of it where others pull the other way.

    >>> _fraction(0.66), _fraction(0.42), _fraction(1.3), _fraction(0.97)
    ('two thirds', '42 %', 'more than all', 'nearly all')
    """
    if share > 1.05:
        return "more than all"
    if share > 0.9:
        return "nearly all"
    near = min(FRACTIONS, key=lambda one: abs(one - share))
    return FRACTIONS[near] if abs(near - share) <= 0.025 else f"{share:.0%}".replace("%", " %")


def _known(series: Series) -> int:
    return sum(value is not None for value in series.values)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{share:.0%}".replace("%", " %")


def _joined(clauses: Sequence[str]) -> str:
    """
    >>> _joined(["a", "b", "c"]), _joined(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join(part for part in (", ".join(clauses[:-1]), clauses[-1]) if part)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
