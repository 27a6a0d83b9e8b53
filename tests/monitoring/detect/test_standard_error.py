"""A standard error is what the metric varies by from one sample of so many rows to the next."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.metrics.scored import Scored
from pipelines.monitoring.detect.detect import performance
from pipelines.monitoring.detect.standard_error import standard_errors
from pipelines.training.calibrate import sigmoid

SAMPLES = 200


def sampled(task: str, seed: int, rows: int = 250) -> Scored:
    random = np.random.default_rng(seed)
    margin = random.normal(-1, 1, rows)
    if task == "regression":
        return Scored("regression", (), margin + random.standard_t(5, rows), margin, np.ones(rows))
    if task == "binary":
        chance = sigmoid(margin)
        return Scored("binary", ("0", "1"), random.random(rows) < chance, chance, np.ones(rows))
    margins = np.stack([margin, random.normal(0, 1, rows), np.zeros(rows)], axis=1)
    chances = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    labels = (np.cumsum(chances, axis=1)[:, :-1] < random.random((rows, 1))).sum(axis=1)
    return Scored("multiclass", ("a", "b", "c"), labels, chances, np.ones(rows))


@pytest.mark.parametrize(
    ("task", "metrics"),
    [("binary", ["auc", "calibration_gap"]), ("multiclass", ["auc"]), ("regression", ["r2", "bias"])],
)
def test_errors_are_what_samples_differ_by(task: str, metrics: list[str]) -> None:
    samples = [performance(sampled(task, seed)) for seed in range(SAMPLES)]
    for metric in metrics:
        spread = np.std([sample.value(metric) for sample in samples])
        error = np.median([sample.errors[metric] for sample in samples])
        # Of several classes it is an upper bound: the mean of areas that depend on each other varies less than each.
        assert 0.8 < error / spread < (1.9 if task == "multiclass" else 1.25), metric


def test_what_is_not_defined_has_no_error() -> None:
    alike = Scored("binary", ("0", "1"), np.zeros(40), np.full(40, 0.5), np.ones(40))
    assert set(standard_errors(alike)) == {"calibration_gap"}
    assert standard_errors(alike.take(np.arange(1))) == {}
    flat = Scored("regression", (), np.ones(40), np.zeros(40), np.ones(40))
    assert set(standard_errors(flat)) == {"bias"}
