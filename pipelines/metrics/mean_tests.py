"""Is a part of the rows worse off than the rest? Tests of the mean loss of some rows against that of all others."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Worse(NamedTuple):
    """How far the mean loss of the part is above that of the rest; Welch's t; degrees of freedom."""

    effect: Array
    t: Array
    df: Array

    @property
    def p_value(self) -> Array:
        """Of a part that is no worse, one-sided; 1 where there is nothing to test."""
        return p_of(self.t, self.df)


def standardised(losses: Array, weights: Array) -> Array:
    """Losses less their mean, in standard deviations, so that sums of squares stay precise; 0 where all are equal.

    >>> standardised(np.array([1.0, 3.0]), np.ones(2))
    array([-1.,  1.])
    """
    total = weights.sum()
    if not total:
        return np.zeros_like(losses)
    mean = float(weights @ losses / total)
    deviation = float(np.sqrt(weights @ np.square(losses - mean) / total))
    return (losses - mean) / deviation if deviation > 1e-9 * abs(mean) else np.zeros_like(losses)


def row_sums(losses: Array, weights: Array) -> Array:
    """What `welch` adds up, shape (6, n), of `standardised` losses: 1, w, w², w loss, w² loss, w² loss²."""
    square = weights**2
    return np.stack([np.ones_like(losses), weights, square, weights * losses, square * losses, square * losses**2])


def group_sums(sums: Array, groups: Array, count: int) -> Array:
    """Sums over the rows of each group, shape (count, 6)."""
    return np.stack([np.bincount(groups, summand, count) for summand in sums], axis=1)


def welch(part: Array, rest: Array) -> Worse:
    """Welch's t-test (1947) from sums, shape (..., 6) each; weighted rows count as so many as their weights tell
    (Kish's effective size).

    The effect is the difference in standard deviations, those of part and rest averaged: Slice Finder's effect size
    (Chung et al., 2019) but for a factor. t is NaN where either side has fewer than two rows.

    >>> sums = row_sums(np.array([1.0, 2, 3, 0, 1, 2, 1, 1]), np.ones(8)).T
    >>> found = welch(sums[:3].sum(axis=0), sums[3:].sum(axis=0))
    >>> round(float(found.t), 3), round(float(found.p_value), 3)
    (1.519, 0.11)
    """
    (mean, variance, size), (other_mean, other_variance, other_size) = _moments(part), _moments(rest)
    difference = mean - other_mean
    per_row, other_per_row = variance / size, other_variance / other_size
    error = np.sqrt(per_row + other_per_row)
    with np.errstate(divide="ignore", invalid="ignore"):
        # What is left of equal losses after rounding is no difference.
        difference = np.where(np.abs(difference) < 1e-9, 0.0, difference)
        t = np.where(difference == 0, np.where(np.isnan(error), np.nan, 0.0), difference / error)
        spread = np.sqrt((variance + other_variance) / 2)
        effect = np.where(difference == 0, 0.0, difference / spread)
        df = (per_row + other_per_row) ** 2 / (per_row**2 / (size - 1) + other_per_row**2 / (other_size - 1))
        df = np.where(np.isnan(df), size + other_size - 2, df)
    return Worse(effect, t, df)


def blocked_p_value(losses: Array, weights: Array, part: Array, blocks: Array) -> float:
    """As `welch`'s, of `standardised` losses, but rows of one block may depend on each other.

    A bad day is one observation, not a thousand.
    Cluster-robust (Liang and Zeger, 1986), with Student's t of as many degrees of freedom as there are blocks on the
    side that has fewer, less one: with few blocks the normal distribution is too sure of itself. A part that lies in
    one block cannot be told from that block: 1.
    """
    share = np.where(part, weights, 0.0), np.where(part, 0.0, weights)
    totals = [side.sum() for side in share]
    present = [len(np.unique(blocks[side > 0])) for side in share]
    if min(totals) <= 0 or min(present) < 2:
        return 1.0
    means = [float(side @ losses / total) for side, total in zip(share, totals, strict=True)]
    influence = share[0] * (losses - means[0]) / totals[0] - share[1] * (losses - means[1]) / totals[1]
    _, place = np.unique(blocks, return_inverse=True)
    few = min(present)
    variance = float(np.square(np.bincount(place, influence)).sum()) * few / (few - 1)
    difference = means[0] - means[1]
    if variance <= 0:
        return 0.0 if difference > 1e-9 else 1.0
    return float(p_of(np.asarray(difference / np.sqrt(variance)), np.asarray(few - 1)))


def p_of(t: Array, df: Array) -> Array:
    """Upper tail of Student's t; 1 where t is NaN."""
    from scipy.special import stdtr

    return np.asarray(np.where(np.isnan(t), 1.0, stdtr(np.maximum(df, 1), -np.nan_to_num(t, posinf=np.inf))))


def discoveries(p_values: Array, looked_at: int, rate: float) -> Array:
    """Which hypotheses are rejected when no more than a share `rate` of them may be so wrongly, bool (n,).

    Benjamini and Hochberg (1995). `looked_at` counts all hypotheses; those without a p-value here were not worth
    one, and stand with 1.

    >>> discoveries(np.array([0.001, 0.2, 0.02]), 3, 0.05).tolist()
    [True, False, True]
    >>> discoveries(np.array([0.001, 0.2, 0.02]), 100, 0.05).tolist()
    [False, False, False]
    """
    if not len(p_values):
        return np.zeros(0, dtype=bool)
    order = np.argsort(p_values, kind="stable")
    below = p_values[order] <= rate * np.arange(1, len(p_values) + 1) / max(looked_at, len(p_values))
    last = int(np.flatnonzero(below)[-1]) + 1 if below.any() else 0
    rejected = np.zeros(len(p_values), dtype=bool)
    rejected[order[:last]] = True
    return rejected


def _moments(sums: Array) -> tuple[Array, Array, Array]:
    """Weighted mean, variance (of a row) and effective size."""
    _, total, square, loss, square_loss, square_loss_2 = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = loss / total
        size = total**2 / square
        spread = np.maximum(square_loss_2 - 2 * mean * square_loss + mean**2 * square, 0) / square
        variance = np.where(size > 1 + 1e-9, spread * size / (size - 1), np.nan)
    return mean, variance, size
