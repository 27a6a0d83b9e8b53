"""recalibrate: from a score to the chance that it comes true, learnt on held-out rows, with many resampled versions.

The curve is the score's own logit plus a line and hinges in it (a spline: Lucena, Spline-based probability
calibration, 2018), every coefficient drawn towards 0 by a normal prior: without rows a score means what it says, with
few rows the curve is a sigmoid (Platt, 1999), with many it bends where it has to. It does not depend on single rows
as an isotonic step does, and its resamples are fitted all at once, on counts in bins of the score.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.config import Bootstrap
from pipelines.metrics.bootstrap import FEWEST_BLOCKS, drawn_blocks, draws
from pipelines.metrics.metric_sums import equal_mass, ratio
from pipelines.training.calibrate import logit, sigmoid
from pipelines.training.numeric import quantile

Array = NDArray[Any]

HINGES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])  # quantiles of the held-out scores
BINS = 200  # of the score: a hundredth of what the hinges can tell apart
MOST_BLOCKS = 200  # of a bootstrap: more are drawn in as many groups
STEPS, HALVINGS, CLOSE = 50, 20, 1e-10


class Placed(NamedTuple):
    """Scores as all curves of one fit take them: made once, however many of the curves are asked."""

    own: Array
    """Their logits (n,)."""
    basis: Array
    """(n, 2 + hinges)."""


class Curves(NamedTuple):
    """Curves from scores to chances. coefficients: (curves, 2 + hinges); the first is fitted on all rows, the others on
    resamples of their blocks. spread: standard deviation, in logits, of a block around the first curve."""

    centre: float
    scale: float
    hinges: Array
    coefficients: Array
    spread: float

    def placed(self, scores: Array) -> Placed:
        own = logit(scores)
        return Placed(own, self._basis(own))

    def margins(self, placed: Placed, curve: int) -> Array:
        """Logits (n,) of the chances that these scores come true."""
        margins: Array = placed.own + placed.basis @ self.coefficients[curve]
        return margins

    def _basis(self, own: Array) -> Array:
        place = (own - self.centre) / self.scale
        return np.column_stack([np.ones_like(place), place, np.maximum(place[:, None] - self.hinges, 0)])


def fit_curves(scores: Array, is_positive: Array, weights: Array, blocks: Array, rule: Bootstrap) -> Curves:
    """Curves of one class's held-out scores: one of all rows, and `rule.resamples` of resampled blocks.

    Args:
        scores: (n,) in [0, 1], n at least 1. is_positive: (n,) bool. weights: (n,), at least one above 0.
        blocks: (n,) block of each row; where they are fewer than 5, rows are drawn instead.

    Weights count as so many rows as they tell (Kish 1965), so that a few heavy rows do not outdo the prior.
    """
    used = weights > 0
    scores, is_positive, weights = scores[used], is_positive[used], weights[used]
    weights = weights / weights.sum() * effective(weights)
    own = logit(scores)
    centre = float(np.average(own, weights=weights))
    scale = float(np.sqrt(np.average((own - centre) ** 2, weights=weights)))
    scale = scale if scale > CLOSE else 1.0
    hinges = quantile((own - centre) / scale, weights, HINGES)
    curves = Curves(centre, scale, hinges, np.zeros((1, 2 + len(hinges))), 0.0)

    drawn = drawn_blocks(blocks[used]) % MOST_BLOCKS
    count = int(drawn.max()) + 1
    bins = equal_mass(scores, weights, BINS)
    size = int(bins.max()) + 1
    cells = drawn * size + bins
    mass, positives = (
        np.bincount(cells, values, count * size).reshape(count, size) for values in (weights, weights * is_positive)
    )
    middle = np.nan_to_num(ratio(np.bincount(bins, weights * own, size), np.bincount(bins, weights, size)))
    times = np.concatenate([np.ones((1, count)), *draws(count, rule)])
    fitted = _fit(curves._basis(middle), middle, times @ mass, times @ positives)
    curves = curves._replace(coefficients=fitted)
    chances = sigmoid(curves.margins(curves.placed(scores), 0))
    return curves._replace(spread=_spread(is_positive - chances, chances * (1 - chances), weights, blocks[used]))


def effective(weights: Array) -> float:
    """How many equal weights tell as much as these (Kish, Survey Sampling, 1965).

    >>> effective(np.array([2.0, 2.0, 0.0])), effective(np.zeros(2))
    (2.0, 0.0)
    """
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def _fit(basis: Array, offset: Array, mass: Array, positives: Array) -> Array:
    """Coefficients (curves, q) of penalised logistic regressions on counts (curves, bins), all by Newton at once."""
    prior = np.eye(basis.shape[1])
    beta = np.zeros((len(mass), basis.shape[1]))
    loss = _loss(basis, offset, mass, positives, beta)
    for _ in range(STEPS):
        chances = sigmoid(beta @ basis.T + offset)
        gradient = (mass * chances - positives) @ basis + beta
        curvature = np.einsum("cb,bi,bj->cij", mass * chances * (1 - chances), basis, basis, optimize=True) + prior
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        length = np.ones((len(mass), 1))
        for _ in range(HALVINGS):  # Newton may overshoot where scores are far off
            tried = _loss(basis, offset, mass, positives, beta - length * step)
            worse = tried > loss
            if not worse.any():
                break
            length[worse] /= 2
        better = tried <= loss
        beta = np.where(better[:, None], beta - length * step, beta)
        gain = np.where(better, loss - tried, 0)
        loss = loss - gain
        if gain.max() <= CLOSE * (1 + np.abs(loss).max()):
            break
    return beta


def _loss(basis: Array, offset: Array, mass: Array, positives: Array, beta: Array) -> Array:
    margin = beta @ basis.T + offset
    fit: Array = (mass * np.logaddexp(0, margin) - positives * margin).sum(axis=1) + (beta**2).sum(axis=1) / 2
    return fit


def _spread(residual: Array, variance: Array, weights: Array, blocks: Array) -> float:
    """Standard deviation of the blocks' own shifts, in logits: what their residuals vary by more than chance has them.

    By moments, as between-study variance is (DerSimonian and Laird 1986). 0 with fewer than 5 blocks: they do not tell.
    """
    _, place = np.unique(blocks, return_inverse=True)
    count = int(place.max()) + 1
    if count < FEWEST_BLOCKS:
        return 0.0
    total, chance, slope = (
        np.bincount(place, values, count) for values in (weights * residual, weights**2 * variance, weights * variance)
    )
    beyond = np.square(total).sum() * count / (count - 1) - chance.sum()
    return float(np.sqrt(max(beyond, 0.0) / max(np.square(slope).sum(), np.finfo(float).tiny)))
