"""The page of an ingest run: what was read, every rule and what broke it, and rows that were set aside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pyarrow as pa

from pipelines.ingest.batch import BatchRule
from pipelines.ingest.expectations import Expected
from pipelines.ingest.rules import rules
from pipelines.ingest.validate import Summary, some
from pipelines.problem import Problem, Query

SHOWN_PARTITIONS = 60
SHOWN_ROWS = 50
SHOWN_CHARACTERS = 600  # of a row
GX = ("#GX evaluated", "#GX unexpected", "GX examples")  # Great Expectations

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1b1f24; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 1.2rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #d5dae0; }
th { background: #f3f5f7; } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; } code, pre { font: 13px ui-monospace, monospace; white-space: pre-wrap; }
.failed, .passed { white-space: nowrap; } .failed { color: #b42318; font-weight: 600; } .passed { color: #1a7f37; }
.note { color: #57606a; } .box { border-left: 4px solid #b42318; background: #fef3f2; padding: .6rem 1rem; }
"""


@dataclass(frozen=True)
class Verdict:
    """All that was found about the rows of one query.

    `declared` are the rules that problem.yaml asks of a batch, `shape` those about the partitions before. `expected`
    is empty when Great Expectations was not asked.
    """

    summary: Summary
    declared: Sequence[BatchRule]
    shape: Sequence[BatchRule] = ()
    expected: Sequence[Expected] = field(default_factory=tuple)

    @property
    def query(self) -> Query:
        return self.summary.query


def validation_page(
    problem: Problem,
    first: str,
    last: str,
    sources: Mapping[str, Mapping[str, int]],
    verdicts: Sequence[Verdict],
    quarantined: pa.Table,
    refused: Mapping[str, Sequence[str]],
    beside: Sequence[str] = (),
    failure: str = "",
) -> bytes:
    """One HTML page, which needs nothing else: no script, no other file.

    `sources` has the "rows" and "rejected" of each source, `quarantined` rows that were set aside (shaped like the
    table `quarantine`; the first are shown), `refused` all that is held against each partition that is not published,
    `beside` what was met beside the run's own rows, in words, `failure` what stopped the run, if anything did.
    """
    span = first if first == last else f"{first} to {last}"
    title = f"{problem.name}: validation of {span}"
    state = '<span class="passed">passed</span>'
    if refused:
        state = f'<span class="failed">{len(refused)} partitions refused, and held; the others passed</span>'
    if failure:
        state = '<span class="failed">nothing was published</span>'
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(problem.description)}</p><p>Result: {state}</p>",
        f'<pre class="box">{escape(failure)}</pre>' if failure else "",
        _refused(refused),
        _beside(beside),
        "<h2>Sources</h2>",
        _table(["source", "#rows read", "#not readable"],
               [[name, count["rows"], count["rejected"]] for name, count in sources.items()]),
        *(_query(problem, one) for one in verdicts),
        _quarantined(quarantined),
    ]  # fmt: skip
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )
    return page.encode()


def _query(problem: Problem, verdict: Verdict) -> str:
    summary = verdict.summary
    return (
        f"<h2>{escape(verdict.query)}: {summary.rows:,} rows, {summary.bad:,} set aside</h2>"
        f"<h3>Partitions</h3>{_partitions(summary)}"
        f"<h3>Rules for the batch</h3>{_batch_rules(verdict)}"
        f"<h3>Rules for a row</h3>{_rules(problem, verdict)}"
    )


def _beside(beside: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(words)}</li>" for words in beside)
    return f"<h2>Beside the run's own rows</h2><ul>{items}</ul>" if items else ""


def _refused(refused: Mapping[str, Sequence[str]]) -> str:
    if not refused:
        return ""
    rows = [[key, reason] for key, found in refused.items() for reason in found]
    note = (
        "Nothing of them is published until a delivery is good: mend the source and ingest them again. Where the world "
        "has changed and the feed is sound, name the partition under validation.shape.accepted, or a column or rule "
        "that says nothing here under validation.shape.ignore, then ingest it."
    )
    return f'<h2>Partitions refused</h2>{_table(["partition", "why"], rows)}<p class="note">{note}</p>'


