"""The weak supervision report: one self-contained HTML page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipelines.html.render import render
from pipelines.html.wording import figure, percent
from pipelines.labeling.combine import VoterReport
from pipelines.problem import Problem

FEW = 30  # checked events below which a measured accuracy says little
NEVER = "no function ever votes for {}: nothing can be told apart; add one that does"


class FunctionLine(NamedTuple):
    """`accuracy` is measured on the `checked` events; `votes` is how the function votes, its SQL or its name."""

    function: str
    positive: int
    negative: int
    coverage: float
    overlap: float
    conflict: float
    accuracy_estimated: float | None
    accuracy: float | None
    checked: int
    votes: str


class Summary(NamedTuple):
    """What all functions together gave."""

    events: int
    voted: int
    """Events that some function votes on."""
    labelled: int
    positive: int
    """Of the labels."""
    accuracy: float | None
    """Of the labels, on the checked events; None where there are none."""
    checked: int
    """Labelled events of which the truth is known."""
    first_partition: str
    last_partition: str


class WeakSupervisionPage(NamedTuple):
    facts: Mapping[str, str]
    functions: list[FunctionLine]
    combined_by: str
    warnings: list[str]


def page(problem: Problem, partition: str, records: Sequence[VoterReport], summary: Summary) -> bytes:
    """How each labeling function does, and what all together gave.

    `records`: what `combine.report` gives.
    """
    weak = problem.labels.weak
    assert weak is not None
    functions = []
    for record in records:
        function = weak.functions[record.voter]
        functions.append(
            FunctionLine(
                record.voter,
                record.positive,
                record.negative,
                record.coverage,
                record.overlap,
                record.conflict,
                record.accuracy_estimated,
                record.accuracy,
                record.checked,
                votes=function.sql or function.python or "",
            )
        )
    right = "unknown"
    if summary.checked:
        right = f"{percent(summary.accuracy)} of {figure(summary.checked)}"
    facts = {
        "events voted on, of those of the partitions": f"{figure(summary.voted)} of {figure(summary.events)}",
        "partitions": f"{summary.first_partition} to {summary.last_partition}",
        f"labelled at a confidence of {weak.min_confidence:g} or more": figure(summary.labelled),
        "of them positive": figure(summary.positive),
        "right, where the truth is known": right,
    }
    title = f"{problem.name}: weak supervision until {partition}"
    drawn = WeakSupervisionPage(facts, functions, weak.combine, warnings(records))
    return render("weak_supervision.html", title, drawn)


def warnings(records: Sequence[VoterReport]) -> list[str]:
    """What a person should look at, in sentences."""
    lines = [f"{record.voter} never votes" for record in records if not record.positive + record.negative]
    well_checked = [record for record in records if record.accuracy is not None and record.checked >= FEW]
    lines += [
        f"{record.voter} is right in {record.accuracy:.0%} of {record.checked:,} events: worse than a coin; mend it or "
        "turn it round"
        for record in well_checked
        if record.accuracy is not None and record.accuracy < 0.5
    ]
    lines += [
        f"{record.voter} is estimated at {record.accuracy_estimated:.0%} and measured at {record.accuracy:.0%}: it "
        "errs together with others, or on other events than those whose truth is known"
        for record in well_checked
        if record.accuracy is not None
        and record.accuracy_estimated is not None
        and abs(record.accuracy - record.accuracy_estimated) > 0.15
    ]
    if records and not any(record.positive for record in records):
        lines.append(NEVER.format("1"))
    if records and not any(record.negative for record in records):
        lines.append(NEVER.format("0"))
    if len(records) < 3:
        lines.append("fewer than three functions: how right each of them is cannot be estimated")
    return lines
