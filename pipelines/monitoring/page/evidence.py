"""The middle of a monitoring page: what carries the shift, where it hurts, whether it matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.html.markup import note, row_of, table
from pipelines.html.wording import interval_text, percent
from pipelines.monitoring.explain.contribution import Contribution
from pipelines.monitoring.explain.root_cause import Explained
from pipelines.monitoring.explain.series import NAMES, SKILLS
from pipelines.monitoring.page import plots
from pipelines.monitoring.page.trace import Source, Trace, several, source, told
from pipelines.profiles.profile import SCORE, Profiles, Reference

SHOWN = 10  # lines of a table of features, bars of a picture
SOME_MISSING = 0.01  # of the rows: less is not worth a word
BESIDE = ("log_loss", "rmse", "mean_score", "positive_rate", "mean_label")


@dataclass(frozen=True)
class Seen:
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


def column_sources(seen: Seen, column: str, keys: Sequence[str]) -> list[Source]:
    """Profiles of partitions that the version was made from lie with the version, the others in the table."""
    made_from = [key for key in keys if key in seen.reference.partitions]
    scored = [key for key in keys if key not in seen.reference.partitions]
    found = []
    if scored:
        found.append(source("profiles", partition=scored, column=column, slice="", model_version=seen.version))
    if made_from:
        found.append(source(seen.file("reference.json"), partitions=made_from, column=column))
    return found


def label_sources(seen: Seen, keys: Sequence[str]) -> list[Source]:
    """Scores and labels; of partitions held out from training the rows that went with the version."""
    held_out = [key for key in keys if key in seen.reference.partitions]
    scored = [key for key in keys if key not in seen.reference.partitions]
    found = []
    if scored:
        found.append(source("predictions", partition=scored, model_version=seen.version))
        found.append(source("labels", event_time=f"in {scored[0]} to {scored[-1]}", known_before=seen.labels_until))
    if held_out:
        found.append(source(seen.file("held_out.parquet"), partition=held_out))
    return found


def contributions(seen: Seen, explained: Explained, trace: Trace) -> str:
    shift = explained.shift
    if shift is None:
        return note("Nothing to compare: there are no findings, or nothing before them.")
    both = [*explained.before, *explained.after]
    sources = [source("features", partition=both), source(seen.file("lineage.json"))]
    what, measure = "mean score", "mean of score"
    ends = [column_sources(seen, SCORE, keys) for keys in (explained.before, explained.after)]
    if shift.label:
        what = measure = f"mean probability of {shift.label}"
        ends = [[source("features", partition=keys), sources[1]] for keys in (explained.before, explained.after)]
    first = trace.figure(f"{what}, before", shift.before, measure, *ends[0])
    last = trace.figure(f"{what}, now", shift.after, measure, *ends[1])
    lead = note(
        f"The {what} is {last} now ({several(explained.after)}) and was {first} before ({several(explained.before)}). "
        "Each feature's part: by how much its distribution moved, bin by bin, times what the model makes of each bin "
        f"(mean SHAP value; method: {shift.method}, {shift.rows:,} rows). It tells what the model's scores follow, not "
        "what made the world change. Parts and remainder add up."
    )
    rows = []
    for one in explained.contributions[:SHOWN]:
        parts = [
            trace.figure(f"part of {one.feature}: {part}", getattr(one, part), f"contribution: {part}", *sources)
            for part in ("score", "margin")
        ]
        rows.append([one.feature, *parts, *_ends(seen, explained, one, trace)])
    more = explained.contributions[SHOWN:]
    others = [("all other features", sum(one.score for one in more), sum(one.margin for one in more))] if more else []
    rest = "remainder: within bins, and features together"
    for name, *values in [*others, (rest, shift.remainder_score, shift.remainder_margin)]:
        parts = [
            trace.figure(f"{name}: {part}", value, f"contribution: {part}", *sources)
            for part, value in zip(("score", "margin"), values, strict=True)
        ]
        rows.append([name, *parts, "", ""])
    bars = [(one.feature, one.score) for one in explained.contributions[:SHOWN] if one.score]
    title = f"Parts of the shift of the {what}"
    drawn = plots.carried("carried", title, [*bars, ("remainder", shift.remainder_score)], f"change of the {what}")
    heads = ["feature", f"#part of the {what}", "#of the margin", "before", "now"]
    profiles = source("profiles", partition=both, column="each feature", slice="")
    return lead + row_of(drawn) + table(heads, rows) + told(profiles, *sources)


def _ends(seen: Seen, explained: Explained, one: Contribution, trace: Trace) -> list[str]:
    words = []
    unit = seen.units.get(one.feature) or "" if one.category is None else ""
    for part, keys in (("before", explained.before), ("after", explained.after)):
        measure = "mean" if one.category is None else f"share of {one.category}"
        where = column_sources(seen, one.feature, keys)
        value, missing = getattr(one, part), getattr(one, f"missing_{part}")
        shown = "" if value is None else trace.figure(f"{one.feature}, {part}", value, measure, *where)
        trace.figure(f"{one.feature}, {part}: missing", missing, "share of bin missing", *where)
        text = f"{measure} {shown} {unit}".rstrip() if shown else "no values"
        words.append(f"{text}, {percent(missing)} missing" if missing > SOME_MISSING else text)
    return words


def slices(seen: Seen, explained: Explained, trace: Trace) -> str:
    if not explained.slices_looked_at:
        return note("No labelled rows since then to look at.")
    held_out = " and the rows held out from training" if explained.has_held_out else ""
    lead = note(
        f"{explained.slices_looked_at:,} slices of one or two features were looked at for a loss that rose more than "
        f"that of all other rows. Before: {several(explained.labelled_before)}{held_out}; since: "
        f"{several(explained.labelled_after)}. By how much more, with its interval, is measured on blocks that the "
        "search had not seen, and only what stands a correction for all that were looked at is told."
    )
    if not explained.slices:
        return lead + note("None: no part of the rows got worse for sure beyond all others.")
    keys = [*explained.labelled_before, *explained.labelled_after]
    where = [*label_sources(seen, keys), source("features", partition=keys)]
    if explained.has_held_out:
        where.append(source(seen.file("held_out.parquet"), partition="all"))
    rows = []
    for one in explained.slices:
        shown = {part: trace.figure(f"{one.name}: {part}", getattr(one, part), f"error slice: {part}", *where)
                 for part in ("loss_before", "loss", "excess", "low", "high", "rows", "rows_before")}  # fmt: skip
        excess = f"{shown['excess']} ({shown['low']} to {shown['high']})"
        rows.append([one.name, shown["loss_before"], shown["loss"], excess, shown["rows_before"], shown["rows"]])
    heads = ["slice", "#loss before", "#loss since", "#rose more than elsewhere by", "#rows before", "#rows since"]
    return lead + table(heads, rows) + told(*where)


def matters(seen: Seen, explained: Explained, trace: Trace) -> str:
    """Realised metrics by partition, beside what was estimated of them before their labels came."""
    came = {one["partition"]: one for one in explained.performance}
    guessed = {(one["partition"], one["metric"]): one for one in seen.estimates}
    measured = {*(name for one in came.values() for name in one), *(metric for _, metric in guessed)}
    skill = next((name for name in SKILLS if name in measured), None)
    if skill is None:
        return note("No labels have come yet and nothing was estimated: whether it matters is not known.")
    estimated = {key: one for (key, metric), one in guessed.items() if metric == skill}
    others = [name for name in BESIDE if name != skill and any(name in one for one in came.values())]
    rows = []
    for key in sorted({*came, *estimated}, reverse=True):
        one, where = came.get(key, {}), label_sources(seen, [key])
        words = ["" if one.get(name) is None else trace.figure(f"{name}, {key}", one[name], name, *where)
                 for name in ("rows", skill, *others)]  # fmt: skip
        guess = estimated.get(key)
        for part in ("value", "low", "high") if guess else ():
            row = source("estimates", partition=key, metric=skill, model_version=seen.version)
            trace.figure(f"{skill}, {key}, estimated: {part}", (guess or {})[part], part, row)
        held_out = " (held out)" if one.get("is_held_out") else ""
        rows.append([f"{key}{held_out}", *words[:2], interval_text(guess) if guess else "", *words[2:]])
    name = NAMES[skill]
    drawn = plots.estimates(
        "matters",
        f"{name} by {seen.every}: realised, and estimated before",
        seen.keys,
        {key: (float(one["value"]), float(one["low"]), float(one["high"])) for key, one in estimated.items()},
        {key: float(one[skill]) for key, one in came.items() if skill in one},
        seen.unlabelled,
    )
    file = source(seen.file("reference.json"))
    tested = trace.figure(f"{skill} when tested", seen.reference.metrics.get(skill), f"metrics.{skill}", file)
    lead = note(
        "Realised: measured once labels had come. Estimated: what was expected before they came, with the interval "
        "that it was expected in; an estimate is no measurement (docs/estimates.md). "
        f"{name} when the version was tested: {tested}."
    )
    heads = [seen.every, "#rows", f"#{name}, realised", f"#{name}, estimated",
             *(f"#{one.replace('_', ' ')}" for one in others)]  # fmt: skip
    where = label_sources(seen, list(came))
    where += [source("estimates", metric=skill, model_version=seen.version)] if estimated else []
    return lead + row_of(drawn) + table(heads, rows) + told(*where)
