"""The page about a scored partition: the diagnosis first, then what it rests on, and where each number comes from."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pipelines.html.markup import document, note, row_of, table
from pipelines.monitoring.explain.root_cause import Change, Explained
from pipelines.monitoring.explain.series import Series, column_series, metric_series
from pipelines.monitoring.page import plots
from pipelines.monitoring.page.columns import columns, distributions
from pipelines.monitoring.page.evidence import Seen, column_sources, contributions, label_sources, matters, slices
from pipelines.monitoring.page.trace import Source, Trace, source, told
from pipelines.profiles.profile import SCORE

ACTIONS = {
    "none": "Nothing is done.",
    "alert": "People are told; nothing else is done.",
    "quarantine": "The partition is kept out of training, and people are told.",
    "recalibrate": "A recalibration of the serving model is asked for.",
    "retrain": "A training from scratch is asked for.",
    "continue": "The serving model is to learn on from newer rows.",
    "roll_back": "The version before serves again.",
    "fall_back": "The baseline model serves until a model passes the gate.",
}
GOOD = ("none",)
NOT_JUDGED = "not judged"


def page(seen: Seen, decided: Mapping[str, Any], explained: Explained) -> bytes:
    """One HTML page, which needs nothing else: no script, no other file; equal inputs give equal bytes.

    Args:
        decided: what `decide` gave; what is not in it is shown as not known.
    """
    trace = Trace()
    sections = [
        ("What happened", _happened(seen, decided, explained)),
        ("What shifted", _shifted(seen, decided, trace)),
        ("Since when", _since(seen, explained, trace)),
        ("What goes along with it", contributions(seen, explained, trace)),
        ("Where", slices(seen, explained, trace)),
        ("Does it matter", matters(seen, explained, trace)),
        ("What was decided", _options(seen, decided, trace)),
        ("Features, now and before", distributions(seen, decided, explained, trace)),
        ("All columns", columns(seen, decided, trace)),
        ("Numbers", _numbers(trace)),
    ]
    return document(
        f"{seen.problem}, {seen.every} of {seen.partition}: {decided.get('verdict', 'no verdict')}", sections
    )


def _happened(seen: Seen, decided: Mapping[str, Any], explained: Explained) -> str:
    action = str(decided.get("action", ""))
    verdict = escape(str(decided.get("verdict", "none given")))
    done = escape(ACTIONS.get(action, action or "No decision was taken."))
    kind = "good" if action in GOOD and verdict != NOT_JUDGED else "bad"
    why = explained.paragraph
    if verdict == "staleness":  # no finding speaks for the action: what does stands among the reasons alone
        why = f"Nothing drifted, but a fresher model is expected to pay: {decided.get('reason', '')}."
    box = (
        f'<div class="box {kind}"><p><b>Verdict: {verdict}. Action: {escape(action or "none taken")}.</b> {done}</p>'
        f"<p>{escape(why)}</p></div>"
    )
    scored = seen.profiles.get(seen.partition)
    rows = f"this {seen.every}'s {scored[SCORE].rows:,} rows" if scored else f"this {seen.every}"
    about = f"Version {seen.version} of the model scored {rows}."
    legend = "Grey: labels are not in yet."
    if explained.since:
        legend = (
            f"Orange: the levels before and since, and the {seen.every}s in which it may as well have begun. {legend}"
        )
    return box + row_of(_drawn(seen, explained)) + note(f"{legend} {about}") + "".join(map(note, explained.notes))


def _drawn(seen: Seen, explained: Explained) -> str | None:
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


def _shifted(seen: Seen, decided: Mapping[str, Any], trace: Trace) -> str:
    diagnosis = decided.get("diagnosis") or {}
    findings, unjudged = diagnosis.get("findings") or [], list((diagnosis.get("unjudged") or {}).values())
    if not findings:
        return note(". ".join(["Nothing is beyond the policy's limits", *map(_capital, unjudged)]) + ".")
    where = _decision(seen)
    rows = []
    for place, one in enumerate(findings):
        for name, value in one["numbers"].items():
            trace.figure(
                f"{one['kind']}: {name}", value, f"evidence.diagnosis.findings[{place}].numbers[{name!r}]", where
            )
        features = ", ".join(one.get("features") or [])
        rows.append([one["kind"], one["evidence"], features])
    heads = ["kind", "what shows it", *(["features"] if any(row[2] for row in rows) else [])]
    lead = note("The most harmful comes first. What each kind means: docs/monitoring.md.")
    return lead + table(heads, [row[: len(heads)] for row in rows]) + told(where)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _since(seen: Seen, explained: Explained, trace: Trace) -> str:
    if not explained.changes:
        return note("There is nothing whose beginning could be looked for.")
    rows, sources = [], []
    for one in explained.changes:
        series, change = one.series, one.change
        where = _series_sources(seen, series)
        sources += [each for each in where if each not in sources]
        for key, value in zip(series.keys, series.values, strict=True):
            trace.figure(f"{series.name}, {key}", value, series.measure, *_series_sources(seen, series, key))
        if change is None:
            rows.append([series.name, "none beyond chance", "", "", "", ""])
            continue
        shown = []
        for part in ("before", "after", "p_value"):
            measure = f"change point of {series.measure}: {part}"
            shown.append(trace.figure(f"{series.name}: {part}", getattr(change, part), measure, *where))
        between = change.since if change.first == change.last else f"{change.since} ({change.first} to {change.last})"
        rows.append([series.name, "at once" if change.shape == "step" else "gradually", between, *shown])
    lead = note(
        "The newest change of each number that the findings show in. In brackets where it may as well have begun "
        "(95 %). p: the chance that a series that only wanders shows as much."
    )
    return lead + table(["number", "how", "since", "#before", "#after", "#p"], rows) + told(*sources)


def _options(seen: Seen, decided: Mapping[str, Any], trace: Trace) -> str:
    where = _decision(seen)
    lead = note(str(decided.get("reason") or "No reason is known."))
    options = [one for one in decided.get("options") or [] if isinstance(one, Mapping)]
    if not options:
        return lead + told(where)
    rows = []
    for place, one in enumerate(options):
        gain, low, high, cost = (
            trace.figure(
                f"option {one.get('action')}: {part}", one.get(part), f"evidence.options[{place}].{part}", where
            )
            for part in ("gain", "low", "high", "cost")
        )
        has_interval = one.get("low") is not None and one.get("high") is not None
        chosen = "chosen" if one.get("action") == decided.get("action") else str(one.get("why_not") or "")
        rows.append([one.get("action"), f"{gain} ({low} to {high})" if has_interval else gain, cost, chosen])
    lead += note("Gains are expected, not measured. What gain and cost are counted in: docs/decisions.md.")
    return lead + table(["option", "#expected gain", "#cost", "why not"], rows) + told(where)


def _numbers(trace: Trace) -> str:
    lead = note(
        "Each number of the tables above, with what it is, how it is computed (measure), and the rows that it is "
        "computed from. The pictures show numbers of these tables; the sentences round them."
    )
    return lead + trace.appendix()


def _series_sources(seen: Seen, series: Series, key: str | None = None) -> list[Source]:
    keys = [key] if key else list(series.keys)
    return column_sources(seen, series.column, keys) if series.table == "profiles" else label_sources(seen, keys)


def _decision(seen: Seen) -> Source:
    return source("ledger", kind="monitoring", partition=seen.partition, model_version=seen.version)
