"""Staged rows parted into good ones and bad ones, and how the good ones are found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import store
from pipelines.ingest.extract import extracted_schema
from pipelines.ingest.validate import NUMBERS, bad_numbers, good_rows
from pipelines.problem import Problem, Query

if TYPE_CHECKING:
    import pyarrow.dataset as ds

MOST_NUMBERS = 100_000  # of bad rows that are held; where there are more, the good ones are staged again without them


def part(problem: Problem, query: Query, uri: str, exempt: Sequence[str] = (), elsewhere: Any = None) -> int:
    """Note which of the rows staged at `uri` break a rule; gives how many. The arguments are those of `judged`."""
    staged = store.staged(uri)
    bad = store.stage(f"{uri}.bad", bad_numbers(problem, query, staged, exempt, elsewhere), NUMBERS)
    if bad > MOST_NUMBERS:
        rows = good_rows(problem, query, staged, exempt, elsewhere)
        store.stage(f"{uri}.good", rows, extracted_schema(problem, query))
    return bad


def all_good(uri: str) -> None:
    """Note that no row staged at `uri` breaks a rule."""
    nothing: Iterator[pa.RecordBatch] = iter(())
    store.stage(f"{uri}.bad", nothing, NUMBERS)


def good(uri: str) -> ds.Dataset:
    """The rows staged at `uri` that break no rule."""
    bad = store.staged(f"{uri}.bad")
    if bad.count_rows() > MOST_NUMBERS:
        return store.staged(f"{uri}.good")
    numbers = bad.to_table()["number"].combine_chunks()
    return store.staged(uri).filter(~pc.field("number").isin(numbers))
