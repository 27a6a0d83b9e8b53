"""Counterfactuals on rows whose nature is known: what would help is found to, and what would not is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import Action
from pipelines.monitoring.decide.readings import (
    Place,
    Reading,
    as_scored,
    fresher,
    proxies,
    reading,
    recalibrated,
    worth,
)
from tests.training.kettles import kettles

WHERE = Place("2024-02-01", "1")
AGES: Any = {"retrain": 5, "continue": 2}


@pytest.fixture
def problem(toy: Any) -> Any:
    return toy(**{"training.threads": 1, "evaluation.bootstrap": {"resamples": 60, "block": "row"}})


def turned(rows: pa.Table) -> pa.Table:
    """Full kettles do not boil over any more."""
    other = pa.array(1 - rows["label"].to_numpy(), pa.int8())
    return rows.set_column(rows.schema.get_field_index("label"), "label", other)


def parts(fresh: pa.Table, newest: pa.Table) -> dict[str, pa.Table]:
    return {"fresh": fresh, "newer": fresh, "newest": newest}


def read(problem: Any, rows: dict[str, pa.Table], candidate: str = "xgboost", **more: Any) -> list[Reading]:
    """The readings of rows that the champion's six days are held against."""
    stale = more.pop("stale", [kettles(6, 100)])
    place, ages = WHERE._replace(window_from=more.get("window_from")), more.get("ages", AGES)
    return fresher(problem, candidate, place, ages, stale, rows, np.arange(rows["newest"].num_rows))


def of(way: str, found: list[Reading]) -> Reading:
    return next(one for one in found if one.way == way and one.window_from is None)


def test_fresher_data_is_worth_nothing_where_nothing_changed(problem: Any) -> None:
    newest = kettles(4, 100, seed=9)
    found = read(problem, parts(kettles(6, 100, seed=1), newest))
    assert {one.way for one in found} == {"retrain", "continue"}
    assert abs(of("retrain", found).value) < 0.15
    assert of("retrain", found).age == 5 and set(of("retrain", found).metrics) == {"auc", "log_loss"}


def test_fresher_data_is_worth_a_lot_where_the_world_turned(problem: Any) -> None:
    newest, new = turned(kettles(4, 100, seed=9)), turned(kettles(6, 100, seed=1))
    found = read(problem, parts(new, newest))
    for way, least in (("retrain", 0.3), ("continue", 0.02)):
        one = of(way, found)
        assert one.value > least and one.low is not None and one.low > 0
    assert of("retrain", found).value > of("continue", found).value


def test_a_continuation_goes_as_far_as_the_config_says(toy: Any) -> None:
    newest, new = turned(kettles(4, 100, seed=9)), turned(kettles(6, 100, seed=1))
    values = []
    for rounds in (1, 40):
        problem = toy(**{"training.threads": 1, "training.update": {"rounds": rounds, "learning_rate": 0.1}})
        found = read(problem, parts(new, newest))
        values.append(of("continue", found).value)
    assert values[0] < values[1]


def test_a_window_is_held_against_all_partitions(problem: Any) -> None:
    newest, new = turned(kettles(4, 100, seed=9)), turned(kettles(3, 100, seed=1, first=6))
    rows = parts(pa.concat_tables([kettles(6, 100), new]), newest) | {"window": new}
    found = read(problem, rows, window_from="2024-01-07")
    (window,) = [one for one in found if one.window_from]
    assert window.low is not None and window.low > 0


def test_a_continued_champion_is_not_as_fresh_as_one_from_scratch(problem: Any) -> None:
    newest, new = turned(kettles(4, 100, seed=9)), turned(kettles(6, 100, seed=1))
    once = read(problem, parts(new, newest), stale=[kettles(6, 100), new], ages={"retrain": 5, "continue": 0})
    assert [one.way for one in once] == ["retrain"], "there is nothing newer to go on with"
    whole = read(problem, parts(new, newest), stale=[new], ages={"retrain": 5, "continue": 0})
    assert once[0].value > 0.1 > abs(whole[0].value)


