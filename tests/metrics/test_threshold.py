from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.metrics.threshold import best_f_beta, choose_threshold, cost_matrix, least_cost
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]
COSTS = {"0": {"1": 1.0}, "1": {"0": 5.0}}


def cost(threshold: float, scores: np.ndarray, y: np.ndarray, weight: np.ndarray, costs: np.ndarray) -> float:
    return float(weight @ costs[y, (scores >= threshold).astype(int)])


def f_beta(threshold: float, scores: np.ndarray, y: np.ndarray, weight: np.ndarray, beta: float) -> float:
    decided = scores >= threshold
    right = weight[decided & (y == 1)].sum()
    below = beta**2 * weight[y == 1].sum() + weight[decided].sum()
    return float((1 + beta**2) * right / below) if below else 0.0


@settings(max_examples=60)
@given(st.data(), st.integers(1, 15))
def test_no_other_threshold_is_better(data: st.DataObject, count: int) -> None:
    def numbers(values: st.SearchStrategy[Any], size: int = count) -> np.ndarray:
        return np.array(data.draw(st.lists(values, min_size=size, max_size=size)))

    scores = numbers(st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)))
    y, weight = numbers(st.integers(0, 1)), numbers(st.floats(0.1, 10))
    costs = numbers(st.integers(-3, 9), 4).reshape(2, 2).astype(float)
    others = [0.0, *scores, *np.nextafter(scores, 2)]
    found = least_cost(scores, y, weight, costs)
    assert cost(found, scores, y, weight, costs) <= min(cost(t, scores, y, weight, costs) for t in others) + 1e-6
    best = best_f_beta(scores, y, weight, 2.0)
    assert f_beta(best, scores, y, weight, 2.0) >= max(f_beta(t, scores, y, weight, 2.0) for t in others) - 1e-6
    assert 0 <= found <= np.nextafter(1, 2) and 0 <= best <= np.nextafter(1, 2)


def test_of_equal_thresholds_it_is_the_middle_of_the_widest_stretch() -> None:
    scores, y, even = np.array([0.1, 0.2, 0.6, 0.7]), np.array([0, 0, 1, 1]), np.ones(4)
    costs = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert least_cost(scores, y, even, costs) == pytest.approx(0.4)
    assert best_f_beta(scores, y, even, 1.0) == pytest.approx(0.4)
    assert least_cost(np.array([0.5]), np.array([1]), np.ones(1), np.zeros((2, 2))) == pytest.approx(0.5)


def test_wrong_decisions_that_cost_more_move_it() -> None:
    random = np.random.default_rng(1)
    scores = random.random(20_000)
    y = (random.random(20_000) < scores).astype(int)
    for false_positive, false_negative in ((1.0, 1.0), (1.0, 9.0), (4.0, 1.0)):
        costs = np.array([[0.0, false_positive], [false_negative, 0.0]])
        found = least_cost(scores, y, np.ones(20_000), costs)
        assert found == pytest.approx(false_positive / (false_positive + false_negative), abs=0.06), "Elkan, 2001"


def test_the_problem_says_what_decisions_cost_and_how_to_choose(toy: ToyProblem) -> None:
    assert cost_matrix(toy()) is None
    problem = toy(**{"costs.matrix": COSTS, "training.threshold": {"by": "cost"}})
    assert cost_matrix(problem) == [[0, 1], [5, 0]]
    random = np.random.default_rng(2)
    scores = random.random(2000)
    y, weight = (random.random(2000) < scores).astype(int), random.uniform(0.5, 2, 2000)
    assert choose_threshold(problem, scores, y, weight) == least_cost(scores, y, weight, np.array([[0, 1], [5, 0]]))
    by_f = toy(**{"training.threshold": {"by": "f_beta"}, "evaluation.beta": 3.0})
    assert choose_threshold(by_f, scores, y, weight) == best_f_beta(scores, y, weight, 3.0)
    assert best_f_beta(scores, y, weight, 3.0) < best_f_beta(scores, y, weight, 0.3)


def test_without_rows_there_is_nothing_to_choose_by(toy: ToyProblem) -> None:
    problem = toy(**{"training.threshold": {"by": "f_beta"}})
    with pytest.raises(DataError, match="no validation row"):
        choose_threshold(problem, np.empty(0), np.empty(0), np.empty(0))
