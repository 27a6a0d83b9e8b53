"""Scores that mean what they say: of the rows scored 0.3, three in ten are positive."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator

from pipelines.config import Calibration
from pipelines.errors import DataError

NEAR = 1e-7  # scores closer to 0 or 1 are taken as this close: no float32 is nearer to 1 than 6e-8


def fit_calibrator(calibration: Calibration, scores: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Calibrator:
    """Learns from rows that the estimator was not fitted on. `scores` (n,) of class 1, or (n, k).

    Several classes are calibrated one against the rest (Zadrozny and Elkan, 2002).

    Raises:
        DataError: the rows have one class only.
    """
    known = np.unique(y[weight > 0])
    if len(known) < 2:
        raise DataError(
            f"the {len(y)} rows for calibration have {'one class only' if len(known) else 'no weight'}",
            where="training.calibration",
            cure="keep more partitions for it (training.calibration.partitions), or take method none",
        )
    kind = Platt if calibration.method == "platt" else Isotonic
    if scores.ndim == 1:
        return Calibrator([kind().fit(scores, y == 1, weight)])
    return Calibrator(
        [kind().fit(scores[:, code], y == code, weight) if code in known else None for code in range(scores.shape[1])]
    )


class Calibrator(BaseEstimator):  # type: ignore[misc]
    """One increasing map per class; then each row sums to 1. A class of which there was no row keeps its score."""

    def __init__(self, maps: list[Platt | Isotonic | None]) -> None:
        self.maps = maps

    def transform(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated scores, of the same shape."""
        if scores.ndim == 1:
            only = self.maps[0]
            return scores if only is None else only.transform(scores)
        columns = [
            scores[:, code] if mapping is None else mapping.transform(scores[:, code])
            for code, mapping in enumerate(self.maps)
        ]
        mapped = np.column_stack(columns)
        return np.asarray(mapped / mapped.sum(axis=1, keepdims=True))


class Platt(BaseEstimator):  # type: ignore[misc]
    """A sigmoid of the score's logit: 1 / (1 + exp(-(slope * logit + intercept))), slope >= 0.

    Platt, Probabilistic Outputs for Support Vector Machines, 1999, with its targets, which keep away from 0 and 1. The
    logit makes scores that are right already a fixed point (Kull et al., Beta calibration, 2017).
    """

    def fit(self, scores: np.ndarray, is_positive: np.ndarray, weight: np.ndarray) -> Platt:
        from scipy.optimize import minimize

        low, high = _bounds(is_positive, weight)
        x, target, share = logit(scores), np.where(is_positive, high, low), weight / weight.sum()

        def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            margin = parameters[0] * x + parameters[1]
            error = (sigmoid(margin) - target) * share
            return float(share @ (np.logaddexp(0, margin) - target * margin)), np.array([error @ x, error.sum()])

        start = float(logit(np.array([share @ target]))[0])
        # A convex loss of two numbers. A slope below 0 would turn the ranking round: such scores say nothing.
        optimum = minimize(
            loss,
            [0.0, start],
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, None), (None, None)],
            options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000},
        )
        self.slope_, self.intercept_ = float(optimum.x[0]), float(optimum.x[1])
        return self

    def transform(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip(sigmoid(self.slope_ * logit(scores) + self.intercept_), NEAR, 1 - NEAR))


class Isotonic(BaseEstimator):  # type: ignore[misc]
    """The increasing step function that fits best, straight between its steps (Zadrozny and Elkan, 2002).

    Kept away from 0 and 1 as Platt's targets are: no number of rows proves that a thing never happens.
    """

    def fit(self, scores: np.ndarray, is_positive: np.ndarray, weight: np.ndarray) -> Isotonic:
        from sklearn.isotonic import IsotonicRegression

        counts = weight > 0
        fitted = IsotonicRegression(out_of_bounds="clip").fit(
            scores[counts], is_positive[counts].astype(np.float64), sample_weight=weight[counts]
        )
        low, high = _bounds(is_positive, weight)
        self.scores_ = np.asarray(fitted.X_thresholds_, dtype=np.float64)
        self.rates_ = np.clip(fitted.y_thresholds_, low, high).astype(np.float64)
        return self

    def transform(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(scores, self.scores_, self.rates_))


def logit(scores: np.ndarray) -> np.ndarray:
    """log(score / (1 - score)), finite for any score in [0, 1]."""
    inside = np.clip(scores, NEAR, 1 - NEAR)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def sigmoid(margin: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-margin)), without overflow, and above 0 however small."""
    return np.asarray(np.exp(-np.logaddexp(0, -margin)))


def _bounds(is_positive: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Platt's targets of negative and positive rows: 1 / (N- + 2) and (N+ + 1) / (N+ + 2).

    N by the effective number of rows (Kish, 1965): weights that are all a thousand make no row surer.
    """
    rows = weight.sum() ** 2 / (weight**2).sum()
    positive = rows * weight[is_positive].sum() / weight.sum()
    return 1 / (rows - positive + 2), (positive + 1) / (positive + 2)
