"""The middle of a monitoring page: what carries the shift, where it hurts, whether it matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from pipelines.html.columns import Table, interval, number, text
from pipelines.html.wording import figure, percent, span
from pipelines.monitoring.decide.decide import Decision
from pipelines.monitoring.detect.detection import Drift
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.monitoring.explain.contribution import Contribution
from pipelines.monitoring.explain.root_cause import Explanation
from pipelines.monitoring.explain.series import NAMES, SKILLS
from pipelines.monitoring.page import plots
from pipelines.monitoring.page.trace import Source, Trace, source
from pipelines.profiles.profile import SCORE, Profiles, Reference

SHOWN = 10  # lines of a table of features, bars of a picture
SOME_MISSING = 0.01  # of the rows: less is not worth a word
BESIDE = ("log_loss", "rmse", "mean_score", "positive_rate", "mean_label")


class ContributionLine(NamedTuple):
    """A feature's part of the shift. `before` and `now`: its mean, or the share of a category, in words."""

    feature: str
    score: float
    margin: float
    before: str
    now: str


class ContributionsPart(NamedTuple):
    """`what` is compared; its values, and the partitions that they are of, in words."""

    what: str
    value_now: Any
    value_before: Any
    now: str
    before: str
    method: str
    rows: int
    picture: Markup | None
    lines: list[ContributionLine]
    sources: list[Source]


class SliceLine(NamedTuple):
    slice: str
    loss_before: float
    loss: float
    excess: Mapping[str, float]
    rows_before: int
    rows: int


class SlicesPart(NamedTuple):
    """`before` and `since`: which partitions. `lines`: slices that got worse for sure."""

    looked_at: int
    before: str
    since: str
    has_held_out: bool
    lines: list[SliceLine]
    sources: list[Source]


class MattersPart(NamedTuple):
    """`metric` stands for how good the scores are; `when_tested` is what it was then."""

    metric: str
    when_tested: Any
    picture: Markup | None
    partitions: Table
    sources: list[Source]


@dataclass(frozen=True)
class PageFacts:
    """What the page is about, as read from the store.

    profiles: by partition, those that the version was made from and those it scored. estimates: rows of the table.
    unlabelled: partitions whose labels are not in yet. labels_until: when labels had to be known, ISO.
    """

    problem: str
    every: str
    partition: str
    version: str
    reference: Reference
    profiles: Mapping[str, Profiles]
    estimates: Sequence[Mapping[str, Any]]
    unlabelled: Sequence[str]
    labels_until: str
    units: Mapping[str, str | None]

    @property
    def keys(self) -> list[str]:
        return sorted(self.profiles)

    def file(self, name: str) -> str:
        return f"models/{self.version}/{name}"


class Judged(NamedTuple):
    """What the stages have found in the partition. `decision`: None where none was taken."""

    detected: Drift
    diagnosis: Diagnosis
    explanation: Explanation
    decision: Decision | None


def column_sources(facts: PageFacts, column: str, keys: Sequence[str]) -> list[Source]:
    """Profiles of partitions that the version was made from lie with the version, the others in the table."""
    made_from = [key for key in keys if key in facts.reference.partitions]
    scored = [key for key in keys if key not in facts.reference.partitions]
    sources = []
    if scored:
        sources.append(source("profiles", partition=scored, column=column, slice="", model_version=facts.version))
    if made_from:
        sources.append(source(facts.file("reference.json"), partitions=made_from, column=column))
    return sources


def label_sources(facts: PageFacts, keys: Sequence[str]) -> list[Source]:
    """Scores and labels; of partitions held out from training the rows that went with the version."""
    held_out = [key for key in keys if key in facts.reference.partitions]
    scored = [key for key in keys if key not in facts.reference.partitions]
    sources = []
    if scored:
        event_time = f"in {scored[0]} to {scored[-1]}"
        sources.append(source("predictions", partition=scored, model_version=facts.version, variant="champion"))
        sources.append(source("labels", event_time=event_time, known_before=facts.labels_until))
    if held_out:
        sources.append(source(facts.file("held_out.parquet"), partition=held_out))
    return sources


def contributions(facts: PageFacts, explanation: Explanation, trace: Trace) -> ContributionsPart | None:
    """Each feature's part of the shift; None where there are no findings, or nothing before them."""
    shift = explanation.shift
    if shift is None:
        return None
    both = [*explanation.before, *explanation.after]
    sources = [source("features", partition=both), source(facts.file("lineage.json"))]
    what, measure = "mean score", "mean of score"
    ends = [column_sources(facts, SCORE, keys) for keys in (explanation.before, explanation.after)]
    if shift.label:
        what = measure = f"mean probability of {shift.label}"
        ends = [[source("features", partition=keys), sources[1]] for keys in (explanation.before, explanation.after)]
    value_before = trace.noted(f"{what}, before", shift.before, measure, *ends[0])
    value_now = trace.noted(f"{what}, now", shift.after, measure, *ends[1])
    shown, others = explanation.contributions[:SHOWN], explanation.contributions[SHOWN:]
    lines = []
    for part in shown:
        score, margin = _parts(f"part of {part.feature}", part.score, part.margin, trace, sources)
        before = _end(facts, part, "before", explanation.before, trace)
        now = _end(facts, part, "after", explanation.after, trace)
        lines.append(ContributionLine(part.feature, score, margin, before, now))
    if others:
        name = "all other features"
        score, margin = sum(part.score for part in others), sum(part.margin for part in others)
        lines.append(ContributionLine(name, *_parts(name, score, margin, trace, sources), "", ""))
    name = "remainder: within bins, and features together"
    rest = _parts(name, shift.remainder_score, shift.remainder_margin, trace, sources)
    lines.append(ContributionLine(name, *rest, "", ""))
    bars = [(part.feature, part.score) for part in shown if part.score]
    bars.append(("remainder", shift.remainder_score))
    return ContributionsPart(
        what=what,
        value_now=value_now,
        value_before=value_before,
        now=span(explanation.after, missing="none"),
        before=span(explanation.before, missing="none"),
        method=shift.method,
        rows=shift.rows,
        picture=plots.carried("carried", f"Parts of the shift of the {what}", bars, f"change of the {what}"),
        lines=lines,
        sources=[source("profiles", partition=both, column="each feature", slice=""), *sources],
    )


