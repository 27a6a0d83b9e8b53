"""By how much one version's loss is above another's, and how sure that is, where rows of one unit depend on each other.

A unit is what is assigned as a whole: a row, or a customer with all of theirs. A variance over rows that belong
together is too small, and a test that rests on it is wrong far more often than it says.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Of fewer the spread does not say how far their mean may be off: at the margin 22 % pass where 4 % are to of 2 units,
# 9 % of 5, 5 % of 12.
FEWEST_UNITS = 10


class Effect(NamedTuple):
    """A difference of mean losses, the challenger's less the champion's: below 0 the challenger is better."""

    value: float
    variance: float
    rows: int
    units: int

    @property
    def information(self) -> float:
        """One over the variance; 0 where it is not known."""
        return 1 / self.variance if 0 < self.variance < np.inf else 0.0


def paired(challenger: Array, champion: Array, units: NDArray[np.int64]) -> Effect:
    """Of rows that both versions have scored: the mean of the differences, its variance over units.

    Args:
        challenger, champion: losses of the same rows, shape (rows,).
        units: code of each row's unit, from 0 on, shape (rows,).

    >>> paired(np.array([1.0, 3.0, 2.0]), np.array([0.0, 1.0, 2.0]), np.array([0, 1, 2])).value
    1.0
    """
    return _mean(challenger - champion, units)


def weighted(losses: Array, is_challenger: NDArray[np.bool_], propensity: Array, units: NDArray[np.int64]) -> Effect:
    """Of rows that either the one or the other version has scored, by a draw whose odds are known.

    Inverse propensity weighted (Horvitz and Thompson, JASA 1952), augmented by `losses` being less what was to be
    expected of the row whoever scores it: see `beyond_expected`. Means of the two sides alone would be wrong wherever
    the odds went with how things turned out, as a bandit's do. A version that has served next to no units has shown
    nothing, however many the other one has served: then the variance is not known.

    Args:
        losses: of the version that scored the row, less what was expected, shape (rows,).
        is_challenger: whether the challenger scored it, shape (rows,).
        propensity: the chance that the challenger had of scoring it, above 0 and below 1, shape (rows,).
        units: code of each row's unit, from 0 on, shape (rows,).

    >>> half = np.full(4, 0.5)
    >>> weighted(np.array([1.0, 0.0, 1.0, 0.0]), np.array([True, False, True, False]), half, np.arange(4)).value
    1.0
    """
    odds = np.where(is_challenger, 1 / propensity, -1 / (1 - propensity))
    effect = _mean(losses * odds, units)
    fewest = min(len(np.unique(units[is_challenger])), len(np.unique(units[~is_challenger])))
    return effect._replace(variance=np.inf) if fewest < FEWEST_UNITS else effect


def beyond_expected(losses: Array, covariate: Array | None = None) -> Array:
    """The losses less what was to be expected of each row, whichever version scored it.

    The mean, or with a `covariate` that is known before anybody is assigned, such as the champion's own score, the
    line through it: CUPED (Deng, Xu, Kohavi and Walker, WSDM 2013).

    >>> beyond_expected(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])).round(6).tolist()
    [0.0, 0.0, 0.0]
    """
    rest: Array = losses - losses.mean()
    if covariate is None:
        return rest
    apart = covariate - covariate.mean()
    square = float(apart @ apart)
    slope = float(apart @ rest) / square if square else 0.0
    return np.asarray(rest - slope * apart)


def _mean(values: Array, units: NDArray[np.int64]) -> Effect:
    """The mean over rows, with the variance of a ratio of sums over units (Cochran, Sampling Techniques, ch. 6).

    Infinite where there are too few units to tell.
    """
    rows = len(values)
    counts = np.bincount(units)
    there = counts > 0
    mean = float(values.mean()) if rows else np.nan
    number = int(there.sum())
    if number < FEWEST_UNITS:
        return Effect(mean, np.inf, rows, number)
    rest = np.bincount(units, values)[there] - mean * counts[there]
    return Effect(mean, float(rest @ rest) / rows**2 * number / (number - 1), rows, number)
