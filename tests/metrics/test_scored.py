from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.errors import DataError
from pipelines.metrics.scored import Scored, scored
from tests.conftest import ToyProblem

THREE = ("a", "b", "c")


def three(**settings: Any) -> Scored:
    scores = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    return Scored("multiclass", THREE, np.array([0, 1]), scores, np.ones(2), **settings)


def test_a_binary_decision_goes_by_the_threshold() -> None:
    one = Scored("binary", ("0", "1"), np.array([0, 1, 1]), np.array([0.2, 0.4, 0.5]), np.ones(3), threshold=0.4)
    assert one.decisions.tolist() == [0, 1, 1]


def test_of_several_classes_the_likeliest_is_decided_or_what_is_expected_to_cost_least() -> None:
    assert three().decisions.tolist() == [0, 2]
    costs = np.array([[0, 1, 1], [20, 0, 20], [1, 1, 0]])  # to miss b is dear
    assert three(costs=costs).decisions.tolist() == [1, 1]
    assert three().has_costs is False
    assert three(costs=costs).has_costs is True


def test_a_regression_decides_for_its_score() -> None:
    one = Scored("regression", (), np.array([1, 2]), np.array([1.5, 2.5]), np.ones(2), over=1.0)
    assert one.decisions.tolist() == [1.5, 2.5]
    assert one.labels.dtype == np.float64
    assert one.has_costs


@pytest.mark.parametrize("which", [np.array([False, True]), np.array([1])])
def test_rows_are_taken_by_mask_or_position(which: np.ndarray) -> None:
    part = three(threshold=0.3, bins=7).take(which)
    assert (part.labels.tolist(), part.decisions.tolist(), part.bins) == ([1], [2], 7)


def test_settings_come_from_the_problem(toy: ToyProblem) -> None:
    problem = toy(
        **{
            "costs": {"matrix": {"0": {"1": 2}, 1: {0: 5.5}}},
            "evaluation.beta": 2,
            "evaluation.calibration_bins": 4,
        }
    )
    found = scored(problem, np.array([0, 1]), np.array([0.2, 0.7]), threshold=0.3)
    assert found.costs is not None
    assert found.costs.tolist() == [[0, 2], [5.5, 0]]
    assert (found.beta, found.bins, found.threshold, found.weights.tolist()) == (2, 4, 0.3, [1, 1])
    assert scored(toy(), np.array([0]), np.array([0.2])).costs is None
    number = toy(
        **{
            "task": "regression",
            "training.select_by": "rmse",
            "costs": {"over": 2, "under": 7},
            "gate": {
                "limits": {"rmse": {"max": 9}},
                "gain_over_baselines": {"rmse": 0},
                "gain_over_champion": {"rmse": 0},
                "slices": None,
            },
        }
    )
    assert (found := scored(number, np.array([1.0]), np.array([2.0]))).has_costs
    assert (found.over, found.under) == (2, 7)


@pytest.mark.parametrize(
    ("task", "labels", "scores", "weights", "message"),
    [
        ("binary", [0, 1], [0.5], [1, 1], "do not go together"),
        ("binary", [0, 1], [0.5, 0.5], [1], "do not go together"),
        ("multiclass", [0, 1], [0.5, 0.5], [1, 1], "do not go together"),
        ("binary", [0, 2], [0.5, 0.5], [1, 1], "neither 0 nor 1"),
        ("binary", [0, np.nan], [0.5, 0.5], [1, 1], "neither 0 nor 1"),
        ("binary", [0, 1], [0.5, np.nan], [1, 1], "not a probability"),
        ("binary", [0, 1], [0.5, 1.5], [1, 1], "not a probability"),
        ("binary", [0, 1], [0.5, 0.5], [1, -1], "negative or not finite"),
        ("binary", [0, 1], [0.5, 0.5], [1, np.inf], "negative or not finite"),
        ("multiclass", [3], [[0.5, 0.3, 0.2]], [1], "none of the 3 classes"),
        ("multiclass", [1], [[0.5, 0.3, 0.1]], [1], "do not add up to 1"),
        ("regression", [np.nan], [1.0], [1], "label is not finite"),
        ("regression", [1.0], [np.inf], [1], "score is not finite"),
    ],
)
def test_nonsense_is_refused(task: Any, labels: list[Any], scores: list[Any], weights: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Scored(task, THREE if task == "multiclass" else (), np.array(labels), np.array(scores), np.array(weights))
