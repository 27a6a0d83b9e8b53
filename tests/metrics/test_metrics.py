"""The NumPy metrics equal scikit-learn's, whatever the labels, scores and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import LOSSES_OF, METRICS_OF, Loss
from pipelines.errors import DataError
from pipelines.metrics import metrics
from pipelines.metrics.metric_sums import LOSSES
from pipelines.metrics.metrics import METRICS, goodness, measure
from pipelines.metrics.scored import Scored

COSTS = np.array([[0.0, 2.0, -1.0], [5.0, -1.0, 3.0], [1.0, 7.0, 0.0]])
CLASSES = ("a", "b", "c")
EXAMPLES = settings(deadline=None, max_examples=40)

WEIGHT = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.01, 100))
SCORE = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))  # ties, both ends, and anything
VALUE = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(-1e6, 1e6))


def binary(labels: Any, scores: Any, weights: Any, **changes: Any) -> Scored:
    given = {"threshold": 0.4, "costs": COSTS[:2, :2], "beta": 2.0, "bins": 4} | changes
    return Scored("binary", ("0", "1"), np.array(labels), np.array(scores), np.array(weights), **given)


def wanted_binary(one: Scored) -> dict[str, float]:
    """scikit-learn's, of the rows that weigh something."""
    y, s, w, d = one.labels, one.scores, one.weights, one.decisions
    cells = sklearn.metrics.confusion_matrix(y, d, labels=[0, 1], sample_weight=w)
    return {
        "auc": sklearn.metrics.roc_auc_score(y, s, sample_weight=w),
        "average_precision": sklearn.metrics.average_precision_score(y, s, sample_weight=w),
        "log_loss": sklearn.metrics.log_loss(y, s, sample_weight=w),
        "brier": sklearn.metrics.brier_score_loss(y, s, sample_weight=w),
        "accuracy": sklearn.metrics.accuracy_score(y, d, sample_weight=w),
        "precision": sklearn.metrics.precision_score(y, d, sample_weight=w),
        "recall": sklearn.metrics.recall_score(y, d, sample_weight=w),
        "f_beta": sklearn.metrics.fbeta_score(y, d, beta=2.0, sample_weight=w),
        "cost": float((cells * COSTS[:2, :2]).sum() / w.sum()),
    }


@EXAMPLES
@given(rows=st.lists(st.tuples(st.integers(0, 1), SCORE, WEIGHT), max_size=40))
def test_binary_equals_scikit_learn(rows: list[tuple[int, float, float]]) -> None:
    rows = [*rows, (0, 0.3, 1.0), (1, 0.3, 2.0), (1, 0.6, 0.5)]  # both classes are there, and decided for
    one = binary(*zip(*rows, strict=True))
    found = measure(one)
    wanted = wanted_binary(one.take(one.weights > 0))
    assert found.keys() == wanted.keys() | {"ece"} == METRICS_OF["binary"]
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@EXAMPLES
@given(data=st.lists(st.tuples(st.integers(0, 2), SCORE, SCORE, SCORE, WEIGHT), max_size=30), is_costly=st.booleans())
def test_multiclass_equals_scikit_learn(data: list[tuple[int, float, float, float, float]], is_costly: bool) -> None:
    rows = np.array([*data, *((code, 0.2, 0.3, 0.5, 1.0) for code in range(3))])  # every class is there
    y, w = rows[:, 0].astype(int), rows[:, 4]
    scores = (rows[:, 1:4] + 1e-3) / (rows[:, 1:4] + 1e-3).sum(axis=1, keepdims=True)
    one = Scored("multiclass", CLASSES, y, scores, w, costs=COSTS if is_costly else None)
    found, used, all_classes = measure(one), one.take(w > 0), [0, 1, 2]
    y, s, w, d = used.labels, used.scores, used.weights, used.decisions
    wanted = {
        "auc": sklearn.metrics.roc_auc_score(y, s, sample_weight=w, multi_class="ovr", average="macro"),
        "log_loss": sklearn.metrics.log_loss(y, s, sample_weight=w, labels=all_classes),
        "brier": sklearn.metrics.brier_score_loss(y, s, sample_weight=w, labels=all_classes),
        "accuracy": sklearn.metrics.accuracy_score(y, d, sample_weight=w),
        "macro_f1": sklearn.metrics.f1_score(y, d, sample_weight=w, average="macro"),
    }
    if is_costly:
        cells = sklearn.metrics.confusion_matrix(y, d, labels=all_classes, sample_weight=w)
        wanted["cost"] = float((cells * COSTS).sum() / w.sum())
    assert found.keys() == wanted.keys() | {"ece"}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@EXAMPLES