def _partitions(summary: Summary) -> str:
    shown = summary.partitions.slice(max(0, summary.partitions.num_rows - SHOWN_PARTITIONS)).to_pylist()
    left_out = summary.partitions.num_rows - len(shown)
    note = f'<p class="note">The newest {len(shown)}; {left_out} earlier ones are left out.</p>' if left_out else ""
    rows = [[one["partition"], one["rows"], one["rows"] - one["bad"], one["bad"], one["newest"]] for one in shown]
    return note + _table(["partition", "#rows", "#good", "#set aside", "newest event"], rows)


def _batch_rules(verdict: Verdict) -> str:
    expected = {one.rule: one for one in verdict.expected}
    rows = []
    for one in [*verdict.declared, *verdict.shape]:
        seen = [value for value in one.observed.values() if value is not None]
        observed = f"{min(seen):.4g} to {max(seen):.4g}" if seen else "nothing to compare"
        rows.append([one.name, one.limit, observed, some(one.failed), *_seen(expected.get(one.name)), not one.failed])
    heads = ["rule", "limit", "observed, by partition", "failed in", *GX, "result"]
    return _table(heads, rows)


def _rules(problem: Problem, verdict: Verdict) -> str:
    expected = {one.rule: one for one in verdict.expected}
    broken = verdict.summary.broken
    conditions = {f"{name}: not fulfilled": condition for name, condition in problem.validation.rules.items()}
    names = sorted((one.name for one in rules(problem, verdict.query)), key=lambda name: -broken[name])
    types = [one for one in verdict.expected if one.rule not in broken and "of_type" in one.expectation]
    rows = [
        [f"{name} ({conditions[name]})" if name in conditions else name, broken[name], *_seen(expected.get(name))]
        for name in names
    ]
    rows += [[one.rule, 0, *_seen(one)] for one in types]
    note = "" if verdict.expected else '<p class="note">Great Expectations was not asked.</p>'
    return note + _table(["broken when", "#rows", *GX], rows)


def _seen(expected: Expected | None) -> list[Any]:
    """What Great Expectations (GX) has seen of a rule."""
    return [expected.evaluated, expected.unexpected, ", ".join(expected.examples)] if expected else ["", "", ""]


def _quarantined(rows: pa.Table) -> str:
    shown = rows.slice(0, SHOWN_ROWS).select(["id", "partition", "source", "rules", "row"]).to_pylist()
    if not shown:
        return "<h2>Rows set aside</h2><p>None.</p>"
    note = f'<p class="note">{len(shown)} of {rows.num_rows}.</p>' if rows.num_rows > len(shown) else ""
    cells = [
        [one["id"], one["partition"], one["source"], "; ".join(one["rules"]), one["row"][:SHOWN_CHARACTERS]]
        for one in shown
    ]
    return f"<h2>Rows set aside</h2>{note}" + _table(["id", "partition", "source", "rules", "row as it came"], cells)


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; a head that begins with # is of a column of numbers, a boolean says whether a rule was kept.

    >>> _table(["a", "#b"], [["<", 1200]])
    '<table><tr><th>a</th><th class="number">b</th></tr><tr><td>&lt;</td><td class="number">1,200</td></tr></table>'
    """
    numbers = [' class="number"' if head.startswith("#") else "" for head in heads]
    head = "".join(f"<th{kind}>{escape(one.lstrip('#'))}</th>" for one, kind in zip(heads, numbers, strict=True))
    body = "".join(
        f"<tr>{''.join(_cell(cell, kind) for cell, kind in zip(row, numbers, strict=True))}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any, kind: str) -> str:
    if isinstance(value, bool):
        return f'<td class="{"passed" if value else "failed"}">{"passed" if value else "failed"}</td>'
    text = "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    return f"<td{kind}>{escape(text)}</td>"
