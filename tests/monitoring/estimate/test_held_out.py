"""The file of held-out rows comes back as it went."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from pipelines.metrics.scored import scored
from pipelines.monitoring.estimate import held_out
from pipelines.monitoring.estimate.held_out import from_parquet, to_parquet
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]


def rows(problem: Problem, count: int) -> pa.Table:
    times = pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * count, pa.timestamp("us", "UTC"))
    numbers = dict.fromkeys(problem.feature_names, pa.array(np.arange(count, dtype=float)))
    return pa.table(
        {
            "kettle_id": pa.array(map(str, range(count))),
            "partition": pa.array(["2024-01-01"] * count),
            "event_time": times,
            **numbers,
        }
    )


def test_two_classes_with_weights_and_threshold(toy: ToyProblem) -> None:
    test = rows(toy(), 4)
    found = scored(toy(), np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.3, 0.4]), np.array([1.0, 2, 3, 4]), 0.35)
    back = from_parquet(toy(), to_parquet(toy(), test, found))
    assert back.rows.column_names == ["partition", "event_time", *toy().feature_names], "and no key"
    assert back.rows.equals(test.select(back.rows.column_names))
    for name in ("labels", "scores", "weights", "decisions"):
        np.testing.assert_array_equal(getattr(back.scored, name), getattr(found, name))


def test_several_classes(toy: ToyProblem) -> None:
    problem = toy(task="multiclass", **{"labels.classes": ["a", "b", "c"], "features.history": {}})
    scores = np.array([[0.5, 0.25, 0.25], [0.0, 0.25, 0.75]])
    found = scored(problem, np.array([0, 2]), scores)
    back = from_parquet(problem, to_parquet(problem, rows(problem, 2), found))
    np.testing.assert_array_equal(back.scored.scores, scores)
    assert back.scored.classes == ("a", "b", "c")


def test_many_rows_are_sampled_by_the_seed(toy: ToyProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "ROWS", 10)
    test, found = rows(toy(), 50), scored(toy(), np.arange(50) % 2, np.arange(50) / 50)
    one, again, other = (to_parquet(toy(**{"training.seed": seed}), test, found) for seed in (1, 1, 2))
    assert one == again != other
    back = from_parquet(toy(), one)
    assert back.rows.num_rows == 10
    np.testing.assert_array_equal(
        back.scored.scores * 50, back.rows["litres"].to_numpy(), "rows and scores go together"
    )
