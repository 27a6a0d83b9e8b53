"""What streams, as tables: for batches of a few rows."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines.artifacts import table_schema
from pipelines.ingest import validate
from pipelines.ingest.quarantine import Mending, Repair
from pipelines.problem import Problem, Query


def bad_rows(problem: Problem, query: Query, staged: Any, **options: Any) -> pa.Table:
    """The rows that break a rule, by partition and id."""
    batches = validate.bad_rows(problem, query, staged, **options)
    return pa.Table.from_batches(batches, table_schema(problem, "quarantine")).sort_by(
        [("partition", "ascending"), ("id", "ascending")]
    )


def apply_repairs(
    problem: Problem, query: Query, bad: pa.Table, repairs: dict[str, Repair]
) -> tuple[pa.Table, pa.Table]:
    """The rows that stay bad, and those that were repaired."""
    mending = Mending(problem, query, repairs)
    still = pa.Table.from_batches(mending.still_bad(iter(bad.to_batches())), bad.schema)
    return still, mending.repaired
