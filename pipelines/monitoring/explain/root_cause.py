"""root_cause: since when, what goes along with it, where it hurts; and that in a paragraph for people.

It says what happened at the same time, with sizes. That one thing made the other happen no number here can show, and
no word here claims it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipelines.config import plural
from pipelines.monitoring.detect.detection import LabelledPartition
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


class Explanation(Frozen):
    """What is known of the cause.

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
    performance: tuple[LabelledPartition, ...] = ()
    notes: tuple[str, ...] = ()
    paragraph: str


def changes_of(
    diagnosis: Diagnosis,
    reference: Reference,
    profiles: Mapping[str, Profiles],
    performance: Sequence[LabelledPartition],
) -> tuple[Change, ...]:
    """The series of each finding, the leading one's first, then how good the scores were and their mean; each once."""
    wanted = [series_of(finding, reference, profiles, performance) for finding in diagnosis.findings]
    wanted += [metric_series(performance), column_series(reference, profiles, SCORE, "mean") if profiles else None]
    there = [series for series in wanted if series is not None]
    named = {series.name: series for series in reversed(there)}
    order = dict.fromkeys(series.name for series in there)
    return tuple(
        Change(series=named[name], change=change_point(named[name].keys, named[name].values)) for name in order
    )


def scores_since(changes: Sequence[Change]) -> str | None:
    """Since when the leading series is another one, or else the mean score: whose shift is to be told."""
    chosen = [changed.change for changed in changes[:1]]
    chosen += [changed.change for changed in changes if _is_mean_score(changed)]
    return next((change.since for change in chosen if change is not None), None)


def _is_mean_score(changed: Change) -> bool:
    return changed.series.column == SCORE and changed.series.measure == "mean"


def sides(keys: Sequence[str], since: str | None) -> tuple[list[str], list[str]]:
    """Partitions before and after: since when, or else the newest against all others; nothing where a side is empty.

    >>> sides(["a", "b", "c"], "b"), sides(["a", "b", "c"], None), sides(["a"], None)
    ((['a'], ['b', 'c']), (['a', 'b'], ['c']), ([], []))
    """
    start = since if since is not None else max(keys, default=None)
    before = [key for key in keys if start is not None and key < start]
    after = [key for key in keys if start is not None and key >= start]
    return (before, after) if before and after else ([], [])


def nothing_to_explain(unjudged: Iterable[str] = ()) -> Explanation:
    """`unjudged`: what could not be judged, and why."""
    if why := ", ".join(unjudged):
        return Explanation(paragraph=f"Nothing was found in this partition, but not all could be judged: {why}.")
    return Explanation(
        paragraph="Nothing in this partition is beyond the policy's limits: there is nothing to explain."
    )


def paragraph(
    diagnosis: Diagnosis,
    explanation: Explanation,
    *,
    every: str,
    units: Mapping[str, str | None],
    loss: str,
    least_shift: float = LEAST_SHIFT,
) -> str:
    """One paragraph for somebody who has never seen the system: what, since when, along with what, and where.

    Args:
        every: hour, day, week, month or quarter. units: of the features. loss: what the slices' loss is called.
    """
    sentences = [f"{_capital(diagnosis.findings[0].kind)}: {diagnosis.findings[0].evidence}."]
    sentences.append(_since(explanation, every))
    if explanation.shift:
        sentences.append(_shift(explanation, explanation.shift, units, every, least_shift))
    if explanation.slices_looked_at:
        sentences.append(_where(explanation.slices, loss))
    return " ".join(sentence for sentence in sentences if sentence)


def _since(explanation: Explanation, every: str) -> str:
    if not explanation.changes:
        return "No series of numbers shows it, so it cannot be said since when."
    series, change = explanation.changes[0].series, explanation.changes[0].change
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


