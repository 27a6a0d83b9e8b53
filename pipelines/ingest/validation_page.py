"""The page of an ingest run: what was read, every rule and what broke it, and rows that were set aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from pipelines.html.render import render
from pipelines.html.wording import figure
from pipelines.ingest.batch import BatchRule
from pipelines.ingest.expectations import Expected
from pipelines.ingest.rules import rules
from pipelines.ingest.validate import Summary, some
from pipelines.problem import Problem, Query

SHOWN_PARTITIONS = 60
SHOWN_ROWS = 50
SHOWN_CHARACTERS = 600  # of a row


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


class SourceLine(NamedTuple):
    name: str
    rows: int
    rejected: int


class Refusal(NamedTuple):
    partition: str
    reason: str


class PartitionLine(NamedTuple):
    partition: str
    rows: int
    good: int
    set_aside: int
    newest_event: object


class Expectation(NamedTuple):
    """What Great Expectations has seen of a rule; empty where it was not asked."""

    evaluated: int | str = ""
    unexpected: int | str = ""
    examples: str = ""


class BatchRuleLine(NamedTuple):
    """`observed`: the lowest and highest number of a partition; `failed_in`: the partitions that broke the rule."""

    rule: str
    limit: str
    observed: str
    failed_in: str
    evaluated: int | str
    unexpected: int | str
    examples: str
    passed: bool


class RowRuleLine(NamedTuple):
    """`rows`: how many broke the rule."""

    broken_when: str
    rows: int
    evaluated: int | str
    unexpected: int | str
    examples: str


class QueryPart(NamedTuple):
    """What the page says of one query."""

    name: Query
    rows: int
    set_aside: int
    partitions: list[PartitionLine]
    earlier_partitions: int
    batch_rules: list[BatchRuleLine]
    row_rules: list[RowRuleLine]
    has_expectations: bool


class RowSetAside(NamedTuple):
    id: str
    partition: str
    source: str
    rules: str
    row: str


class SetAside(NamedTuple):
    """Rows that were set aside: the first of them, shaped like the table `quarantine`, and how many there are."""

    first: pa.Table
    rows: int


@dataclass(frozen=True)
class ValidationPage:
    """What the template draws. `set_aside` are the first of the `rows_set_aside`."""

    description: str
    failure: str
    refused_partitions: int
    refusals: list[Refusal]
    beside: Sequence[str]
    sources: list[SourceLine]
    queries: list[QueryPart]
    set_aside: list[RowSetAside]
    rows_set_aside: int


def validation_page(
    problem: Problem,
    first: str,
    last: str,
    sources: Mapping[str, Mapping[str, int]],
    verdicts: Sequence[Verdict],
    set_aside: SetAside,
    refused: Mapping[str, Sequence[str]],
    beside: Sequence[str] = (),
    failure: str = "",
) -> bytes:
    """One HTML page, which needs nothing else: no script, no other file.

    Args:
        sources: the "rows" and "rejected" of each source.
        refused: all that is held against each partition that is not published.
        beside: what was met beside the run's own rows, in words.
        failure: what stopped the run, if anything did.
    """
    span = first if first == last else f"{first} to {last}"
    page = ValidationPage(
        description=problem.description,
        failure=failure,
        refused_partitions=len(refused),
        refusals=[Refusal(key, reason) for key, reasons in refused.items() for reason in reasons],
        beside=beside,
        sources=[SourceLine(name, count["rows"], count["rejected"]) for name, count in sources.items()],
        queries=[_query(problem, verdict) for verdict in verdicts],
        set_aside=_set_aside(set_aside.first.slice(0, SHOWN_ROWS)),
        rows_set_aside=set_aside.rows,
    )
    return render("validation.html", f"{problem.name}: validation of {span}", page)


def _query(problem: Problem, verdict: Verdict) -> QueryPart:
    summary = verdict.summary
    earlier = max(0, summary.partitions.num_rows - SHOWN_PARTITIONS)
    return QueryPart(
        name=verdict.query,
        rows=summary.rows,
        set_aside=summary.bad,
        partitions=[
            PartitionLine(row["partition"], row["rows"], row["rows"] - row["bad"], row["bad"], row["newest"])
            for row in summary.partitions.slice(earlier).to_pylist()
        ],
        earlier_partitions=earlier,
        batch_rules=_batch_rules(verdict),
        row_rules=_row_rules(problem, verdict),
        has_expectations=bool(verdict.expected),
    )


def _batch_rules(verdict: Verdict) -> list[BatchRuleLine]:
    expected = {of_rule.rule: of_rule for of_rule in verdict.expected}
    lines = []
    for rule in [*verdict.declared, *verdict.shape]:
        values = [value for value in rule.observed.values() if value is not None]
        observed = f"{figure(min(values))} to {figure(max(values))}" if values else "nothing to compare"
        expectation = _expectation(expected.get(rule.name))
        failed = rule.failed
        lines.append(BatchRuleLine(rule.name, rule.limit, observed, some(failed), *expectation, not failed))
    return lines


def _row_rules(problem: Problem, verdict: Verdict) -> list[RowRuleLine]:
    """Every rule, those that most rows broke first; then the types that Great Expectations looked at."""
    expected = {of_rule.rule: of_rule for of_rule in verdict.expected}
    broken = verdict.summary.broken
    conditions = {f"{name}: not fulfilled": condition for name, condition in problem.validation.rules.items()}
    names = sorted((rule.name for rule in rules(problem, verdict.query)), key=lambda name: -broken[name])
    lines = []
    for name in names:
        words = f"{name} ({conditions[name]})" if name in conditions else name
        lines.append(RowRuleLine(words, broken[name], *_expectation(expected.get(name))))
    types = [of_rule for of_rule in verdict.expected if of_rule.rule not in broken and "of_type" in of_rule.expectation]
    return lines + [RowRuleLine(of_type.rule, 0, *_expectation(of_type)) for of_type in types]


def _expectation(expected: Expected | None) -> Expectation:
    if expected is None:
        return Expectation()
    return Expectation(expected.evaluated, expected.unexpected, ", ".join(expected.examples))


def _set_aside(rows: pa.Table) -> list[RowSetAside]:
    return [
        RowSetAside(row["id"], row["partition"], row["source"], "; ".join(row["rules"]), row["row"][:SHOWN_CHARACTERS])
        for row in rows.select(["id", "partition", "source", "rules", "row"]).to_pylist()
    ]
