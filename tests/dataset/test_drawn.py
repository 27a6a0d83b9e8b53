"""Rows of deliveries are drawn: as many of each label, what belongs together on one side, and for ever."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from pipelines import sql
from pipelines.config import Drawn
from pipelines.dataset.drawn import sides_sql
from pipelines.problem import Problem
from tests.config.test_deliveries import DELIVERIES, SHORT, read

DRAWN = Drawn()
COLUMNS = {"customer": pa.string(), "event_time": pa.timestamp("us", "UTC"), "known_time": pa.timestamp("us", "UTC")}


def statement(customer: str, number: int, label: float, later: int = 0, household: str | None = None) -> dict[str, Any]:
    """A label that came with a delivery; or `later`, with another one."""
    at = DELIVERIES.start(f"d{number:05}")
    known = DELIVERIES.start(f"d{number + later:05}")
    return {"customer": customer, "event_time": at, "known_time": known, "label": label, "household": household}


def sides(
    problem: Problem, said: list[dict[str, Any]], drawn: Drawn = DRAWN, as_of: datetime | None = None
) -> dict[str, str]:
    kind = pa.float64() if problem.task == "regression" else pa.int8()
    labels = pa.table({name: pa.array([row[name] for row in said], kind_of) for name, kind_of in COLUMNS.items()})
    labels = labels.append_column("label", pa.array([row["label"] for row in said], kind))
    labels = labels.append_column("source", pa.array(["natural"] * len(said)))
    events = labels.select(list(COLUMNS)).append_column(
        "household", pa.array([row["household"] for row in said], pa.string())
    )
    as_of = as_of or max(row["known_time"] for row in said) + timedelta(hours=1)
    rows = sql.query(sides_sql(problem, drawn), {"labels": labels, "all_events": events}, {"as_of": as_of})
    return dict(zip(rows["unit"].to_pylist(), rows["side"].to_pylist(), strict=True))


def with_households() -> Problem:
    columns = {"customer": "string", "age": "integer", "household": "string", "left": "integer"}
    sources = {"customers": {"path": "customers/*.csv", "columns": columns}}
    return read(sources=sources, dataset={"split": {"group_by": "household"}})


@pytest.mark.parametrize("rare", [20, 3])
def test_each_label_is_split_by_itself(rare: int) -> None:
    said = [statement(f"c{n}", 1, int(n < rare)) for n in range(1000)]
    counts = {label: Counter[str]() for label in (0, 1)}
    for unit, side in sides(read(), said).items():
        counts[int(int(unit.removeprefix("key c")) < rare)][side] += 1
    for label, total in ((1, rare), (0, 1000 - rare)):
        for name, share in (("test", 0.15), ("validation", 0.15), ("train", 0.7)):
            assert abs(counts[label][name] - share * total) <= 1


def test_a_row_stays_where_it_is() -> None:
    first = [statement(f"c{n}", 1, n % 2) for n in range(200)]
    before = sides(read(), first)
    more = [statement(f"d{n}", 2, int(n % 3 == 0)) for n in range(100)]
    again = [statement(f"c{n}", 2, 1) for n in range(50)]  # the same customers in the next delivery
    corrected = [statement(f"c{n}", 1, 1 - n % 2, later=2) for n in range(100)]
    after = sides(read(), [*more, *corrected, *first, *again])
    assert {unit: after[unit] for unit in before} == before
    assert len(after) == 300
    assert sides(read(), [*first, *more], as_of=DELIVERIES.end("d00001")) == before, "what came later plays no part"
    assert sides(read(), first, Drawn(seed=1)) != before


def test_a_group_is_on_one_side_and_those_without_are_alone() -> None:
    said = [statement(f"c{n}", 1 + n % 3, n % 2, household=f"h{n // 4}" if n < 80 else None) for n in range(120)]
    drawn = sides(with_households(), said)
    assert sum(unit.startswith("group h") for unit in drawn) == 20
    assert sum(unit.startswith("key c") for unit in drawn) == 40
    assert set(drawn.values()) == {"train", "validation", "test"}


def test_a_number_is_split_by_quarters_of_its_range() -> None:
    problem = read(task="regression", label="age", features={"columns": []} | {"columns": "all"}, sources=AGES)
    said = [statement(f"c{n}", 1, float(n)) for n in range(400)]
    drawn = sides(problem, said)
    for quarter in range(4):
        tested = sum(drawn[f"key c{n}"] == "test" for n in range(100 * quarter, 100 * quarter + 100))
        assert 14 <= tested <= 16


AGES = {"customers": {**SHORT["sources"]["customers"], "columns": {"customer": "string", "age": "float", "x": "float"}}}