def _shift(
    explanation: Explanation, shift: ScoreShift, units: Mapping[str, str | None], every: str, least: float
) -> str:
    moved = shift.after - shift.before
    what = f"mean probability of {shift.label}" if shift.label else "mean score"
    before = f"{len(explanation.before)} {every if len(explanation.before) == 1 else plural(every)} before"
    since = f"since {explanation.after[0]}" if len(explanation.after) > 1 else f"in this {every}"
    ends = f"{_number(shift.after)} {since} and {_number(shift.before)} in the {before}"
    if abs(moved) < least:
        return f"The {what} has hardly moved: it is {ends}."
    is_told = _is_of_mean_score(explanation) and not shift.label
    opening = "" if is_told else f"The {what} is {'higher' if moved > 0 else 'lower'}: {ends}. "
    leading = [part for part in explanation.contributions if abs(part.share or 0.0) >= LEAST_SHARE]
    if not leading:
        return f"{opening}No single feature goes along with much of that difference."
    with_it = [part for part in leading if (part.share or 0.0) > 0][:SHOWN]
    against = [part for part in leading if (part.share or 0.0) < 0][:1]
    clauses: list[str] = []
    for part in with_it:
        fraction = _fraction(part.share or 0)
        verb = "" if clauses else " go along" if fraction in PLURAL else " goes along"
        clauses.append(f"{fraction}{verb} with {_moved(part, units)}")
    clauses_of_all = [f"of that difference {_joined(clauses)}"] if clauses else []
    subject = "" if clauses else "the feature "
    clauses_of_all += [f"{subject}{_moved(part, units)} pulls the other way" for part in against]
    return f"{opening}{_capital('; '.join(clauses_of_all))}."


def _is_of_mean_score(explanation: Explanation) -> bool:
    """Whether the leading series has told the shift of the scores already."""
    return explanation.since is not None and any(_is_mean_score(changed) for changed in explanation.changes[:1])


def _where(slices: Sequence[ErrorSlice], loss: str) -> str:
    if not slices:
        return "No part of the rows got worse for sure beyond all others."
    worst = [
        f"{part.name} ({loss} {_number(part.loss)}, before {_number(part.loss_before)}; {part.rows:,} rows)"
        for part in slices[:SHOWN]
    ]
    return f"Errors rose most, beyond those of all other rows, where {_joined(worst)}."


def _moved(part: Contribution, units: Mapping[str, str | None]) -> str:
    name = part.feature
    if part.category is not None:
        return f"{name} ({part.category} in {_percent(part.after)} of the rows instead of {_percent(part.before)})"
    if abs(part.missing_after - part.missing_before) > MISSING or part.before is None or part.after is None:
        return f"{name} (missing in {_percent(part.missing_after)} instead of {_percent(part.missing_before)})"
    unit = f" {units[name]}" if units.get(name) else ""
    after, before = _apart(part.after, part.before)
    if after == before:
        return f"{name} (mean still {after}{unit}, but differently distributed)"
    return f"{name} (mean {after} instead of {before}{unit})"


def _apart(first: float, second: float) -> tuple[str, str]:
    """Both with as many digits as it takes to tell them apart, within reason.

    >>> _apart(1016.6, 1017.4), _apart(0.25, 0.5), _apart(1, 1.0000001)
    (('1,016.6', '1,017.4'), ('0.25', '0.5'), ('1', '1'))
    """
    if max(abs(first), abs(second)) < 1e5:
        for digits in (3, 4, 5):
            pair = f"{first:,.{digits}g}", f"{second:,.{digits}g}"
            if pair[0] != pair[1] and "e" not in "".join(pair):
                return pair
    return _number(first), _number(second)


def _fraction(share: float) -> str:
    """A share in words, where one is near; more than all of it where others pull the other way.

    >>> _fraction(0.66), _fraction(0.42), _fraction(1.3), _fraction(0.97)
    ('two thirds', '42 %', 'more than all', 'nearly all')
    """
    if share > 1.05:
        return "more than all"
    if share > 0.9:
        return "nearly all"
    near = min(FRACTIONS, key=lambda fraction: abs(fraction - share))
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
