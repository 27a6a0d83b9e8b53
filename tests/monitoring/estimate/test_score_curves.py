"""Curves from scores to chances: right where rows tell, modest where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import Bootstrap
from pipelines.monitoring.estimate.score_curves import Curves, effective, fit_curves
from pipelines.training.calibrate import logit, sigmoid

RULE = Bootstrap(resamples=50)


def chances(curves: Curves, scores: np.ndarray, curve: int = 0) -> np.ndarray:
    return sigmoid(curves.margins(curves.placed(scores), curve))


def world(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels, and the chances behind them: the model is twice as sure as it ought to be."""
    random = np.random.default_rng(seed)
    margin = random.normal(0, 1, count)
    return sigmoid(2 * margin + 0.5), random.random(count) < sigmoid(margin), sigmoid(margin)


def test_a_model_that_is_too_sure_is_set_right() -> None:
    scores, labels, truth = world(8_000)
    curves = fit_curves(scores, labels, np.ones(8_000), np.arange(8_000) // 400, RULE)
    assert np.abs(chances(curves, scores) - truth).mean() < 0.015
    assert curves.coefficients.shape == (51, 7)
    spread = np.std([chances(curves, np.array([0.5]), one)[0] for one in range(1, 51)])
    assert 0.003 < spread < 0.03, "resamples differ as 8,000 rows leave room for"


def test_a_bend_that_no_sigmoid_has_is_found() -> None:
    random = np.random.default_rng(1)
    scores = random.random(20_000)
    truth = np.where(scores < 0.5, 0.1, 0.6)
    curves = fit_curves(scores, random.random(20_000) < truth, np.ones(20_000), np.arange(20_000) // 1000, RULE)
    found = chances(curves, np.array([0.1, 0.3, 0.7, 0.9]))
    assert found == pytest.approx([0.1, 0.1, 0.6, 0.6], abs=0.08)


def test_weights_count_as_so_many_rows_as_they_tell() -> None:
    scores, labels, _ = world(4_000)
    blocks = np.arange(4_000) // 200
    heavy = np.where(labels, 3.0, 1.0)
    plain, weighted = (fit_curves(scores, labels, weights, blocks, RULE) for weights in (np.ones(4_000), heavy))
    gap = logit(chances(weighted, scores)) - logit(chances(plain, scores))
    assert gap.mean() == pytest.approx(np.log(3), abs=0.05)
    thousand = fit_curves(scores, labels, heavy * 1000, blocks, RULE)
    assert chances(thousand, scores) == pytest.approx(chances(weighted, scores))


def test_rows_without_a_weight_do_not_count() -> None:
    scores, labels, _ = world(1_000)
    some = np.arange(1_000) % 2 == 0
    blocks = np.arange(1_000) // 50
    masked = fit_curves(scores, np.where(some, labels, ~labels), some.astype(float), blocks, RULE)
    alone = fit_curves(scores[some], labels[some], np.ones(500), blocks[some], RULE)
    assert chances(masked, scores) == pytest.approx(chances(alone, scores))


def test_the_days_own_shifts_are_measured() -> None:
    random = np.random.default_rng(2)
    days = np.repeat(np.arange(40), 300)
    margin = random.normal(0, 1, len(days))
    for shift in (0.0, 0.5):
        labels = random.random(len(days)) < sigmoid(margin + random.normal(0, shift, 40)[days])
        found = fit_curves(sigmoid(margin), labels, np.ones(len(days)), days, RULE).spread
        assert found == pytest.approx(shift, abs=0.15)


def test_too_few_days_tell_nothing_of_days() -> None:
    scores, labels, _ = world(1_000)
    assert fit_curves(scores, labels, np.ones(1_000), np.arange(1_000) // 300, RULE).spread == 0


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("label", [False, True])
def test_one_class_alone_proves_little(count: int, label: bool) -> None:
    curves = fit_curves(np.full(count, 0.5), np.full(count, label), np.ones(count), np.arange(count), RULE)
    found = chances(curves, np.array([0.5]))[0]
    assert 0.01 < found < 0.99
    assert (found > 0.5) == label


ROWS = st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.floats(0, 10)), min_size=1, max_size=60)


@given(ROWS, st.integers(1, 8))
@settings(max_examples=40)
def test_chances_are_chances_whatever_the_rows(rows: list[tuple[float, bool, float]], days: int) -> None:
    scores, labels, weights = (np.array(column) for column in zip(*rows, strict=True))
    if not effective(weights) > 0:
        return
    curves = fit_curves(scores, labels.astype(bool), weights, np.arange(len(rows)) % days, Bootstrap(resamples=50))
    found = chances(curves, np.array([0.0, 0.25, 1.0, *scores]), 7)
    assert np.all((found >= 0) & (found <= 1)) and np.isfinite(curves.coefficients).all()
    assert np.isfinite(curves.spread)
