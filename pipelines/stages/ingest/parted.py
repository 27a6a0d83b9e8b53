"""Staged rows parted into good ones and bad ones, and how the good ones are found again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.ingest.extract import extracted_schema
from pipelines.ingest.validate import NUMBERS, bad_numbers, good_rows
from pipelines.problem import Problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.ingest.judge import Noted

MOST_NUMBERS = 100_000  # of bad rows that are held; where there are more, the good ones are staged again without them


def part(problem: Problem, noted: Noted, uri: str) -> int:
    """Note which of the rows staged at `uri`, which were judged, break a rule; gives how many."""
    bad = store.stage(f"{uri}.bad", bad_numbers(noted), NUMBERS)
    if bad > MOST_NUMBERS:
        store.stage(f"{uri}.good", good_rows(problem, noted), extracted_schema(problem, noted.query))
    return bad


def all_good(uri: str) -> None:
    """Note that no row staged at `uri` breaks a rule."""
    nothing: Iterator[pa.RecordBatch] = iter(())
    store.stage(f"{uri}.bad", nothing, NUMBERS)


def good(uri: str, refused: Collection[str] = ()) -> ds.Dataset:
    """The rows staged at `uri` that break no rule, without those of the partitions `refused`."""
    bad = store.staged(f"{uri}.bad")
    if bad.count_rows() > MOST_NUMBERS:
        rows = store.staged(f"{uri}.good")
    else:
        numbers = bad.to_table()["number"].combine_chunks()
        rows = store.staged(uri).filter(~pc.field("number").isin(numbers))
    return rows.filter(~sql.is_among("partition", refused)) if refused else rows
