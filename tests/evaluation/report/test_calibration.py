from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipelines.evaluation.report.calibration import calibration
from pipelines.metrics.metrics import measure
from pipelines.metrics.scored import Scored


def binary(labels: Any, scores: Any, weights: Any = None, bins: int = 2) -> Scored:
    weights = np.ones(len(labels)) if weights is None else np.array(weights)
    return Scored("binary", ("0", "1"), np.array(labels), np.array(scores), weights, bins=bins)


def test_bins_hold_equal_mass_and_wilsons_interval() -> None:
    found = calibration(binary([0, 0, 1, 1, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]))
    low, high = found["bins"]
    assert (low["mean_score"], low["rate"], low["rows"]) == (pytest.approx(0.25), 0.5, 4)
    assert (high["mean_score"], high["rate"], high["rows"]) == (pytest.approx(0.75), 0.75, 4)
    for one, hits in ((low, 2), (high, 3)):
        wanted = binomtest(hits, 4).proportion_ci(method="wilson")
        assert (one["low"], one["high"]) == (pytest.approx(wanted.low), pytest.approx(wanted.high))


def test_the_number_of_bins_counts_and_the_error_is_the_metric() -> None:
    random = np.random.default_rng(0)
    scores = random.random(500)
    labels = (random.random(500) < scores).astype(int)
    for bins in (2, 5, 20):
        one = binary(labels, scores, random.random(500), bins)
        found = calibration(one)
        assert len(found["bins"]) == bins
        assert (found["ece"], found["brier"]) == (measure(one)["ece"], measure(one)["brier"])


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    hits = [
        one["low"] <= 0.3 <= one["high"]
        for _ in range(300)
        for one in calibration(binary((random.random(200) < 0.3).astype(int), np.tile([0.3, 0.31], 100)))["bins"]
    ]
    assert 0.92 <= np.mean(hits) <= 0.98


def test_unequal_weights_make_less_sure() -> None:
    labels, scores = [0, 1] * 50, [0.5] * 100
    even = calibration(binary(labels, scores))["bins"][0]
    odd = calibration(binary(labels, scores, np.repeat([1.0, 20.0], 50)))["bins"][0]
    assert odd["high"] - odd["low"] > 1.2 * (even["high"] - even["low"])


def test_of_several_classes_the_likeliest_is_calibrated() -> None:
    scores = np.array([[0.7, 0.3, 0.0], [0.4, 0.6, 0.0], [0.1, 0.0, 0.9]])
    one = Scored("multiclass", ("a", "b", "c"), np.array([0, 0, 2]), scores, np.ones(3), bins=3)
    assert [(bin_["mean_score"], bin_["rate"]) for bin_ in calibration(one)["bins"]] == [(0.6, 0), (0.7, 1), (0.9, 1)]


def test_a_regression_shows_mean_labels_by_what_was_predicted() -> None:
    random = np.random.default_rng(2)
    labels = random.normal(size=1_000)
    found = calibration(Scored("regression", (), labels, labels + random.normal(size=1_000), np.ones(1_000)))
    assert (len(found["bins"]), found["ece"], found["brier"]) == (10, None, None)
    rates = [one["rate"] for one in found["bins"]]
    assert rates == sorted(rates)
    assert all(one["low"] < one["rate"] < one["high"] for one in found["bins"])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from([0.0, 1, 9]))),
    task=st.sampled_from(["binary", "regression"]),
)
def test_any_rows_have_their_calibration(rows: list[tuple[int, float, float]], task: Any) -> None:
    labels, scores, weights = np.array(rows, dtype=float).reshape(-1, 3).T
    found = calibration(Scored(task, (), labels, scores, weights, bins=3))
    assert sum(one["rows"] for one in found["bins"]) == (weights > 0).sum()
    for one in found["bins"]:
        assert np.isfinite([value for value in one.values() if value is not None]).all()
        if one["low"] is not None:
            assert one["low"] - 1e-9 <= one["rate"] <= one["high"] + 1e-9
