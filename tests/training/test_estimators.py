from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.training.estimators import Prior, Random, Setting, fit_estimator, scores_of
from pipelines.training.model import TRUSTED_TYPES

FLOATS = st.one_of(st.floats(width=32, allow_nan=False), st.just(float("nan")), st.just(-0.0), st.just(0.0))


def matrix(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def drawn(
    task: str, y: np.ndarray, weight: np.ndarray, rows: np.ndarray, seed: int = 0, classes: int = 0
) -> np.ndarray:
    return Random(task, classes, seed).fit(np.empty((len(y), 0)), y, weight).scores(rows)


@settings(max_examples=40)
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=20), st.data())
def test_a_random_score_is_of_the_row_whatever_comes_with_it(values: list[tuple[float, float]], data: Any) -> None:
    rows = np.array(values, dtype=np.float32)
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    y = np.random.default_rng(0).normal(size=50)
    together = drawn("regression", y, np.ones(50), rows)
    assert np.array_equal(drawn("regression", y, np.ones(50), rows[order]), together[order])
    assert np.array_equal(drawn("regression", y, np.ones(50), rows[:1]), together[:1])
    zeros = rows.copy()
    zeros[zeros == 0] = 0.0
    assert np.array_equal(drawn("regression", y, np.ones(50), zeros), together), "-0.0 and 0.0 are one number"


def test_random_scores_are_drawn_from_the_labels() -> None:
    rows, y = matrix(20_000), np.array([0, 0, 0, 1])
    binary = drawn("binary", y, np.ones(4), rows, classes=2)
    assert set(binary) == {0.0, 1.0} and binary.mean() == pytest.approx(0.25, abs=0.02)
    heavier = drawn("binary", y, np.array([1.0, 1, 1, 3]), rows, classes=2)
    assert heavier.mean() == pytest.approx(0.5, abs=0.02)
    several = drawn("multiclass", np.array([0, 2, 2, 2]), np.ones(4), rows, classes=3)
    assert several.sum(axis=1) == pytest.approx(1) and several.mean(axis=0) == pytest.approx([0.25, 0, 0.75], abs=0.02)
    values = np.random.default_rng(1).exponential(size=5000)
    found = drawn("regression", values, np.ones(5000), rows)
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(found, share) == pytest.approx(np.quantile(values, share), rel=0.1)
    assert not np.array_equal(found, drawn("regression", values, np.ones(5000), rows, seed=1))
    assert abs(np.corrcoef(found, rows[:, 0])[0, 1]) < 0.03, "and not from the features"


def test_prior_is_the_weighted_share_or_mean() -> None:
    rows, weight = matrix(5), np.array([1.0, 3.0])
    assert Prior("binary", 2).fit(np.array([0, 1]), weight).scores(rows) == pytest.approx([0.75] * 5)
    several = Prior("multiclass", 3).fit(np.array([0, 2]), weight).scores(rows)
    assert several.tolist() == [[0.25, 0, 0.75]] * 5
    assert Prior("regression", 0).fit(np.array([10.0, 20.0]), weight).scores(rows) == pytest.approx([17.5] * 5)


def test_hist_boosting_takes_categories_as_such_as_long_as_they_are_few() -> None:
    """Codes without order: as numbers two leaves could not tell them apart, as categories they can."""
    random = np.random.default_rng(2)
    code = random.integers(0, 40, 4000)
    is_on = random.permutation(np.arange(40) % 2 == 0)[code]
    y = (random.random(4000) < np.where(is_on, 0.9, 0.1)).astype(int)
    rows = code[:, None].astype(np.float32)
    few = {"max_iter": 1, "max_leaf_nodes": 2, "learning_rate": 1.0}
    spread = [np.ptp(scores_of(hist(rows, y, few, is_category), rows, "binary", 2)) for is_category in (False, True)]
    assert spread[0] < 0.5 < spread[1]
    many = (code + 300 * random.integers(0, 3, 4000))[:, None].astype(np.float32)
    assert hist(many, y, {}, True).is_categorical_ is None or not hist(many, y, {}, True).is_categorical_.any()
    assert np.isfinite(scores_of(hist(many, y, {}, True), np.array([[np.nan], [9999]], np.float32), "binary", 2)).all()
    assert hist(np.full((4000, 1), np.nan, np.float32), y, {}, True) is not None


def hist(rows: np.ndarray, y: np.ndarray, parameters: dict[str, Any], is_category: bool) -> Any:
    setting = Setting("binary", 2, 0, 1, "cpu", [is_category])
    return fit_estimator("hist_boosting", {"max_iter": 5} | parameters, setting, rows, y, np.ones(len(y)))


def test_hist_boosting_that_stops_by_a_metric_can_be_written_to_a_file() -> None:
    rows, y = matrix(300), np.random.default_rng(5).integers(0, 2, 300)
    held_out = (rows[:50], y[:50], np.ones(50))
    setting, parameters = Setting("binary", 2, 0), {"scoring": "neg_log_loss", "max_iter": 3}
    fitted = fit_estimator("hist_boosting", parameters, setting, rows, y, np.ones(300), held_out)
    again = skops.io.loads(skops.io.dumps(fitted), trusted=TRUSTED_TYPES)
    assert np.array_equal(scores_of(again, rows, "binary", 2), scores_of(fitted, rows, "binary", 2))


def test_a_forest_scores_alike_however_many_threads_fitted_it() -> None:
    rows, y = matrix(500), np.random.default_rng(3).integers(0, 2, 500)
    one, two = (
        fit_estimator("forest", {"n_estimators": 20}, Setting("binary", 2, 0, threads), rows, y, np.ones(500))
        for threads in (1, 2)
    )
    assert two.n_jobs == 1, "threads add up the trees in any order"
    assert np.array_equal(scores_of(one, rows, "binary", 2), scores_of(two, rows, "binary", 2))


def test_parameters_reach_the_estimators() -> None:
    rows, y, even = matrix(200), np.random.default_rng(4).normal(size=200), np.ones(200)
    setting = Setting("regression", 0, 0)
    weak, strong = (fit_estimator("linear", {"alpha": alpha}, setting, rows, y, even) for alpha in (1e-6, 1e4))
    assert np.abs(strong.coef_).sum() < 0.1 * np.abs(weak.coef_).sum()
    assert len(fit_estimator("forest", {"n_estimators": 3}, setting, rows, y, even).estimators_) == 3
    assert fit_estimator("hist_boosting", {"max_iter": 4}, setting, rows, y, even).n_iter_ == 4
