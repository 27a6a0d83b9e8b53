"""The mathematics of unequal chances: which rows get what chance to be drawn, and a draw that keeps to it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def chances(weights: np.ndarray, size: int) -> np.ndarray:
    """Inclusion probabilities min(1, c * weight) that sum to `size`: float64, shape of `weights`.

    Where c * weight would be above 1 the row is certain, and c is found anew for the others (Tillé, Sampling
    Algorithms, 2006, ch. 2). Weights are finite and not negative; if no more than `size` of them are positive,
    those are certain and the rest impossible.

    >>> chances(np.array([1.0, 1, 2, 96]), 2)
    array([0.25, 0.25, 0.5 , 1.  ])
    """
    if weights.max() > 1:
        weights = weights / len(weights)  # whose sum cannot overflow
    chance = (weights > 0).astype(np.float64)
    if chance.sum() <= size:
        return chance
    order = np.argsort(-weights, kind="stable")
    falling = weights[order]
    rest = np.cumsum(falling[::-1])[::-1]  # of this weight and all smaller ones
    left = size - np.arange(len(order))
    certain = int(np.argmax(left * falling <= rest))
    # The division comes first: c itself overflows where the weights that are left are tiny.
    chance[order[certain:]] = np.minimum(1, falling[certain:] / rest[certain] * left[certain])
    return chance


def systematic(chance: np.ndarray, order: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Positions of the drawn rows, ascending; a row is drawn with exactly its `chance`, whatever the order.

    The rows lie on a line in the given order, each as long as its chance, and every point u, u + 1, u + 2, ...
    draws the row it falls on, u being uniform in [0, 1) (Madow, On the Theory of Systematic Sampling II, 1949). The
    chances' sum, rounded up or down, is the size of the sample, and the same holds for any rows that lie together: so
    strata that lie together get their share, and rows in order of time are taken at even steps.

    >>> systematic(np.full(12, 1 / 3), np.arange(12), np.random.default_rng(1))
    array([ 1,  4,  7, 10])
    """
    order = order[chance[order] > 0]
    ends = np.cumsum(chance[order])
    total, start = float(ends[-1]), float(random.random())
    size = round(total)
    if abs(total - size) < 1e-6:  # a whole number but for rounding: then so is the size
        ends *= size / total
    else:
        size = int(total) + (start < total - int(total))
    step = np.arange(size)
    places = np.searchsorted(ends, start + step, side="right")
    # Rounding may put two points on one row, or the last beside the line: each moves to a neighbour.
    places = np.maximum.accumulate(places - step) + step
    return np.sort(order[np.minimum(places, len(order) - size + step)])


def sample(table: pa.Table, rows: int, seed: int) -> pa.Table:
    """At most `rows` rows, drawn without replacement, in the table's order; the same for the same seed."""
    if table.num_rows <= rows:
        return table
    drawn = np.random.default_rng(seed).choice(table.num_rows, rows, replace=False, shuffle=False)
    return table.take(pa.array(np.sort(drawn)))
