from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipelines.config import Imbalance
from pipelines.errors import ConfigError
from pipelines.training.imbalance import cost_of_error, effective_number, reweighed

METHODS = ["none", "class_weight", "class_balanced", "cost_matrix", "focal"]
COSTS = np.array([[0.0, 1.0, 3.0], [4.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
Y = np.array([0] * 90 + [1] * 10)


def _totals(weight: np.ndarray, y: np.ndarray, classes: int = 2) -> np.ndarray:
    return np.bincount(y, weights=weight, minlength=classes)


@given(
    y=arrays.arrays(np.int64, 20, elements=st.integers(0, 2)),
    weight=arrays.arrays(np.float64, 20, elements=st.sampled_from([0.0, 0.5, 1.0, 7.0])),
    method=st.sampled_from(METHODS),
)
@settings(max_examples=150)
def test_weights_keep_their_sum_are_never_negative_and_stay_equal_within_a_class(
    y: np.ndarray, weight: np.ndarray, method: str
) -> None:
    before = weight.copy()
    found = reweighed(Imbalance(method=method), y, weight, 3, COSTS)
    assert np.isfinite(found).all() and (found >= 0).all()
    assert found.sum() == pytest.approx(weight.sum())
    assert (found[weight == 0] == 0).all()
    np.testing.assert_array_equal(weight, before)
    for label in range(3):
        rows = (y == label) & (weight > 0)
        if rows.any():
            np.testing.assert_allclose(found[rows] / weight[rows], (found[rows] / weight[rows])[0])


def test_class_weight_gives_all_classes_the_same_total() -> None:
    weight = np.random.default_rng(0).random(100)
    found = reweighed(Imbalance(method="class_weight"), Y, weight, 2, None)
    np.testing.assert_allclose(_totals(found, Y), weight.sum() / 2)
    np.testing.assert_allclose(found[:90], weight[:90] * weight.sum() / (2 * weight[:90].sum()))


def test_a_class_without_rows_takes_no_part() -> None:
    found = reweighed(Imbalance(method="class_weight"), Y, np.ones(100), 5, None)
    np.testing.assert_allclose(_totals(found, Y, 5), [50, 50, 0, 0, 0])
    np.testing.assert_allclose(reweighed(Imbalance(method="class_balanced"), Y[:90], np.ones(90), 2, None), 1)


def test_class_balanced_lies_between_no_weights_and_class_weights_and_beta_says_where() -> None:
    def rare(beta: float) -> float:
        found = reweighed(Imbalance(method="class_balanced", beta=beta), Y, np.ones(100), 2, None)
        return float(_totals(found, Y)[1])

    assert rare(0.0) == pytest.approx(10)
    assert rare(1 - 1e-9) == pytest.approx(50, rel=1e-4)
    assert 10 < rare(0.9) < rare(0.99) < 50


def test_class_balanced_is_the_papers_formula_and_the_scale_of_the_weights_is_nothing() -> None:
    rule = Imbalance(method="class_balanced", beta=0.95)
    one, ten = (reweighed(rule, Y, np.full(100, scale), 2, None) for scale in (1.0, 10.0))
    expected = (1 - 0.95**90) / (1 - 0.95**10)
    assert one[-1] / one[0] == pytest.approx(expected)
    np.testing.assert_allclose(ten, one * 10)
    np.testing.assert_allclose(effective_number(np.array([2.0]), 0.5), 1.5)


def test_cost_matrix_weighs_by_the_mean_cost_of_being_wrong_over_being_right() -> None:
    np.testing.assert_allclose(cost_of_error(COSTS), [2, 4, 0])
    y = np.array([0, 1, 2])
    np.testing.assert_allclose(reweighed(Imbalance(method="cost_matrix"), y, np.ones(3), 3, COSTS), [1, 2, 0])
    gains = np.array([[-1.0, 1.0], [3.0, -1.0]])  # a right decision earns something
    np.testing.assert_allclose(cost_of_error(gains), [2, 4])
    np.testing.assert_allclose(cost_of_error(np.array([[5.0, 1.0], [1.0, 0.0]])), [0, 1])


def test_costs_that_are_all_alike_or_leave_nothing_to_learn_change_nothing() -> None:
    rule = Imbalance(method="cost_matrix")
    np.testing.assert_allclose(reweighed(rule, Y, np.ones(100), 2, 1 - np.eye(2)), 1)
    np.testing.assert_allclose(reweighed(rule, Y, np.ones(100), 2, np.zeros((2, 2))), 1)
    with pytest.raises(ConfigError, match="needs costs"):
        reweighed(rule, Y, np.ones(100), 2, None)


@pytest.mark.parametrize("method", METHODS)
def test_no_rows_and_rows_that_weigh_nothing_stay_as_they_are(method: str) -> None:
    rule = Imbalance(method=method)
    assert len(reweighed(rule, np.zeros(0, dtype=np.int64), np.zeros(0), 2, np.ones((2, 2)))) == 0
    np.testing.assert_array_equal(reweighed(rule, Y, np.zeros(100), 2, np.ones((2, 2))), 0)


@pytest.mark.parametrize("method", ["none", "focal"])
def test_none_and_focal_leave_the_weights(method: str) -> None:
    weight = np.random.default_rng(0).random(100)
    np.testing.assert_array_equal(reweighed(Imbalance(method=method), Y, weight, 2, None), weight)
