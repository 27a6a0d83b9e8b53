from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from pipelines.evaluation.report.operating import curves
from pipelines.metrics.metrics import METRICS
from pipelines.metrics.scored import Scored


def binary(rows: int = 3_000, **settings: Any) -> Scored:
    random = np.random.default_rng(0)
    labels = (random.random(rows) < 0.1).astype(int)
    scores = 1 / (1 + np.exp(4 - labels * 2 - random.normal(size=rows)))
    weights = random.choice([0.0, 1.0, 3.0], rows)
    return Scored("binary", ("0", "1"), labels, scores, weights, **settings)


def test_curves_are_scikit_learns_in_at_most_200_points() -> None:
    one = binary()
    found = curves(one)
    assert found.keys() == {"precision_recall", "roc"}
    roc = found["roc"]
    x, y = np.array(roc["false_positive_rate"]), np.array(roc["true_positive_rate"])
    assert len(x) == len(y) <= 200
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    wanted_x, wanted_y, _ = sklearn.metrics.roc_curve(one.labels, one.scores, sample_weight=one.weights)
    assert np.trapezoid(y, x) == pytest.approx(sklearn.metrics.auc(wanted_x, wanted_y), abs=2e-3)
    points = {(round(a, 9), round(b, 9)) for a, b in zip(*sklearn_pr(one), strict=True)}
    pairs = zip(found["precision_recall"]["recall"], found["precision_recall"]["precision"], strict=True)
    assert {(round(a, 9), round(b, 9)) for a, b in pairs} <= points


def sklearn_pr(one: Scored) -> tuple[Any, Any]:
    used = one.take(one.weights > 0)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(used.labels, used.scores, sample_weight=used.weights)
    return recall, precision


def test_the_cost_of_a_threshold_is_the_cost_of_deciding_by_it() -> None:
    costs = np.array([[0.0, 1.0], [7.0, -2.0]])
    found = curves(binary(costs=costs))["threshold_cost"]
    assert len(found["threshold"]) <= 200
    assert found["threshold"] == sorted(found["threshold"])
    for threshold, cost in list(zip(found["threshold"], found["cost"], strict=True))[::20]:
        decided = binary(costs=costs, threshold=threshold)
        assert METRICS["cost"].function(decided) == pytest.approx(cost)
    last = binary(costs=costs, threshold=found["threshold"][-1])
    assert not last.decisions[last.weights > 0].any()  # the highest threshold decides for nobody


def test_what_is_not_defined_has_no_curve() -> None:
    ones = np.ones(3)
    assert curves(Scored("binary", ("0", "1"), np.zeros(3, int), ones / 2, ones)) == {}
    assert curves(Scored("binary", ("0", "1"), np.array([0, 1, 1]), ones / 2, np.zeros(3))) == {}
    assert curves(Scored("regression", (), ones, ones, ones)) == {}
    constant = curves(Scored("binary", ("0", "1"), np.array([0, 1, 1]), ones / 2, ones, costs=np.eye(2)))
    assert constant["roc"] == {"false_positive_rate": [0.0, 1.0], "true_positive_rate": [0.0, 1.0]}
    assert constant["precision_recall"] == {"recall": [1.0], "precision": [pytest.approx(2 / 3)]}
    assert len(constant["threshold_cost"]["cost"]) == 2