@given(rows=st.lists(st.tuples(VALUE, VALUE, WEIGHT), max_size=30), offset=st.sampled_from([0.0, 1e9]))
def test_regression_equals_scikit_learn(rows: list[tuple[float, float, float]], offset: float) -> None:
    rows = [*rows, (0.0, 0.5, 1.0), (1.0, 3.0, 1.0)]
    y, s, w = np.array(rows).T
    one = Scored("regression", (), y + offset, s + offset, w, over=2.0, under=5.0)
    found, used = measure(one), one.take(w > 0)
    y, s, w, error = used.labels, used.scores, used.weights, used.scores - used.labels
    wanted = {
        "rmse": sklearn.metrics.root_mean_squared_error(y, s, sample_weight=w),
        "mae": sklearn.metrics.mean_absolute_error(y, s, sample_weight=w),
        "r2": sklearn.metrics.r2_score(y, s, sample_weight=w),
        "bias": np.average(error, weights=w),
        "cost": np.average(np.where(error > 0, 2 * error, -5 * error), weights=w),
    }
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_the_calibration_error_by_hand() -> None:
    labels, scores = [0, 0, 1, 1, 1, 0], [0.1, 0.2, 0.3, 0.6, 0.8, 0.9]
    found = binary(labels, scores, [1, 1, 1, 1, 1, 1], bins=2)
    assert measure(found)["ece"] == pytest.approx((abs(0.6 - 1) + abs(2.3 - 2)) / 6)
    heavy = binary(labels, scores, [1, 1, 1, 1, 1, 5], bins=2)  # the last row is half of the mass
    assert measure(heavy)["ece"] == pytest.approx((abs(2.0 - 3) + abs(4.5 - 0)) / 10)
    assert measure(binary(labels, scores, [1] * 6, bins=6))["ece"] == pytest.approx(2.5 / 6)


def test_the_calibration_error_of_several_classes_is_that_of_the_likeliest() -> None:
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.9, 0.1, 0.0]])
    one = Scored("multiclass", CLASSES, np.array([0, 1, 1, 0]), scores, np.ones(4), bins=2)
    assert measure(one)["ece"] == pytest.approx((abs(1.3 - 1) + abs(1.7 - 2)) / 4)


def test_a_calibrated_model_has_next_to_no_error() -> None:
    random = np.random.default_rng(0)
    scores = random.random(50_000) ** 3
    labels = random.random(50_000) < scores
    error = measure(binary(labels.astype(int), scores, np.ones(50_000), bins=10))["ece"]
    assert error is not None
    assert error < 0.01


def test_beta_and_threshold_count() -> None:
    rows = ([0, 1, 1, 0], [0.5, 0.6, 0.1, 0.9], np.ones(4))
    recall_first, precision_first = (measure(binary(*rows, beta=beta))["f_beta"] for beta in (9.0, 0.1))
    assert recall_first != precision_first
    assert measure(binary(*rows, threshold=0.05))["recall"] == 1.0
    assert measure(binary(*rows))["recall"] == 0.5


@pytest.mark.parametrize("name", sorted(METRICS_OF["binary"] - {"ece"}))
def test_a_better_model_scores_better(name: str) -> None:
    labels, weights = [0, 0, 1, 1], np.ones(4)
    good, bad = (
        METRICS[name].function(binary(labels, scores, weights))
        for scores in ([0.1, 0.2, 0.8, 0.9], [0.6, 0.7, 0.3, 0.8])
    )
    assert good is not None and bad is not None
    assert (good > bad) is METRICS[name].higher_is_better
    assert goodness(name, good) > goodness(name, bad)


