"""What streams, as tables: for batches of a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipelines.artifacts import table_schema
from pipelines.ingest import expectations as expectations_module
from pipelines.ingest import validate
from pipelines.ingest.judge import judge
from pipelines.ingest.quarantine import Mending, Repair
from pipelines.ingest.validate import NUMBERS, Summary
from pipelines.problem import Problem, Query


def bad_rows(problem: Problem, query: Query, staged: Any, limit: int | None = None) -> pa.Table:
    """The rows that break a rule, by partition and id."""
    with judge(problem, query, staged) as noted:
        batches = [*validate.bad_rows(problem, noted, limit)]
    return pa.Table.from_batches(batches, table_schema(problem, "quarantine")).sort_by(
        [("partition", "ascending"), ("id", "ascending")]
    )


def bad_numbers(problem: Problem, query: Query, staged: Any) -> pa.Array:
    """The numbers of the rows that break a rule."""
    with judge(problem, query, staged) as noted:
        return pa.Table.from_batches(validate.bad_numbers(noted), NUMBERS)["number"].combine_chunks()


def summary(problem: Problem, query: Query, staged: Any, keys: Sequence[str]) -> Summary:
    """A batch in numbers."""
    with judge(problem, query, staged) as noted:
        return validate.summary(problem, noted, keys)


def expectations(
    problem: Problem, query: Query, staged: Any, partitions: Sequence[str] | None = None
) -> list[expectations_module.Expected]:
    """What Great Expectations finds of a batch, or of some of its partitions."""
    with judge(problem, query, staged, sampled=problem.validation.expectation_rows) as noted:
        return expectations_module.expectations(problem, noted, partitions)


def apply_repairs(
    problem: Problem, query: Query, bad: pa.Table, repairs: dict[str, Repair]
) -> tuple[pa.Table, pa.Table]:
    """The rows that stay bad, and those that were repaired."""
    mending = Mending(problem, query, repairs)
    still = pa.Table.from_batches(mending.still_bad(iter(bad.to_batches())), bad.schema)
    return still, mending.repaired
