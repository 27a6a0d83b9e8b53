"""The NumPy metrics equal scikit-learn's, whatever the labels, scores and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.evaluation import metrics
from pipelines.evaluation.metrics import METRICS

TRUTH: dict[str, Any] = {
    "auc": sklearn.metrics.roc_auc_score,
    "average_precision": sklearn.metrics.average_precision_score,
    "log_loss": sklearn.metrics.log_loss,
    "brier": sklearn.metrics.brier_score_loss,
}

ROW = st.tuples(
    st.integers(0, 1),
    st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1)),  # ties, both ends, and anything
    st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.01, 100)),
)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("is_weighted", [False, True])
@settings(deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=50))
def test_equals_scikit_learn(name: str, is_weighted: bool, rows: list[tuple[int, float, float]]) -> None:
    rows = [*rows, (0, 0.3, 1.0), (1, 0.3, 2.0)]  # both classes are there, with weight
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    used = weights if is_weighted else None
    found = METRICS[name].function(labels, scores, used)
    assert found == pytest.approx(TRUTH[name](labels, scores, sample_weight=used), rel=1e-9, abs=1e-12)


def test_every_metric_has_its_truth() -> None:
    assert METRICS.keys() == TRUTH.keys()


@pytest.mark.parametrize("name", METRICS)
def test_a_better_model_scores_better(name: str) -> None:
    labels = np.array([0, 0, 1, 1])
    good, bad = (
        METRICS[name].function(labels, np.array(scores), None)
        for scores in ([0.1, 0.2, 0.8, 0.9], [0.6, 0.7, 0.3, 0.8])
    )
    assert good is not None and bad is not None
    assert (good > bad) is METRICS[name].higher_is_better


def test_rates_are_weighted() -> None:
    labels, scores, weights = np.array([1, 0]), np.array([0.8, 0.4]), np.array([3.0, 1.0])
    assert metrics.positive_rate(labels, scores, weights) == 0.75
    assert metrics.mean_score(labels, scores, weights) == pytest.approx(0.7)


@pytest.mark.parametrize("label", [0, 1])
def test_auc_of_one_class_is_undefined(label: int) -> None:
    assert metrics.auc(np.full(3, label), np.array([0.1, 0.2, 0.3])) is None


def test_precision_without_a_positive_is_undefined() -> None:
    assert metrics.average_precision(np.zeros(2), np.array([0.1, 0.2])) is None


@pytest.mark.parametrize("name", METRICS)
def test_nothing_of_no_rows(name: str) -> None:
    assert METRICS[name].function(np.array([]), np.array([]), None) is None


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "message"),
    [
        ([0, 1], [0.5], None, "2 labels, 1 scores"),
        ([0, 2], [0.5, 0.5], None, "neither 0 nor 1"),
        ([0, np.nan], [0.5, 0.5], None, "neither 0 nor 1"),
        ([0, 1], [0.5, np.nan], None, "not a probability"),
        ([0, 1], [0.5, 1.5], None, "not a probability"),
        ([0, 1], [0.5, 0.5], [1, -1], "negative or not finite"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(
    labels: list[float], scores: list[float], weights: list[float] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        metrics.auc(np.array(labels), np.array(scores), None if weights is None else np.array(weights))