@pytest.mark.parametrize(("better", "worse"), [(0.1, -0.2), (-0.1, 0.2), (0.0, -0.1)])
def test_the_smaller_bias_is_the_better_one(better: float, worse: float) -> None:
    assert goodness("bias", better) > goodness("bias", worse)


def test_every_metric_of_the_config_is_there() -> None:
    assert METRICS.keys() == set().union(*METRICS_OF.values())


def test_rates_are_weighted() -> None:
    labels, scores, weights = np.array([1, 0]), np.array([0.8, 0.4]), np.array([3.0, 1.0])
    assert metrics.positive_rate(labels, scores, weights) == 0.75
    assert metrics.mean_score(labels, scores, weights) == pytest.approx(0.7)


def test_the_functions_on_arrays_are_the_binary_metrics() -> None:
    labels, scores, weights = np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.5, 0.8]), np.array([1.0, 2, 3, 4])
    found = measure(binary(labels, scores, weights))
    for name in ("auc", "average_precision", "log_loss", "brier"):
        assert getattr(metrics, name)(labels, scores, weights) == found[name]


@pytest.mark.parametrize("label", [0, 1])
def test_auc_of_one_class_is_undefined(label: int) -> None:
    assert metrics.auc(np.full(3, label), np.array([0.1, 0.2, 0.3])) is None


def test_what_is_not_defined_is_none() -> None:
    negatives = measure(binary([0, 0], [0.1, 0.2], [1.0, 1.0]))
    assert [negatives[name] for name in ("auc", "average_precision", "precision", "recall", "f_beta")] == [None] * 5
    assert negatives["accuracy"] == 1.0
    scores = np.array([[0.2, 0.8, 0.0], [0.7, 0.2, 0.1]])
    two_of_three = measure(Scored("multiclass", CLASSES, np.array([0, 1]), scores, np.ones(2)))
    assert two_of_three["auc"] is None
    assert two_of_three["macro_f1"] == 0.0
    constant = measure(Scored("regression", (), np.full(3, 0.1), np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2, 0.7])))
    assert constant["r2"] is None
    huge = measure(Scored("regression", (), np.array([0.0, 1.0]), np.array([1e300, 0.0]), np.ones(2)))
    assert huge["rmse"] is None
    assert huge["mae"] == 5e299


@pytest.mark.parametrize("weights", [np.zeros(0), np.zeros(3)])
def test_nothing_is_known_of_no_rows_and_of_rows_without_weight(weights: np.ndarray) -> None:
    count = len(weights)
    scores = {"binary": np.full(count, 0.5), "multiclass": np.full((count, 3), 1 / 3), "regression": np.ones(count)}
    for task, found in scores.items():
        names = {"binary": ("0", "1"), "multiclass": CLASSES, "regression": ()}[task]
        one = Scored(task, names, np.arange(count) % 2, found, weights)  # type: ignore[arg-type]
        assert set(measure(one).values()) == {None}


def test_lengths_have_to_agree() -> None:
    with pytest.raises(DataError, match="do not go together"):
        metrics.auc(np.array([0, 1]), np.array([0.5]))


def test_the_losses_of_rows_add_up_to_the_metrics() -> None:
    as_metrics = {"log_loss": "log_loss", "squared_error": "brier", "cost": "cost"}
    decided = binary([0, 1, 1], [0.1, 0.3, 0.9], [1.0, 1.0, 1.0])
    for loss in LOSSES_OF["binary"]:
        assert LOSSES[loss](decided).mean() == pytest.approx(measure(decided)[as_metrics[loss]])
    predicted = Scored("regression", (), np.array([1.0, 5.0]), np.array([2.0, 3.0]), np.ones(2), over=2.0, under=1.0)
    expected: dict[Loss, list[float]] = {"squared_error": [1, 4], "absolute_error": [1, 2], "cost": [2, 2]}
    assert {loss: LOSSES[loss](predicted).tolist() for loss in LOSSES_OF["regression"]} == expected
