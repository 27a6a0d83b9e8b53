"""A small problem's training data, and partitions like it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from pipelines.metrics.scored import Scored
from pipelines.profiles.profile import Reference, reference


@pytest.fixture
def training(rows: Callable[..., pa.Table]) -> pa.Table:
    """1,000 rows: a float with gaps, an integer, strings with gaps, booleans."""
    return rows(1_000, seed=1).drop_columns(["score"])


@pytest.fixture
def trained(training: pa.Table) -> Reference:
    """Positive rate .2 in training; test AUC 1, mean score about .5."""
    scores = np.linspace(0, 1, 500)
    labels = np.repeat([0, 1], [800, 200])
    return reference(training, labels, binary(scores, scores > 0.8))


def binary(scores: np.ndarray, labels: np.ndarray) -> Scored:
    return Scored("binary", ("0", "1"), np.asarray(labels, np.int64), scores, np.ones(len(scores)))


@pytest.fixture
def rows() -> Callable[..., pa.Table]:
    """Makes `count` rows of one distribution, with a score."""
    return _rows


def _rows(count: int, seed: int = 2) -> pa.Table:
    random = np.random.default_rng(seed)
    temp = random.normal(50, 10, count)
    gap = random.random(count) < 0.1
    return pa.table(
        {
            "temp": pa.array(temp, mask=gap),
            "seats": pa.array(random.integers(1, 5, count)),
            "carrier": pa.array(random.choice(["AA", "UA", "B6"], count, p=[0.5, 0.3, 0.2]), pa.string(), mask=gap),
            "is_holiday": pa.array(random.random(count) < 0.05),
            "score": pa.array(random.random(count)),
        }
    )
