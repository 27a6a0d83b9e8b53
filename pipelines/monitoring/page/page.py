"""The page about a scored partition: the diagnosis first, then what it rests on, and where each number comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from pipelines.config import Action
from pipelines.html.columns import Table, text
from pipelines.html.render import render
from pipelines.html.wording import figure
from pipelines.monitoring.explain.root_cause import Change, Explained
from pipelines.monitoring.explain.series import Series, column_series, metric_series
from pipelines.monitoring.page import plots
from pipelines.monitoring.page.columns import ColumnsPart, DistributionsPart, columns, distributions
from pipelines.monitoring.page.evidence import (
    ContributionsPart,
    MattersPart,
    Seen,
    SlicesPart,
    column_sources,
    contributions,
    label_sources,
    matters,
    slices,
)
from pipelines.monitoring.page.trace import Source, Trace, source
from pipelines.profiles.profile import SCORE

GOOD = (Action.NONE,)
NOT_JUDGED = "not judged"


class HappenedPart(NamedTuple):
    """`done`: the action in words. `why`: the paragraph. `since`: when it began. `rows`: scored, None if not known."""

    verdict: str
    action: str
    done: str
    is_good: bool
    why: str
    picture: Markup | None
    since: str | None
    rows: int | None
    notes: tuple[str, ...]


class ShiftedPart(NamedTuple):
    """`findings`: the most harmful first; None where there are none. `unjudged`: what could not be judged, in words."""

    findings: Table | None
    unjudged: list[str]
    sources: list[Source]


class ChangeLine(NamedTuple):
    number: str
    how: str
    since: str = ""
    before: float | str = ""
    after: float | str = ""
    p_value: float | str = ""


class SincePart(NamedTuple):
    lines: list[ChangeLine]
    sources: list[Source]


class OptionLine(NamedTuple):
    option: Any
    gain: Any
    cost: Any
    why_not: str


class OptionsPart(NamedTuple):
    reason: str
    lines: list[OptionLine]
    sources: list[Source]


@dataclass(frozen=True)
class MonitoringPage:
    """What the template draws, in the order of the page: `trace` has each number that the parts show."""

    every: str
    version: str
    happened: HappenedPart
    shifted: ShiftedPart
    since: SincePart
    contributions: ContributionsPart | None
    slices: SlicesPart | None
    matters: MattersPart | None
    options: OptionsPart
    distributions: DistributionsPart | None
    columns: ColumnsPart | None
    trace: Trace


def page(seen: Seen, decided: Mapping[str, Any], explained: Explained) -> bytes:
    """One HTML page, which needs nothing else: no script, no other file; equal inputs give equal bytes.

    Args:
        decided: what `decide` gave; what is not in it is shown as not known.
    """
    trace = Trace()
    drawn = MonitoringPage(
        every=seen.every,
        version=seen.version,
        happened=_happened(seen, decided, explained),
        shifted=_shifted(seen, decided, trace),
        since=_since(seen, explained, trace),
        contributions=contributions(seen, explained, trace),
        slices=slices(seen, explained, trace),
        matters=matters(seen, explained, trace),
        options=_options(seen, decided, trace),
        distributions=distributions(seen, decided, explained, trace),
        columns=columns(seen, decided, trace),
        trace=trace,
    )
    title = f"{seen.problem}, {seen.every} of {seen.partition}: {decided.get('verdict', 'no verdict')}"
    return render("monitoring.html", title, drawn)


def _happened(seen: Seen, decided: Mapping[str, Any], explained: Explained) -> HappenedPart:
    action = str(decided.get("action", ""))
    verdict = str(decided.get("verdict", "none given"))
    why = explained.paragraph
    if verdict == "staleness":  # no finding speaks for the action: what does stands among the reasons alone
        why = f"Nothing drifted, but a fresher model is expected to pay: {decided.get('reason', '')}."
    scored = seen.profiles.get(seen.partition)
    return HappenedPart(
        verdict=verdict,
        action=action or "none taken",
        done=Action(action).done if action else "No decision was taken.",
        is_good=action in GOOD and verdict != NOT_JUDGED,
        why=why,
        picture=_drawn(seen, explained),
        since=explained.since,
        rows=scored[SCORE].rows if scored else None,
        notes=explained.notes,
    )


def _drawn(seen: Seen, explained: Explained) -> Markup | None:
    """The series that matters: that of the leading finding, or, where there is none, how good the scores were."""
    if explained.changes:
        chosen = explained.changes[0]
    else:
        series = metric_series(explained.performance) or column_series(seen.reference, seen.profiles, SCORE, "mean")
        chosen = Change(series=series, change=None)
    series = chosen.series
    values = dict(zip(series.keys, series.values, strict=True))
    title = f"{series.name[:1].upper()}{series.name[1:]}, by {seen.every}"
    return plots.timeline("series", title, seen.keys, values, chosen.change, seen.unlabelled)


def _shifted(seen: Seen, decided: Mapping[str, Any], trace: Trace) -> ShiftedPart:
    diagnosis = decided.get("diagnosis") or {}
    findings = diagnosis.get("findings") or []
    of_decision = _decision(seen)
    rows = []
    for place, finding in enumerate(findings):
        for name, value in finding["numbers"].items():
            measure = f"evidence.diagnosis.findings[{place}].numbers[{name!r}]"
            trace.noted(f"{finding['kind']}: {name}", value, measure, of_decision)
        rows.append([finding["kind"], finding["evidence"], ", ".join(finding.get("features") or [])])
    columns = [text("kind"), text("what shows it"), text("features")]
    if not any(features for _, _, features in rows):
        columns, rows = columns[:2], [row[:2] for row in rows]
    return ShiftedPart(
        findings=Table(columns, rows) if rows else None,
        unjudged=[words[:1].upper() + words[1:] for words in (diagnosis.get("unjudged") or {}).values()],
        sources=[of_decision],
    )


def _since(seen: Seen, explained: Explained, trace: Trace) -> SincePart:
    """The newest change of each number that the findings show in."""
    lines: list[ChangeLine] = []
    sources: list[Source] = []
    for changed in explained.changes:
        series, change = changed.series, changed.change
        of_series = _series_sources(seen, series)
        sources += [each for each in of_series if each not in sources]
        for key, value in zip(series.keys, series.values, strict=True):
            trace.noted(f"{series.name}, {key}", value, series.measure, *_series_sources(seen, series, key))
        if change is None:
            lines.append(ChangeLine(series.name, "none beyond chance"))
            continue
        for part in ("before", "after", "p_value"):
            measure = f"change point of {series.measure}: {part}"
            trace.noted(f"{series.name}: {part}", getattr(change, part), measure, *of_series)
        how = "at once" if change.shape == "step" else "gradually"
        between = change.since if change.first == change.last else f"{change.since} ({change.first} to {change.last})"
        lines.append(ChangeLine(series.name, how, between, change.before, change.after, change.p_value))
    return SincePart(lines, sources)


def _options(seen: Seen, decided: Mapping[str, Any], trace: Trace) -> OptionsPart:
    of_decision = _decision(seen)
    lines = []
    options = [option for option in decided.get("options") or [] if isinstance(option, Mapping)]
    for place, option in enumerate(options):
        action = option.get("action")
        for part in ("gain", "low", "high", "cost"):
            trace.noted(f"option {action}: {part}", option.get(part), f"evidence.options[{place}].{part}", of_decision)
        has_interval = option.get("low") is not None and option.get("high") is not None
        gain = {"value": option.get("gain"), "low": option.get("low"), "high": option.get("high")}
        chosen = "chosen" if action == decided.get("action") else str(option.get("why_not") or "")
        lines.append(
            OptionLine(action, gain if has_interval else figure(option.get("gain")), option.get("cost"), chosen)
        )
    return OptionsPart(str(decided.get("reason") or "No reason is known."), lines, [of_decision])


def _series_sources(seen: Seen, series: Series, key: str | None = None) -> list[Source]:
    keys = [key] if key else list(series.keys)
    return column_sources(seen, series.column, keys) if series.table == "profiles" else label_sources(seen, keys)


def _decision(seen: Seen) -> Source:
    return source("ledger", kind="monitoring", partition=seen.partition, model_version=seen.version)
