from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.artifacts import table_schema
from pipelines.dataset.label import label, splits
from pipelines.errors import DataError
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def days(count: int) -> list[str]:
    return [(START + DAY * n).date().isoformat() for n in range(count)]


def events(problem: Problem, count: int) -> pa.Table:
    rows = [
        {
            "kettle_id": f"k{n}",
            "partition": day,
            "event_time": START + DAY * n,
            "known_time": START + DAY * n,
            "cutoff_time": START + DAY * n,
            "shelf": "top",
            "litres": 1.0,
            "age": 1,
        }
        for n, day in enumerate(days(count))
    ]
    return pa.Table.from_pylist(rows, schema=table_schema(problem, "events"))


def statements(problem: Problem, *said: tuple[int, float, int]) -> pa.Table:
    rows = [
        {
            "kettle_id": f"k{n}",
            "partition": "2024-01-01",
            "event_time": START + DAY * n,
            "known_time": START + DAY * known,
            "label": value,
            "source": "natural",
            "confidence": 1.0,
        }
        for n, known, value in said
    ]
    return pa.Table.from_pylist(rows, schema=table_schema(problem, "labels"))


def test_the_newest_mature_partitions_are_held_out(toy: ToyProblem) -> None:
    assert splits(toy(), "2024-01-05", days(9)) == {
        "2024-01-01": "train",
        "2024-01-02": "train",
        "2024-01-03": "validation",
        "2024-01-04": "test",
        "2024-01-05": "test",
    }


def test_partitions_whose_labels_are_not_in_yet_stay_out(toy: ToyProblem) -> None:
    problem = toy(**{"labels.delay_days": 2})
    assert max(splits(problem, "2024-01-08", days(9))) == "2024-01-06"


def test_a_window_forgets_the_oldest(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.window_partitions": 2})
    found = splits(problem, "2024-01-08", days(8))
    assert [day for day, split in found.items() if split == "train"] == ["2024-01-04", "2024-01-05"]


def test_too_few_partitions_are_told(toy: ToyProblem) -> None:
    with pytest.raises(DataError, match="3 partitions have their labels at the end of 2024-01-03; 3 are held out"):
        splits(toy(), "2024-01-03", days(9))


def test_the_latest_statement_known_before_the_moment_wins(toy: ToyProblem) -> None:
    said = statements(toy(), (0, 1, 1), (0, 2, 0), (0, 9, 1), (1, 3, 1))
    found = label(toy(), events(toy(), 3), said, START + DAY * 3, dict.fromkeys(days(3), "train"))
    assert found["kettle_id"].to_pylist() == ["k0", "k1", "k2"]
    assert found["label"].to_pylist() == [0, None, None], (
        "known at the moment itself is too late; unlabelled is not negative"
    )


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20), st.integers(0, 1)), max_size=30),
    until=st.integers(4, 10),
)
def test_no_statement_of_the_future_changes_a_training_set(toy: ToyProblem, said: list, until: int) -> None:
    as_of, split = START + DAY * until, splits(toy(), days(until)[-1], days(10))
    past = [one for one in said if one[1] < until]
    table = events(toy(), 10)
    with_future = label(toy(), table, statements(toy(), *said), as_of, split)
    without = label(toy(), table.slice(0, until), statements(toy(), *past), as_of, split)
    assert with_future.drop_columns(["label"]).equals(without.drop_columns(["label"]))
    known = {n: {v for m, k, v in past if m == n and k == max(k for m, k, _ in past if m == n)} for n, _, _ in past}
    for key, value in zip(with_future["kettle_id"].to_pylist(), with_future["label"].to_pylist(), strict=True):
        assert value in known.get(int(key[1:]), {None})
