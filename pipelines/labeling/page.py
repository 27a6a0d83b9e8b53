"""The weak supervision report: one self-contained HTML page for people."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from pipelines.problem import Problem

FEW = 30  # checked events below which a measured accuracy says little
STYLE = """
  :root { color-scheme: light dark }
  body { font: 14px/1.5 system-ui, sans-serif; margin: 1rem; max-width: 70rem }
  td, th { padding: .2rem 1rem .2rem 0; text-align: right; vertical-align: top }
  th:first-child, td:first-child, td:last-child { text-align: left }
  tr:not(:first-child) td { border-top: 1px solid #8884 }
  code { font-size: .9em }
"""
COLUMNS = {
    "voter": "function",
    "positive": "votes for 1",
    "negative": "votes for 0",
    "coverage": "coverage",
    "overlap": "overlap",
    "conflict": "conflict",
    "accuracy_estimated": "accuracy, estimated",
    "accuracy": "accuracy, measured",
    "checked": "on events",
}


def page(problem: Problem, partition: str, records: Sequence[dict[str, Any]], summary: dict[str, Any]) -> bytes:
    """How each labeling function does, and what all together gave.

    `records`: what `combine.report` gives. `summary`: {"events", "voted", "labelled", "positive", "accuracy" (of the
    labels given, or None), "checked", "partitions" (first and last)}.
    """
    weak = problem.labels.weak
    assert weak is not None
    header = "".join(f"<th>{escape(title)}" for title in [*COLUMNS.values(), "votes"])
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{_cell(name, record[name])}" for name in COLUMNS)
        + f"<td><code>{escape(weak.functions[record['voter']].sql or weak.functions[record['voter']].python or '')}"
        + "</code>"
        for record in records
    )
    found = [
        ("events voted on, of those of the partitions", f"{summary['voted']:,} of {summary['events']:,}"),
        ("partitions", " to ".join(summary["partitions"])),
        (f"labelled at a confidence of {weak.min_confidence:g} or more", f"{summary['labelled']:,}"),
        ("of them positive", f"{summary['positive']:,}"),
        (
            "right, where the truth is known",
            f"{_cell('accuracy', summary['accuracy'])} of {summary['checked']:,}" if summary["checked"] else "unknown",
        ),
    ]
    facts = "".join(f"<tr><td>{escape(name)}<td>{escape(value)}" for name, value in found)
    noted = "".join(f"<li>{escape(line)}" for line in warnings(records))
    title = f"{problem.name}: weak supervision until {partition}"
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>
<style>{STYLE}</style><h1>{escape(title)}</h1>
<table>{facts}</table>
<h2>Functions</h2><table><tr>{header}{rows}</table>
<p>Coverage, overlap and conflict are shares of all events: the function votes; another one votes too; another one votes
differently. The estimated accuracy needs no truth (Dawid &amp; Skene 1979); the measured one is that on events whose
natural or hand label is known. Votes were combined by {escape(weak.combine)}.</p>
{f"<h2>Worth a look</h2><ul>{noted}</ul>" if noted else ""}""".encode()


def warnings(records: Sequence[dict[str, Any]]) -> list[str]:
    """What a person should look at, in sentences."""
    found = [f"{one['voter']} never votes" for one in records if not one["positive"] + one["negative"]]
    found += [
        f"{one['voter']} is right in {one['accuracy']:.0%} of {one['checked']:,} events: worse than a coin; mend it or "
        "turn it round"
        for one in records
        if one["accuracy"] is not None and one["checked"] >= FEW and one["accuracy"] < 0.5
    ]
    found += [
        f"{one['voter']} is estimated at {one['accuracy_estimated']:.0%} and measured at {one['accuracy']:.0%}: it "
        "errs together with others, or on other events than those whose truth is known"
        for one in records
        if one["accuracy"] is not None and one["accuracy_estimated"] is not None and one["checked"] >= FEW
        and abs(one["accuracy"] - one["accuracy_estimated"]) > 0.15
    ]  # fmt: skip
    for name, word in (("positive", "1"), ("negative", "0")):
        if records and not any(one[name] for one in records):
            found.append(f"no function ever votes for {word}: nothing can be told apart; add one that does")
    if len(records) < 3:
        found.append("fewer than three functions: how right each of them is cannot be estimated")
    return found


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.1%}" if isinstance(value, float) else escape(f"{value:,}" if isinstance(value, int) else value)
