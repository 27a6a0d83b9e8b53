from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipelines.errors import DataError
from pipelines.problem import Problem
from pipelines.stages.ingest.arrivals import _check_keys

DAY = "2024-01-02"


def judged(problem: Problem, published: int, late: int) -> None:
    """None of the published keys of a day is delivered any more, and so many others are."""
    there = pa.table(
        {"partition": [DAY] * published, "superseded_time": pa.nulls(published, pa.timestamp("us", "UTC"))}
    )
    rows = pa.table({"partition": pa.array([DAY] * late, pa.string())})
    _check_keys(problem, "events", rows, {DAY: late}, ds.dataset(there))


def test_one_event_that_went_and_one_that_came_stop_no_ingest(toy: Callable[..., Any]) -> None:
    judged(toy(), published=1, late=1)
    judged(toy(), published=4, late=4)


def test_a_day_of_other_keys_is_told(toy: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="no kettle_id that was published is delivered any more"):
        judged(toy(), published=10, late=8)