def test_the_same_rows_give_the_same_readings(problem: Any) -> None:
    newest = kettles(4, 100, seed=9)
    rows = parts(kettles(6, 100, seed=1), newest)
    assert read(problem, rows) == read(problem, rows)


@pytest.mark.parametrize("bad", ["one class", "no rows", "one row"])
def test_what_cannot_be_fitted_is_left_out(problem: Any, bad: str) -> None:
    newest = kettles(4, 100, seed=9)
    poor = {
        "no rows": newest.slice(0, 0),
        "one row": newest.slice(0, 1),
        "one class": newest.filter(pa.compute.equal(newest["label"], 1)),
    }[bad]
    assert read(problem, parts(newest, newest), stale=[poor]) == []
    alone = proxies(problem, "xgboost", [newest], poor, poor, newest)
    assert set(alone) == {"keep"}
    nothing = read(problem, parts(newest, poor))
    assert nothing == [] or bad == "one class"


def test_other_models_have_no_continuation(toy: Any) -> None:
    candidates = {"prior": {"model": "prior"}, "logistic": {"model": "logistic"}}
    problem = toy(**{"training.candidates": candidates, "training.threads": 1})
    rows = kettles(6, 100)
    assert set(proxies(problem, "logistic", [rows], rows, rows, rows)) == {"keep", "retrain"}


def test_regression(toy: Any) -> None:
    candidates = {"prior": {"model": "prior"}, "xgboost": {"model": "xgboost"}}
    gate = {"limits": {"r2": {"min": 0}}, "gain_over_baselines": {"r2": 0}, "gain_over_champion": {"r2": 0}}
    changes = {
        "task": "regression",
        "training.candidates": candidates,
        "training.threads": 1,
        "training.select_by": "rmse",
        "gate": {"slices": None, **gate},
        "evaluation.bootstrap": {"block": "row"},
    }
    problem = toy(**changes)
    rows = kettles(6, 100)
    rows = rows.set_column(rows.schema.get_field_index("label"), "label", rows["litres"])
    other = rows.set_column(rows.schema.get_field_index("label"), "label", pa.compute.negate(rows["litres"]))
    found = read(problem, parts(other, other), stale=[rows])
    assert of("retrain", found).value > 1 and set(of("retrain", found).metrics) == {"r2"}
    assert recalibrated(problem, as_scored(problem, rows, rows["label"].to_numpy()), np.ones(3)) is None


def test_a_calibration_mends_scores_that_are_off(problem: Any) -> None:
    random = np.random.default_rng(0)
    chance = random.uniform(0.05, 0.6, 2_000)
    labels = (random.random(2_000) < chance).astype(np.int8)
    rows = pa.table({"label": labels, "weight": np.ones(2_000)})
    off = np.sqrt(chance)
    mended = recalibrated(problem, as_scored(problem, rows, off), off)
    assert mended is not None
    keep = as_scored(problem, rows, off)
    found = reading(
        problem,
        Action.RECALIBRATE,
        Place("a", "1"),
        as_scored(problem, rows, mended),
        keep,
        np.arange(2_000),
    )
    assert found is not None and found.low is not None and found.low > 0
    assert found.metrics["auc"] == pytest.approx(0, abs=1e-9)
    one_class = pa.table({"label": np.ones(9, np.int8), "weight": np.ones(9)})
    assert recalibrated(problem, as_scored(problem, one_class, np.full(9, 0.5)), off) is None
    undefined = as_scored(problem, one_class, np.full(9, 0.5))
    assert reading(problem, Action.RETRAIN, Place("a", "1"), undefined, undefined, np.arange(9)) is None


def test_worth_decides_what_counts(toy: Any) -> None:
    problem = toy(**{"monitoring.policy": {"worth": {"auc": 300}}})
    assert worth(problem) == {"auc": 300}
    rows = kettles(4, 50)
    ours, keep = rows["litres"].to_numpy(), np.full(200, 0.5)
    ours = (ours - ours.min()) / np.ptp(ours)
    found = reading(
        problem, Action.RETRAIN, WHERE, as_scored(problem, rows, ours), as_scored(problem, rows, keep), np.arange(200)
    )
    assert found is not None and found.value == pytest.approx(300 * found.metrics["auc"])
