from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.problem import Problem
from pipelines.training.folds import folds
from tests.config.test_deliveries import read as deliveries
from tests.conftest import ToyProblem


def days(*numbers: int) -> pa.Table:
    """Two rows for each day of 2024 that is named."""
    keys = [(date(2024, 1, 1) + timedelta(days=number)).isoformat() for number in numbers for _ in range(2)]
    return pa.table({"partition": keys, "row": list(range(len(keys)))})


def partitions(rows: pa.Table) -> list[int]:
    return sorted({(date.fromisoformat(key) - date(2024, 1, 1)).days for key in rows["partition"].to_pylist()})


def cut(problem: Problem, *numbers: int) -> list[tuple[list[int], list[int]]]:
    return [(partitions(earlier), partitions(measured)) for earlier, measured in folds(problem, days(*numbers))]


def test_each_fold_learns_from_all_before_it_and_the_newest_comes_last(toy: ToyProblem) -> None:
    assert cut(toy(), 0, 1, 2, 3, 4) == [([0, 1], [2]), ([0, 1, 2], [3]), ([0, 1, 2, 3], [4])]


def test_the_number_of_folds_and_what_each_is_measured_on_are_settings(toy: ToyProblem) -> None:
    problem = toy(**{"training.search": {"folds": 2, "fold_partitions": 2}})
    assert cut(problem, 0, 1, 2, 3, 4, 5, 6) == [([0, 1, 2], [3, 4]), ([0, 1, 2, 3, 4], [5, 6])]


def test_there_are_fewer_folds_where_partitions_are_few(toy: ToyProblem) -> None:
    assert cut(toy(), 0, 1, 2) == [([0], [1]), ([0, 1], [2])]
    assert cut(toy(**{"training.search": {"fold_partitions": 2}}), 0, 1, 2, 3) == [([0, 1], [2, 3])]


def test_an_embargo_keeps_out_what_was_not_mature_when_the_fold_began(toy: ToyProblem) -> None:
    # Labels of a day are in two days after its end: at the start of day 5 those of day 2 are, those of day 3 are not.
    late = toy(**{"labels.delay_days": 2})
    assert cut(late, 0, 1, 2, 3, 4, 5) == [([0], [3]), ([0, 1], [4]), ([0, 1, 2], [5])]
    mature = toy(**{"labels.delay_days": 1, "labels.maturity_days": 2})
    assert cut(mature, 0, 1, 2, 3, 4, 5) == cut(late, 0, 1, 2, 3, 4, 5)
    without = toy(**{"labels.delay_days": 2, "dataset.split": {"embargo": False}})
    assert cut(without, 0, 1, 2, 3, 4, 5)[-1] == ([0, 1, 2, 3, 4], [5])


def test_days_without_rows_count_in_the_embargo(toy: ToyProblem) -> None:
    assert cut(toy(**{"labels.delay_days": 3}), 0, 10, 11) == [([0], [10]), ([0], [11])]


def test_rows_keep_their_order_and_columns(toy: ToyProblem) -> None:
    rows = days(2, 0, 1)
    earlier, measured = folds(toy(), rows)[-1]
    assert earlier["row"].to_pylist() == [2, 3, 4, 5] and measured["row"].to_pylist() == [0, 1]


def test_a_group_that_is_measured_is_not_learnt_from(toy: ToyProblem) -> None:
    rows = days(0, 1, 2).append_column("shelf", pa.array(["top", None, "low", "mid", "top", None]))
    for group_by, learnt in (("shelf", [[0, 1], [1, 2, 3]]), (None, [[0, 1], [0, 1, 2, 3]])):
        problem = toy(**{"dataset.split": {"group_by": group_by}})
        assert [earlier["row"].to_pylist() for earlier, _ in folds(problem, rows)] == learnt
        assert len(folds(problem, rows.drop_columns(["shelf"]))) == 2
    one = days(0, 1).append_column("shelf", pa.array(["top"] * 4))
    with pytest.raises(DataError):
        folds(toy(**{"dataset.split": {"group_by": "shelf"}}), one)


@pytest.mark.parametrize("numbers", [(), (0,), (0, 1, 2)])
def test_without_a_fold_the_message_counts_what_is_needed(toy: ToyProblem, numbers: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="4 in a row are needed, 2 of which lie in the embargo") as error:
        folds(toy(**{"labels.delay_days": 2}), days(*numbers))
    assert f"rows of {len(numbers)} partitions" in error.value.what
    assert "training.search.fold_partitions" in error.value.cure


def test_rows_without_a_partition_are_in_no_fold(toy: ToyProblem) -> None:
    rows = pa.concat_tables([days(0, 1), pa.table({"partition": pa.array([None], pa.string()), "row": [9]})])
    assert [9 in side["row"].to_pylist() for fold in folds(toy(), rows) for side in fold] == [False, False]


@hypothesis_settings(max_examples=60)
@given(
    numbers=st.sets(st.integers(0, 40), min_size=1, max_size=15),
    wait=st.integers(0, 5),
    count=st.integers(1, 4),
    length=st.integers(1, 3),
    every=st.sampled_from(["hour", "day", "week", "month"]),
    embargo=st.booleans(),
)
def test_no_fold_ever_learns_from_the_future(
    toy: ToyProblem, numbers: set[int], wait: int, count: int, length: int, every: str, embargo: bool
) -> None:
    problem = toy(
        **{
            "partitions": {"every": every, "first": "2024-01-01", "timezone": "Europe/Berlin"},
            "labels.delay_days": wait,
            "dataset.split": {"embargo": embargo},
            "training.search": {"folds": count, "fold_partitions": length},
        }
    )
    parts = problem.partitions
    rows = pa.table({"partition": sorted(2 * [parts.shift(parts.first_key, number) for number in numbers])})
    try:
        found = folds(problem, rows)
    except DataError:
        found = []
        keys = sorted(set(rows["partition"].to_pylist()))
        start = parts.start(keys[-length]) if len(keys) >= length else None
        gap = timedelta(days=wait if embargo else 0)
        assert start is None or not [key for key in keys if parts.end(key) + gap <= start], "a fold was possible"
    assert len(found) <= count
    seen: list[str] = []
    for earlier, measured in found:
        assert earlier.num_rows and len(measured["partition"].unique()) == length
        start = parts.start(pc.min(measured["partition"]).as_py())
        end = parts.end(pc.max(earlier["partition"]).as_py())
        assert end + timedelta(days=wait if embargo else 0) <= start
        assert not seen or min(measured["partition"].to_pylist()) > max(seen), "no row is measured twice"
        seen += measured["partition"].to_pylist()
    assert not found or max(seen) == max(rows["partition"].to_pylist()), "the newest rows are measured"


def test_rows_of_deliveries_are_drawn_for_folds_all_of_a_key_together() -> None:
    problem = deliveries(training={"search": {"folds": 3}})
    rows = pa.table({"customer": [f"c{number % 60}" for number in range(180)], "row": list(range(180))})
    pairs = folds(problem, rows)
    assert len(pairs) == 3
    assert sorted(row for _, measured in pairs for row in measured["row"].to_pylist()) == list(range(180))
    for learnt, measured in pairs:
        assert not set(learnt["customer"].to_pylist()) & set(measured["customer"].to_pylist())
        assert learnt.num_rows + measured.num_rows == 180
    with pytest.raises(DataError, match="1 rows are too few for 3 folds"):
        folds(problem, rows.slice(0, 1))
