"""The page about a scored partition: the diagnosis first, then what it rests on, and where each number comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from pipelines.html.columns import Table, text
from pipelines.html.render import render
from pipelines.html.wording import figure
from pipelines.monitoring.explain.root_cause import Change, Explanation
from pipelines.monitoring.explain.series import Series, column_series
from pipelines.monitoring.page import plots
from pipelines.monitoring.page.brief import BriefPart, brief
from pipelines.monitoring.page.columns import ColumnsPart, DistributionsPart, columns, distributions
from pipelines.monitoring.page.evidence import (
    ContributionsPart,
    Judged,
    MattersPart,
    PageFacts,
    SlicesPart,
    column_sources,
    contributions,
    label_sources,
    matters,
    slices,
)
from pipelines.monitoring.page.trace import Source, Trace, source
from pipelines.profiles.profile import SCORE


class ShiftedPart(NamedTuple):
    """`findings`: the most harmful first."""

    findings: Table
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
    lines: list[OptionLine]
    sources: list[Source]


@dataclass(frozen=True)
class MonitoringPage:
    """What the template draws, in the order of the page: a part that has nothing to say is None, and is left out.

    `is_quiet`: nothing was found, and what is below the first screen is there for who asks. `trace` has each number
    that the parts show.
    """

    every: str
    version: str
    is_quiet: bool
    brief: BriefPart
    shifted: ShiftedPart | None
    since: SincePart | None
    contributions: ContributionsPart | None
    slices: SlicesPart | None
    matters: MattersPart | None
    options: OptionsPart | None
    distributions: DistributionsPart | None
    columns: ColumnsPart | None
    trace: Trace


def page(facts: PageFacts, judged: Judged) -> bytes:
    """One HTML page, which needs nothing else: no script, no other file; equal inputs give equal bytes."""
    trace, explanation = Trace(), judged.explanation
    matter, picture = matters(facts, explanation, trace), _drawn(facts, explanation)
    if matter is not None and not explanation.changes:
        # No finding has a series of its own: what matters is how good the scores are.
        matter, picture = matter._replace(picture=None), matter.picture
    drawn = MonitoringPage(
        every=facts.every,
        version=facts.version,
        is_quiet=not judged.diagnosis.findings,
        brief=brief(facts, judged, picture),
        shifted=_shifted(facts, judged, trace),
        since=_since(facts, explanation, trace),
        contributions=contributions(facts, explanation, trace),
        slices=slices(facts, explanation, trace),
        matters=matter,
        options=_options(facts, judged, trace),
        distributions=distributions(facts, judged, trace),
        columns=columns(facts, judged, trace),
        trace=trace,
    )
    verdict = judged.decision.verdict if judged.decision else "no verdict"
    title = f"{facts.problem}, {facts.every} of {facts.partition}: {verdict}"
    return render("monitoring.html", title, drawn)


def _drawn(facts: PageFacts, explanation: Explanation) -> Markup | None:
    """The series of the leading finding; where there is none, the mean of the scores."""
    if explanation.changes:
        chosen = explanation.changes[0]
    else:
        chosen = Change(series=column_series(facts.reference, facts.profiles, SCORE, "mean"), change=None)
    series = chosen.series
    values = dict(zip(series.keys, series.values, strict=True))
    title = f"{series.name[:1].upper()}{series.name[1:]}, by {facts.every}"
    return plots.timeline("series", title, facts.keys, values, chosen.change, facts.unlabelled)


def _shifted(facts: PageFacts, judged: Judged, trace: Trace) -> ShiftedPart | None:
    if not judged.diagnosis.findings:
        return None
    of_decision = _decision(facts)
    rows = []
    for place, finding in enumerate(judged.diagnosis.findings):
        for name, value in finding.numbers.items():
            measure = f"evidence.diagnosis.findings[{place}].numbers[{name!r}]"
            trace.noted(f"{finding.kind}: {name}", value, measure, of_decision)
        rows.append([finding.kind, finding.evidence, ", ".join(finding.features)])
    columns = [text("kind"), text("what shows it"), text("features")]
    if not any(features for _, _, features in rows):
        columns, rows = columns[:2], [row[:2] for row in rows]
    return ShiftedPart(Table(columns, rows), [of_decision])


def _since(facts: PageFacts, explanation: Explanation, trace: Trace) -> SincePart | None:
    """The newest change of each number that the findings show in; None where none has any."""
    lines: list[ChangeLine] = []
    sources: list[Source] = []
    for changed in explanation.changes:
        series, change = changed.series, changed.change
        of_series = _series_sources(facts, series)
        sources += [each for each in of_series if each not in sources]
        for key, value in zip(series.keys, series.values, strict=True):
            trace.noted(f"{series.name}, {key}", value, series.measure, *_series_sources(facts, series, key))
        if change is None:
            lines.append(ChangeLine(series.name, "none beyond chance"))
            continue
        for part in ("before", "after", "p_value"):
            measure = f"change point of {series.measure}: {part}"
            trace.noted(f"{series.name}: {part}", getattr(change, part), measure, *of_series)
        how = "at once" if change.shape == "step" else "gradually"
        between = change.since if change.first == change.last else f"{change.since} ({change.first} to {change.last})"
        lines.append(ChangeLine(series.name, how, between, change.before, change.after, change.p_value))
    return SincePart(lines, sources) if any(line.since for line in lines) else None


def _options(facts: PageFacts, judged: Judged, trace: Trace) -> OptionsPart | None:
    """The ways to act that were weighed; None where there were none."""
    of_decision, decision = _decision(facts), judged.decision
    if decision is None or not decision.options:
        return None
    lines = []
    for place, option in enumerate(decision.options):
        for part in ("gain", "low", "high", "cost"):
            measure = f"evidence.options[{place}].{part}"
            trace.noted(f"option {option.action}: {part}", getattr(option, part), measure, of_decision)
        has_interval = option.low is not None and option.high is not None
        gain = {"value": option.gain, "low": option.low, "high": option.high} if has_interval else figure(option.gain)
        chosen = "chosen" if option.action == decision.action else option.why_not
        lines.append(OptionLine(option.action, gain, option.cost, chosen))
    return OptionsPart(lines, [of_decision])


def _series_sources(facts: PageFacts, series: Series, key: str | None = None) -> list[Source]:
    keys = [key] if key else list(series.keys)
    return column_sources(facts, series.column, keys) if series.table == "profiles" else label_sources(facts, keys)


def _decision(facts: PageFacts) -> Source:
    return source("ledger", kind="monitoring", partition=facts.partition, model_version=facts.version)
