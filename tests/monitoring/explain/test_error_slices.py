"""A slice whose loss rose is found; one that was always hard, and a bad week for everyone, are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.metrics.scored import Scored
from pipelines.monitoring.explain.error_slices import error_slices, losses_of
from pipelines.problem import Problem
from tests.conftest import ToyProblem

COUNT = 12_000
DAYS = 40


@pytest.fixture
def problem(toy: ToyProblem) -> Problem:
    return toy(**{"evaluation.bootstrap": {"resamples": 100}})


def rows(seed: int = 0) -> tuple[pa.Table, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows of 40 days, of which the last 12 come after; losses of one distribution."""
    random = np.random.default_rng(seed)
    blocks = np.sort(random.integers(0, DAYS, COUNT))
    table = pa.table(
        {
            "shelf": random.choice(["top", "bottom"], COUNT),
            "litres": random.random(COUNT) * 5,
            "shelf_rate_3d": random.random(COUNT),
            "shelf_count_2d": random.integers(0, 30, COUNT),
        }
    )
    return table, random.exponential(0.5, COUNT), blocks >= 28, blocks


def test_a_slice_that_got_worse_is_found(problem: Problem) -> None:
    table, losses, is_after, blocks = rows()
    inside = np.asarray(table["litres"]) > 4
    losses = losses + 0.4 * (inside & is_after)
    found, looked_at = error_slices(problem, table, losses, is_after, blocks)
    assert looked_at > 100 and found
    worst = found[0]
    assert {one["feature"] for one in worst.conditions} == {"litres"}
    assert 0 < worst.low <= worst.excess <= worst.high and worst.excess == pytest.approx(0.4, abs=0.15)
    chosen = np.asarray(table["litres"]) > worst.conditions[0]["value"]
    assert worst.rows == (chosen & is_after).sum() and worst.rows_before == (chosen & ~is_after).sum()
    assert worst.loss == pytest.approx(losses[chosen & is_after].mean())
    assert worst.loss_before == pytest.approx(losses[chosen & ~is_after].mean())


def test_a_pair_that_got_worse_is_found_as_a_pair(problem: Problem) -> None:
    table, losses, is_after, blocks = rows(1)
    inside = (np.asarray(table["litres"]) > 3) & (np.asarray(table["shelf"]) == "top")
    found, _ = error_slices(problem, table, losses + 0.6 * (inside & is_after), is_after, blocks)
    assert {one["feature"] for one in found[0].conditions} == {"litres", "shelf"}


def test_neither_what_was_always_hard_nor_what_is_hard_for_all(problem: Problem) -> None:
    table, losses, is_after, blocks = rows(2)
    always = losses + 0.8 * (np.asarray(table["litres"]) > 4) + 0.5 * is_after
    found, looked_at = error_slices(problem, table, always, is_after, blocks)
    assert not found and looked_at > 100


def test_what_fell_less_than_elsewhere_has_not_risen(problem: Problem) -> None:
    table, losses, is_after, blocks = rows(7)
    easier = losses + 0.6 * ~is_after * (np.asarray(table["litres"]) <= 4)
    assert error_slices(problem, table, easier, is_after, blocks)[0] == []


def test_one_bad_day_is_no_slice(problem: Problem) -> None:
    table, losses, is_after, blocks = rows(3)
    losses = losses + 2.0 * ((np.asarray(table["shelf"]) == "top") & (blocks == 35))
    assert not error_slices(problem, table, losses, is_after, blocks)[0]


def test_min_rows_and_max_found_follow_the_config(toy: ToyProblem) -> None:
    table, losses, is_after, blocks = rows(4)
    worse = (
        losses + (np.asarray(table["litres"]) > 4) * is_after + (np.asarray(table["shelf_count_2d"]) > 25) * is_after
    )
    quick = {"evaluation.bootstrap": {"resamples": 100}}
    many, looked_at = error_slices(toy(**quick), table, worse, is_after, blocks)
    one, _ = error_slices(toy(**quick, **{"evaluation.slices": {"max_found": 1}}), table, worse, is_after, blocks)
    none, fewer = error_slices(
        toy(**quick, **{"evaluation.slices": {"min_rows": 2000}}), table, worse, is_after, blocks
    )
    assert len(many) > len(one) == 1 and looked_at > fewer and not none


@pytest.mark.parametrize("side", [np.zeros(COUNT, bool), np.ones(COUNT, bool)])
def test_one_side_alone_tells_nothing(problem: Problem, side: np.ndarray[Any, Any]) -> None:
    table, losses, _, blocks = rows(5)
    assert error_slices(problem, table, losses, side, blocks) == ([], 0)


def test_constant_columns_and_equal_losses(problem: Problem) -> None:
    table, losses, is_after, blocks = rows(6)
    empty = table.set_column(1, "litres", pa.nulls(COUNT, pa.float64())).set_column(0, "shelf", pa.array(["a"] * COUNT))
    assert error_slices(problem, empty, losses, is_after, blocks)[0] == []
    assert error_slices(problem, table, np.ones(COUNT), is_after, blocks)[0] == []


def test_what_is_lost_is_the_tasks() -> None:
    sure = Scored("binary", ("0", "1"), np.array([1, 0]), np.array([0.5, 0.5]), np.ones(2))
    number = Scored("regression", (), np.array([1.0, 3.0]), np.array([2.0, 3.0]), np.ones(2))
    assert losses_of(sure) == pytest.approx([np.log(2)] * 2) and losses_of(number).tolist() == [1, 0]
