"""calibration: do scores mean what they say? Bins of equal mass, what came true in each, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.documents.evaluation import Calibration, CalibrationBin
from pipelines.metrics.metric_sums import confidence, equal_mass
from pipelines.metrics.metrics import METRICS
from pipelines.metrics.scored import Scored

Array = NDArray[Any]
Z = 1.959963984540054  # of a 95 % interval


def calibration(scored: Scored) -> Calibration:
    """Bins, the lowest scores first, the expected calibration error and the Brier score.

    Classes: `rate` is the share that came true, of several classes that of the likeliest; low and high are Wilson's
    interval (1927). Regression: the mean label and its normal interval; ece and brier are None. Intervals count
    weighted rows as so many as their weights tell (Kish 1965), and take rows as independent.

    The calibration error (Naeini et al. 2015) is over bins of equal mass, as equal widths leave most of them empty
    where positives are rare (Nguyen and O'Connor 2015; Kumar et al. 2019).
    """
    used = scored.take(scored.weights > 0)
    scores, outcomes = confidence(used)
    code = equal_mass(scores, used.weights, used.bins)
    _, code = np.unique(code, return_inverse=True)
    count = int(code.max(initial=-1)) + 1
    rows, weight, squares = (np.bincount(code, values, count) for values in (None, used.weights, used.weights**2))
    mean_score, rate = (np.bincount(code, used.weights * values, count) / weight for values in (scores, outcomes))
    spread = np.bincount(code, used.weights * np.square(outcomes - rate[code]), count) / weight
    effective = weight**2 / squares
    low, high = _normal(rate, spread, effective) if used.task == "regression" else _wilson(rate, effective)
    bins: list[CalibrationBin] = [
        {
            "mean_score": _number(mean_score[at]),
            "rate": _number(rate[at]),
            "rows": int(rows[at]),
            "low": _number(low[at]),
            "high": _number(high[at]),
        }
        for at in range(count)
    ]
    if used.task == "regression":
        return {"bins": bins, "ece": None, "brier": None}
    return {"bins": bins, "ece": METRICS["ece"].function(used), "brier": METRICS["brier"].function(used)}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _wilson(rate: Array, rows: Array) -> tuple[Array, Array]:
    centre = (rate + Z**2 / (2 * rows)) / (1 + Z**2 / rows)
    half = Z / (1 + Z**2 / rows) * np.sqrt(rate * (1 - rate) / rows + Z**2 / (4 * rows**2))
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)


def _normal(mean: Array, spread: Array, rows: Array) -> tuple[Array, Array]:
    """NaN where a bin has a single row."""
    freedom = np.where(rows > 1 + 1e-9, rows - 1, np.nan)
    half = Z * np.sqrt(spread / freedom)
    return mean - half, mean + half
