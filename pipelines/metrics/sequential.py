"""When a difference that is looked at again and again may be acted on.

Who looks after every partition and acts on the first p-value below 5 % is wrong far more often than in 5 % of cases.
Here are two ways not to be: a group-sequential bound, for a decision that is made once and within a number of looks
that is known beforehand, and a confidence sequence, which may be asked after any look, for ever.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import lambertw, log_ndtr, ndtr, ndtri  # scipy.stats has the same with ten times the overhead

Array = NDArray[np.float64]

GRID = 201  # points that a density is known at
REACH = 8.0  # standard deviations that a density is followed to
FEWEST = 1e-9  # information that a look adds, at least, as a share of what there is: less than none cannot be


def spent(alpha: float, share: float) -> float:
    """How much of an error of `alpha`, one-sided, may be spent until `share` of the planned looks are done.

    Lan and DeMets (Biometrika 1983), of the kind of O'Brien and Fleming: next to nothing early, nearly all at the end.

    >>> [round(spent(0.05, share), 4) for share in (0.25, 0.5, 0.75, 1.0)]
    [0.0001, 0.0056, 0.0236, 0.05]
    """
    if share <= 0:
        return 0.0
    return float(2 * ndtr(ndtri(alpha / 2) / math.sqrt(min(share, 1.0))))


def upper_bounds(information: Sequence[float], alpha: float, looks: int) -> list[float]:
    """The z-values, one a look, that a statistic without an effect passes at any look with probability `alpha` at most.

    Args:
        information: of each look so far, oldest first: one over the variance of the estimate. That it falls from one
            look to the next is the noise of its own estimate, and taken as none added.
        looks: how many there will be at most; what may be spent until look k is `spent(alpha, k / looks)`.

    The density of the statistic among those that went on is carried from look to look on a grid (Armitage, McPherson
    and Rowe, JRSS A 1969).

    >>> [round(bound, 3) for bound in upper_bounds([1, 2, 3, 4], 0.025, 4)]
    [4.333, 2.963, 2.359, 2.014]
    """
    bounds: list[float] = []
    values, density = np.zeros(1), np.ones(1)  # Brownian motion, and its weight at each value, before the first look
    before = 0.0
    for look, raw in enumerate(information, 1):
        now = max(float(raw), before * (1 + FEWEST))
        step = math.sqrt(now - before)
        allowed = spent(alpha, look / looks) - spent(alpha, (look - 1) / looks)
        bound = _bound(values, density, step, allowed, math.sqrt(now))
        bounds.append(bound / math.sqrt(now))
        grid = np.linspace(-REACH * math.sqrt(now), bound, GRID)
        width = grid[1] - grid[0]
        if step <= width:  # the look added less than the grid can tell: the density stays, less what has crossed
            kept = values <= bound
            values, density = values[kept], density[kept]
        else:
            weights = np.full(GRID, width)
            weights[[0, -1]] = width / 2
            moved = np.exp(-(((grid[:, np.newaxis] - values) / step) ** 2) / 2.0) / math.sqrt(2 * math.pi) / step
            values, density = grid, (moved @ density) * weights
        before = now
    return bounds


def _bound(values: Array, density: Array, step: float, allowed: float, deviation: float) -> float:
    """The value that is passed with the probability `allowed` after one more step."""
    top = REACH * deviation

    def crossing(bound: float) -> float:
        return float(density @ ndtr((values - bound) / step)) - allowed

    if crossing(top) >= 0:
        return top
    return float(brentq(crossing, -top, top, xtol=1e-10))


def tuned(alpha: float, variance: float) -> float:
    """The mixing variance with which a confidence sequence is narrowest where a sum has about this variance.

    Howard, Ramdas, McAuliffe and Sekhon (Ann. Statist. 2021), proposition 3.
    """
    share = -float(lambertw(-(alpha**2) / math.e, -1).real) - 1
    return variance / share


def half_width(sum_variance: float, alpha: float, mixing: float) -> float:
    """How far a sum of mean zero and this variance is from zero at most, at any time, but with probability `alpha`.

    Two-sided, by Robbins' normal mixture (Ann. Math. Statist. 1970); with a variance that is estimated it holds as the
    number of terms grows (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Ann. Statist. 2024).

    Args:
        mixing: see `tuned`; the same at every look.

    >>> round(half_width(100.0, 0.05, tuned(0.05, 100.0)), 2), round(1.96 * 10, 2)
    (30.35, 19.6)
    """
    total = sum_variance + mixing
    return math.sqrt(total * math.log(total / (mixing * alpha**2)))


def above(sum_variance: float, alpha: float, mixing: float) -> float:
    """As `half_width`, of one side alone: how far above zero it is at most.

    The mixture is of one side, too, so that a drift the other way does not count (Howard et al., 2021).

    >>> above(100.0, 0.05, tuned(0.1, 100.0)) < half_width(100.0, 0.05, tuned(0.05, 100.0))
    True
    """
    total = sum_variance + mixing

    def excess(z: float) -> float:
        return math.log(2) + math.log(mixing / total) / 2 + z * z / 2 + float(log_ndtr(z)) + math.log(alpha)

    return math.sqrt(total) * float(brentq(excess, -40.0, 40.0))
