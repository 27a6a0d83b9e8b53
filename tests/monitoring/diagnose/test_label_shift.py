"""Rates of classes before labels come: right where rates alone moved, and refused where the method cannot hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import Bootstrap
from pipelines.metrics.scored import Scored
from pipelines.monitoring.diagnose.label_shift import label_shift
from pipelines.training.calibrate import sigmoid

RULE = Bootstrap(resamples=100)


def rows(rate: float, seed: int, count: int = 4_000, apart: float = 1.0) -> tuple[Scored, Any]:
    """Class 1 has scores `apart` standard deviations above those of class 0; not calibrated; and each row's day."""
    random = np.random.default_rng(seed)
    labels = random.random(count) < rate
    scores = sigmoid(2 * random.normal(apart * labels, 1))
    return Scored("binary", ("0", "1"), labels, scores, np.ones(count)), np.arange(count) * 14 // count


def three(rates: tuple[float, ...], seed: int, count: int = 4_000) -> tuple[Scored, Any]:
    random = np.random.default_rng(seed)
    labels = random.choice(3, count, p=rates)
    margins = random.normal(0, 1, (count, 3)) + 1.5 * np.eye(3)[labels]
    scores = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    return Scored("multiclass", ("x", "y", "z"), labels, scores, np.ones(count)), np.arange(count) * 14 // count


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.6])
def test_the_rate_is_found(rate: float) -> None:
    (held_out, blocks), (later, its_blocks) = rows(0.2, 0), rows(rate, 1)
    found = label_shift(held_out, blocks, later.scores, its_blocks, RULE, 0.5)
    one = found.rates["1"]
    assert found.why_not is None and one.usual == pytest.approx(held_out.labels.mean())
    assert one.value == pytest.approx(later.labels.mean(), abs=0.04)
    assert one.low <= later.labels.mean() <= one.high
    assert abs(later.scores.mean() - later.labels.mean()) > 0.05, "the scores themselves do not tell"


def test_weights_of_held_out_rows_count() -> None:
    """Drawn rows stand for more than themselves: the usual rate is that of the population."""
    (held_out, blocks), (later, its_blocks) = rows(0.5, 0), rows(0.2, 1)
    weighted = replace(held_out, weights=np.where(held_out.labels == 1, 1.0, 4.0))
    found = label_shift(weighted, blocks, later.scores, its_blocks, RULE, 0.5)
    assert found.rates["1"].usual == pytest.approx(0.2, abs=0.02)
    assert found.rates["1"].value == pytest.approx(later.labels.mean(), abs=0.04)


def test_several_classes() -> None:
    (held_out, blocks), (later, its_blocks) = three((0.6, 0.3, 0.1), 0), three((0.2, 0.3, 0.5), 1)
    found = label_shift(held_out, blocks, later.scores, its_blocks, RULE, None)
    for code, name in enumerate("xyz"):
        came = float(np.mean(later.labels == code))
        assert found.rates[name].low <= came <= found.rates[name].high
        assert found.rates[name].value == pytest.approx(came, abs=0.05)


def test_inputs_that_moved_otherwise_refuse_it() -> None:
    """Rates that moved by .1 let nobody tell the sides apart with an AUC above .6."""
    (held_out, blocks), (later, its_blocks) = rows(0.2, 0), rows(0.3, 1)
    for low, is_refused in ((0.55, False), (0.7, True), (None, False)):
        found = label_shift(held_out, blocks, later.scores, its_blocks, RULE, low)
        assert (found.why_not is not None) == is_refused
    assert found.rates, "the numbers are given all the same"


def test_scores_that_no_mixture_gives_refuse_it() -> None:
    """All scores at 1: more than even class 1 had. Cut off at 1 the interval would look sure."""
    held_out, blocks = rows(0.2, 0)
    found = label_shift(held_out, blocks, np.ones(500), np.arange(500), RULE, None)
    assert "no mixture" in found.why_not and found.rates["1"].value == 1


def test_what_cannot_be_told_is_said() -> None:
    (held_out, blocks), (later, its_blocks) = rows(0.2, 0, apart=0.0), rows(0.3, 1, apart=0.0)
    assert "cannot tell" in label_shift(held_out, blocks, later.scores, its_blocks, RULE, 0.5).why_not
    same = replace(held_out, scores=np.full(4_000, 0.4))
    found = label_shift(same, blocks, later.scores, its_blocks, RULE, 0.5)
    assert "cannot tell" in found.why_not and found.rates == {} and found.condition < 1e-6
    one_class = replace(held_out, labels=np.zeros(4_000, np.int64))
    assert "missing" in label_shift(one_class, blocks, later.scores, its_blocks, RULE, 0.5).why_not
    assert "no rows" in label_shift(held_out, blocks, np.zeros(0), np.zeros(0, int), RULE, 0.5).why_not
    number = Scored("regression", (), np.arange(3.0), np.arange(3.0), np.ones(3))
    assert "no classes" in label_shift(number, np.arange(3), np.arange(3.0), np.arange(3), RULE, None).why_not


@settings(max_examples=20)
@given(count=st.integers(1, 30), seed=st.integers(0, 99), edge=st.booleans())
def test_rates_are_rates(count: int, seed: int, edge: bool) -> None:
    (held_out, blocks), (later, its_blocks) = rows(0.3, seed, 60), rows(0.9, seed + 1, count)
    scores = np.ones(count) if edge else later.scores
    found = label_shift(held_out, blocks, scores, its_blocks, RULE, None)
    if found.rates:
        assert sum(one.value for one in found.rates.values()) == pytest.approx(1)
        for one in found.rates.values():
            assert 0 <= one.value <= 1
            assert one.low is None or 0 <= one.low <= one.value <= one.high <= 1
    else:
        assert found.why_not
