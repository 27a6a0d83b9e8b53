from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipelines.ingest import judge as module
from pipelines.ingest.batch import batch_rules
from pipelines.ingest.expectations import expectations
from pipelines.ingest.judge import judge
from pipelines.ingest.validate import bad_numbers, bad_rows, good_rows, summary
from pipelines.problem import Problem
from tests.ingest.staged import DAY, events

ToyProblem = Callable[..., Problem]


class Read(ds.InMemoryDataset):  # type: ignore[misc]
    """Rows that tell which of their columns each scan has asked for."""

    asked: list[list[str]]

    def scanner(self, *, columns: list[str] | None = None, **options: Any) -> ds.Scanner:
        self.asked.append([*(columns or self.schema.names)])
        return super().scanner(columns=columns, **options)


def test_what_is_counted_parted_shown_and_checked_was_judged_once(toy: ToyProblem) -> None:
    problem = toy()
    rows = Read(events(problem, {}, {"litres": 9.0}, {"shelf": None}, {}))
    rows.asked = []
    with judge(problem, "events", rows, sampled=problem.validation.expectation_rows) as noted:
        (whole,) = [asked for asked in rows.asked if "litres" in asked]
        assert whole
        counted = summary(problem, noted, [DAY])
        assert [count for count in counted.broken.values() if count] == [1, 1]
        assert batch_rules(problem, counted, [])
        numbers = pa.Table.from_batches(bad_numbers(noted))["number"].to_pylist()
        rules = [rule for batch in bad_rows(problem, noted) for rule in batch["rules"].to_pylist()]
        found = {one.rule: one.unexpected for one in expectations(problem, noted)}
    assert numbers == [1, 2]
    assert sorted(rules) == [["litres: outside 0..5"], ["shelf: missing"]]
    assert {rule: count for rule, count in found.items() if count} == {"litres: outside 0..5": 1, "shelf: missing": 1}
    assert sum("shelf" in asked for asked in rows.asked) == 1, "only what is counted is read again"


def test_as_many_good_rows_are_noted_as_are_wanted_and_always_the_same(toy: ToyProblem) -> None:
    staged = events(toy(), *[{}] * 2_000, {"litres": 9.0})

    def noted(sampled: int) -> tuple[list[int], int]:
        with judge(toy(), "events", staged, sampled=sampled) as notes:
            rows = notes.rows.to_table().to_pylist()
        return [row["number"] for row in rows if row["_good"]], sum(not row["_good"] for row in rows)

    good, bad = noted(300)
    assert 300 <= len(good) <= 600
    assert bad == 1
    assert (good, bad) == noted(300)
    assert noted(0) == ([], 1)
    assert len(noted(5_000)[0]) == 2_000


def test_of_long_good_rows_as_many_are_noted_as_there_is_room_for(
    toy: ToyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLE_BYTES", 100_000)
    staged = events(toy(), *[{"kettle_id": f"{n}" + "x" * 1_000} for n in range(1_000)], *[{}] * 10)
    with judge(toy(), "events", staged, sampled=50_000) as notes:
        keys = notes.rows.to_table()["kettle_id"].to_pylist()
    assert 50 <= sum(len(key) > 1_000 for key in keys) <= 200
    assert sum(len(key) < 1_000 for key in keys) == 10


def test_good_rows_are_the_others(toy: ToyProblem) -> None:
    staged = events(toy(), {}, {"litres": 9.0}, {"kettle_id": "k0"}, {"age": None})

    def rows() -> Iterator[pa.RecordBatch]:
        with judge(toy(), "events", staged) as notes:
            yield from good_rows(toy(), notes)

    assert pa.Table.from_batches(rows(), staged.schema)["number"].to_pylist() == [3]
