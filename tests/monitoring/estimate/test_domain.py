"""Whether two sets of rows can be told apart, and the weights that make one look like the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.config import Bootstrap
from pipelines.metrics.scored import Scored
from pipelines.monitoring.estimate.domain import Domain, domain
from pipelines.monitoring.estimate.estimate import estimate, metrics_of
from pipelines.problem import Problem
from pipelines.training.calibrate import sigmoid

RULE = Bootstrap(resamples=100)
ToyProblem = Callable[..., Problem]


def kettles(count: int, seed: int, litres: float = 1.0, top: float = 0.5, weather: int = 0) -> pa.Table:
    """Features of the toy problem; with `weather`, the rate is one number a day for so many rows a day."""
    random = np.random.default_rng(seed)
    rate = random.random(count // weather + 1)[np.arange(count) // weather] if weather else random.random(count)
    return pa.table(
        {
            "shelf": np.where(random.random(count) < top, "top", "bottom"),
            "litres": pa.array(random.normal(litres, 0.5, count), mask=random.random(count) < 0.1),
            "shelf_rate_3d": rate,
            "shelf_count_2d": random.integers(0, 9, count).astype(float),
        }
    )


def days(count: int, a_day: int = 100) -> Any:
    return np.arange(count) // a_day


def test_rows_of_one_kind_are_not_told_apart(toy: ToyProblem) -> None:
    found = domain(toy(), kettles(2_000, 0), days(2_000), kettles(1_000, 1), days(1_000), RULE)
    assert found is not None and not found.has_moved
    assert abs(found.auc["value"] - 0.5) < 0.05
    assert found.rows > 1_000 and found.blocks > 15 and 0.9 < found.overlap < 1.1


def test_a_day_is_not_told_by_heart(toy: ToyProblem) -> None:
    """Every row of a day has its day's number: no shift, though each day's rows give themselves away."""
    sides = kettles(2_000, 0, weather=100), days(2_000), kettles(1_000, 1, weather=100), days(1_000)
    by_day = domain(toy(), *sides, RULE)
    rows = sides[0], np.arange(2_000), sides[2], np.arange(1_000)
    by_row = domain(toy(), *rows, RULE)
    assert by_day is not None and by_row is not None
    assert not by_day.has_moved
    assert by_row.auc["value"] > 0.9, "which folds of single rows would have taken for a shift"


def test_weights_make_held_out_rows_look_like_the_partition(toy: ToyProblem) -> None:
    held_out, partition = kettles(3_000, 0), kettles(1_500, 1, litres=1.4, top=0.8)
    found = domain(toy(), held_out, days(3_000), partition, days(1_500), RULE)
    assert found is not None and found.has_moved and found.auc["value"] > 0.65
    assert np.isclose(found.weights.mean(), 1) and found.weights.min() > 0
    is_top = np.array(held_out["shelf"]) == "top"
    litres = held_out["litres"].to_numpy()
    there = ~np.isnan(litres)
    assert abs(np.average(is_top, weights=found.weights) - 0.8) < 0.06
    assert abs(np.average(litres[there], weights=found.weights[there]) - 1.4) < 0.1
    assert found.rows < 2_500 and 0.8 < found.overlap < 1.25


def test_weights_mend_an_estimate_where_an_input_moved_that_the_score_does_not_know(toy: ToyProblem) -> None:
    """The label hangs on shelf and litres, the score on litres alone; later most kettles stand on the top shelf."""

    def labelled(rows: pa.Table, seed: int) -> Scored:
        litres = rows["litres"].fill_null(1.0).to_numpy()
        chance = sigmoid(2 * (litres - 1) + np.where(np.array(rows["shelf"]) == "top", 1.5, -1.5))
        labels = np.random.default_rng(seed).random(rows.num_rows) < chance
        return Scored("binary", ("0", "1"), labels, sigmoid(2 * (litres - 1) - 0.7), np.ones(rows.num_rows))

    held_out, partition = kettles(4_000, 0, top=0.3), kettles(2_000, 1, top=0.8)
    known, later = labelled(held_out, 2), labelled(partition, 3)
    found = domain(toy(), held_out, days(4_000), partition, days(2_000), RULE)
    assert found is not None and found.why_not(200) is None
    plain, weighted = (
        estimate(replace(known, weights=weights), days(4_000), later.scores, days(2_000), RULE)
        for weights in (known.weights, known.weights * found.weights)
    )
    for name in ("positive_rate", "log_loss", "precision"):
        came = metrics_of(later)[name](later)
        assert abs(weighted[name]["value"] - came) < abs(plain[name]["value"] - came) / 2, name
        assert weighted[name]["low"] <= came <= weighted[name]["high"], name


def test_another_world_leaves_few_effective_rows(toy: ToyProblem) -> None:
    rare = pa.concat_tables([kettles(1_980, 0), kettles(20, 2, litres=4.0)])
    found = domain(toy(), rare, days(2_000), kettles(1_000, 1, litres=4.0), days(1_000), RULE)
    assert found is not None and found.has_moved and found.auc["value"] > 0.95
    assert found.rows < 200 and found.blocks < 5


def test_constant_empty_and_new_columns_break_nothing(toy: ToyProblem) -> None:
    held_out, partition = kettles(500, 0), kettles(300, 1)
    nothing = {"shelf": pa.array(["top"] * 500), "litres": pa.nulls(500, pa.float64())}
    still = pa.table({**nothing, "shelf_rate_3d": np.zeros(500), "shelf_count_2d": np.zeros(500)})
    assert domain(toy(), still, days(500), still.slice(0, 300), days(300), RULE) is None
    gone = partition.set_column(1, "litres", pa.nulls(300, pa.float64())).set_column(
        0, "shelf", pa.array(["attic"] * 300)
    )
    found = domain(toy(), held_out, days(500), gone, days(300), RULE)
    assert found is not None and found.auc["value"] > 0.95
    single = domain(toy(), held_out, days(500), partition.slice(0, 1), days(1), RULE)
    assert single is not None and np.isfinite(single.weights).all()


def test_weights_are_used_where_inputs_moved_and_enough_is_left() -> None:
    moved, still = {"value": 0.8, "low": 0.7, "high": 0.9}, {"value": 0.51, "low": 0.47, "high": 0.55}
    assert Domain(moved, np.ones(1), 300, 8, 1).why_not(200) is None
    assert Domain(moved, np.ones(1), 300, 8, 1).why_not(301) == "weights would leave 300 effective rows, fewer than 301"
    assert "2.5 effective blocks" in str(Domain(moved, np.ones(1), 300, 2.5, 1).why_not(200))
    assert "make up 10%" in str(Domain(moved, np.ones(1), 300, 8, 0.1).why_not(200))
    assert "not moved" in str(Domain(still, np.ones(1), 300, 8, 1).why_not(200))
    undefined = {"value": 0.8, "low": None, "high": None}
    assert "not moved" in str(Domain(undefined, np.ones(1), 300, 8, 1).why_not(200))


def test_weights_that_are_equal_because_nothing_is_alike_are_not_used(toy: ToyProblem) -> None:
    found = domain(toy(), kettles(2_000, 0), days(2_000), kettles(1_000, 1, litres=30.0), days(1_000), RULE)
    assert found is not None and found.auc["value"] > 0.99
    assert found.rows > 200 and found.blocks > 5, "by themselves they look good"
    assert found.overlap < 0.2 and "kind" in str(found.why_not(200))
