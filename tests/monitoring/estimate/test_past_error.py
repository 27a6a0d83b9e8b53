"""Past errors: which count, and how they widen what is said about the next estimate."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.monitoring.estimate.past_error import LAST, past_errors, widened

FOUND = {"value": 0.7, "low": 0.68, "high": 0.73}


def test_only_measured_partitions_that_are_asked_for_count_the_newest_last() -> None:
    keys = [f"2024-01-{day:02}" for day in range(1, 31)]
    rows = pa.table(
        {
            "partition": keys[::-1],
            "metric": ["auc"] * 30,
            "value": np.arange(30)[::-1] / 100,
            "realised": pa.array([None, *np.zeros(29)], pa.float64()),
        }
    )
    found = past_errors(rows, keys[:29])["auc"]
    assert len(found) == LAST and found[-1] == pytest.approx(0.28)
    assert past_errors(rows, keys[:2])["auc"].tolist() == pytest.approx([0, 0.01])
    assert past_errors(rows, []) == {} and past_errors(rows, [keys[29]]) == {}


def test_few_errors_do_not_widen_and_enough_do() -> None:
    assert widened("auc", FOUND, np.full(4, 0.2), 0.95) == FOUND
    wide = widened("auc", FOUND, np.full(5, 0.1), 0.95)
    assert (wide["low"], wide["high"]) == pytest.approx((0.6, 0.8))


def test_the_rank_is_the_conformal_one() -> None:
    errors = np.arange(1, 26) / 100
    wide = widened("auc", {"value": 0.5, "low": 0.5, "high": 0.5}, errors, 0.9)
    assert wide["high"] == pytest.approx(0.5 + 0.24), "the 24th smallest of 25: ceil(26 * 0.9)"


def test_the_range_of_the_metric_is_kept() -> None:
    errors = np.full(6, 0.9)
    assert widened("auc", FOUND, errors, 0.95) == {"value": 0.7, "low": 0.0, "high": 1.0}
    assert widened("log_loss", FOUND, errors, 0.95)["high"] == pytest.approx(1.6)


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.51, 0.99))
def test_never_narrower_and_always_around_the_value(errors: list[float], confidence: float) -> None:
    wide = widened("auc", FOUND, np.array(errors), confidence)
    assert wide["low"] <= FOUND["low"] and wide["high"] >= FOUND["high"]


@given(st.integers(5, 26), st.integers(0, 10_000))
def test_it_covers_as_often_as_it_says(count: int, seed: int) -> None:
    """Errors that come as they came: the next is beyond the largest of n with chance 1 / (n + 1)."""
    errors = np.sort(np.random.default_rng(seed).random(count))
    wide = widened("log_loss", {"value": 2.0, "low": 2.0, "high": 2.0}, errors, 0.95)
    rank = np.searchsorted(errors, wide["high"] - 2.0 - 1e-12) + 1
    assert rank / (count + 1) >= min(0.95, count / (count + 1))
