"""Extracted rows of the toy problem, as they are staged."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pipelines.ingest.extract import extracted_schema
from pipelines.problem import Problem

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
DAY = "2024-01-01"


def events(problem: Problem, *changes: dict[str, Any]) -> pa.Table:
    """A good row for each of `changes`, but for these."""
    usual = {
        "event_time": NOON,
        "known_time": NOON,
        "cutoff_time": NOON,
        "shelf": "top",
        "litres": 1.0,
        "age": 3,
        "partition": DAY,
        "faults": [],
        "raw": None,
    }
    rows = [{**usual, "kettle_id": f"k{n}", **change, "number": n} for n, change in enumerate(changes)]
    return pa.Table.from_pylist(rows, schema=extracted_schema(problem, "events"))