def _parts(what: str, score: float, margin: float, trace: Trace, sources: Sequence[Source]) -> tuple[float, float]:
    for part, value in (("score", score), ("margin", margin)):
        trace.noted(f"{what}: {part}", value, f"contribution: {part}", *sources)
    return score, margin


def _end(facts: PageFacts, contribution: Contribution, end: str, keys: Sequence[str], trace: Trace) -> str:
    """What a feature was like at an end of the shift, "before" or "after"."""
    name, category = contribution.feature, contribution.category
    measure = "mean" if category is None else f"share of {category}"
    unit = facts.units.get(name) or "" if category is None else ""
    sources = column_sources(facts, name, keys)
    value, missing = getattr(contribution, end), getattr(contribution, f"missing_{end}")
    words = "no values"
    if value is not None:
        trace.noted(f"{name}, {end}", value, measure, *sources)
        words = f"{measure} {figure(value)} {unit}".rstrip()
    trace.noted(f"{name}, {end}: missing", missing, "share of bin missing", *sources)
    return f"{words}, {percent(missing)} missing" if missing > SOME_MISSING else words


def slices(facts: PageFacts, explanation: Explanation, trace: Trace) -> SlicesPart | None:
    """Slices whose loss rose most; None where there are none: the paragraph says so, where any were looked for."""
    if not explanation.slices:
        return None
    keys = [*explanation.labelled_before, *explanation.labelled_after]
    sources = [*label_sources(facts, keys), source("features", partition=keys)]
    if explanation.has_held_out:
        sources.append(source(facts.file("held_out.parquet"), partition="all"))
    lines = []
    for part in explanation.slices:
        for name in ("loss_before", "loss", "excess", "low", "high", "rows", "rows_before"):
            trace.noted(f"{part.name}: {name}", getattr(part, name), f"error slice: {name}", *sources)
        excess = {"value": part.excess, "low": part.low, "high": part.high}
        lines.append(SliceLine(part.name, part.loss_before, part.loss, excess, part.rows_before, part.rows))
    return SlicesPart(
        looked_at=explanation.slices_looked_at,
        before=span(explanation.labelled_before, missing="none"),
        since=span(explanation.labelled_after, missing="none"),
        has_held_out=explanation.has_held_out,
        lines=lines,
        sources=sources,
    )


def matters(facts: PageFacts, explanation: Explanation, trace: Trace) -> MattersPart | None:
    """Realised metrics by partition, beside what was estimated of them before their labels came.

    None where neither is known.
    """
    realised = {part.partition: part.measured() for part in explanation.performance}
    held_out = {part.partition for part in explanation.performance if part.is_held_out}
    measured = {name for row in realised.values() for name in row}
    measured |= {row["metric"] for row in facts.estimates}
    skill = next((name for name in SKILLS if name in measured), None)
    if skill is None:
        return None
    estimated = {row["partition"]: row for row in facts.estimates if row["metric"] == skill}
    beside = [name for name in BESIDE if name != skill and any(name in row for row in realised.values())]
    rows = []
    for key in sorted({*realised, *estimated}, reverse=True):
        row, sources = realised.get(key, {}), label_sources(facts, [key])
        values = []
        for name in ("rows", skill, *beside):
            value = row.get(name)
            values.append("" if value is None else trace.noted(f"{name}, {key}", value, name, *sources))
        estimate = estimated.get(key)
        if estimate:
            of_estimate = source("estimates", partition=key, metric=skill, model_version=facts.version)
            for part in ("value", "low", "high"):
                trace.noted(f"{skill}, {key}, estimated: {part}", estimate[part], part, of_estimate)
        name = f"{key} (held out)" if key in held_out else key
        rows.append([name, *values[:2], estimate or "", *values[2:]])
    metric = NAMES[skill]
    picture = plots.estimates(
        "matters",
        f"{metric} by {facts.every}: realised, and estimated before",
        facts.keys,
        {key: (float(row["value"]), float(row["low"]), float(row["high"])) for key, row in estimated.items()},
        {key: float(value) for key, row in realised.items() if (value := row.get(skill)) is not None},
        facts.unlabelled,
    )
    tested = facts.reference.metrics.get(skill)
    trace.noted(f"{skill} when tested", tested, f"metrics.{skill}", source(facts.file("reference.json")))
    columns = [text(facts.every), number("rows"), number(f"{metric}, realised"), interval(f"{metric}, estimated")]
    columns += [number(name.replace("_", " ")) for name in beside]
    sources = label_sources(facts, list(realised))
    if estimated:
        sources.append(source("estimates", metric=skill, model_version=facts.version))
    return MattersPart(metric, tested, picture, Table(columns, rows), sources)
