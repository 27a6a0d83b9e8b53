"""How far two histograms on the same bins lie apart. All take (..., slots) arrays of counts and give (...).

Profiles are all that is needed: no distance looks at rows. A side without rows proves nothing: the distance is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.profiles.column import Bins, Numbers

Array = NDArray[Any]


def psi(reference: ArrayLike, counts: ArrayLike) -> Any:
    """Population stability index of two histograms: 0 when they are equal, symmetric, in nats.

    The sum of (p - q) ln(p / q), Jeffreys' divergence (Siddiqi, Credit Risk Scorecards, 2006: below .1 stable, above
    .25 a major shift). Each bin that either has rows in gets one row more (Laplace), which keeps it finite. Chance
    alone gives about (bins - 1) (1/n + 1/m) for n and m rows.

    >>> round(psi([50, 50], [80, 20]), 3), psi([5, 5, 0], [5, 5, 0])
    (0.397, 0.0)
    """
    expected, other = _pair(reference, counts)
    used = (expected + other > 0).astype(float)
    p, q = _shares(expected + used), _shares(other + used)
    ratio = np.divide(p, q, out=np.ones_like(p), where=used > 0)
    return _where_both(((p - q) * np.log(ratio)).sum(axis=-1), expected, other)


def jensen_shannon(reference: ArrayLike, counts: ArrayLike) -> Any:
    """Jensen-Shannon distance of two histograms, 0 (equal) to 1 (disjoint): a metric (Endres and Schindelin, 2003).

    >>> jensen_shannon([1, 1, 0], [0, 0, 2]), jensen_shannon([1, 2], [2, 4])
    (1.0, 0.0)
    """
    expected, other = _pair(reference, counts)
    p, q = _shares(expected), _shares(other)
    middle = (p + q) / 2
    terms = [side * np.log2(np.divide(side, middle, out=np.ones_like(side), where=side > 0)) for side in (p, q)]
    return _where_both(np.sqrt(np.clip((terms[0] + terms[1]).sum(axis=-1) / 2, 0, 1)), expected, other)


def wasserstein(bins: Numbers, reference: ArrayLike, counts: ArrayLike) -> Any:
    """Wasserstein-1 (earth mover's) distance of a number's values, in units of its spread in training.

    The area between the two distribution functions, taken as linear within a bin; what lies beyond the outermost
    edges is taken to lie on them. 0 where training has no spread.

    >>> wasserstein(Numbers(edges=(0, 1, 2, 3), scale=1), [0, 9, 0, 0, 0, 0, 0], [0, 0, 0, 9, 0, 0, 0])
    2.0
    """
    expected, other = _pair(reference, counts)
    expected, other = expected[..., : len(bins.edges) + 1], other[..., : len(bins.edges) + 1]
    if not bins.scale or len(bins.edges) < 2:
        return _where_both(np.zeros(expected.shape[:-1]), expected, other)
    apart = np.cumsum(_shares(expected) - _shares(other), axis=-1)[..., :-1]  # at the edges
    left, right = apart[..., :-1], apart[..., 1:]
    sizes = np.abs(left) + np.abs(right)
    crossed = np.divide(left**2 + right**2, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    mean = np.where(left * right < 0, crossed, sizes) / 2
    return _where_both((mean * (np.diff(bins.edges) / bins.scale)).sum(axis=-1), expected, other)


def kolmogorov_smirnov(bins: Numbers, reference: ArrayLike, counts: ArrayLike) -> Any:
    """Largest difference of a number's two distribution functions, at the bins' edges: a lower bound, 0 to 1."""
    expected, other = _pair(reference, counts)
    expected, other = expected[..., : len(bins.edges) + 1], other[..., : len(bins.edges) + 1]
    return _where_both(np.abs(np.cumsum(_shares(expected) - _shares(other), axis=-1)).max(axis=-1), expected, other)


def chi_square(reference: ArrayLike, counts: ArrayLike) -> Any:
    """Pearson's statistic of the table of both histograms: how unlikely it is that they are of one distribution.

    >>> round(chi_square([10, 20], [20, 10]), 3)
    6.667
    """
    expected_counts, other = _pair(reference, counts)
    total, row = expected_counts + other, np.stack([expected_counts.sum(axis=-1), other.sum(axis=-1)])
    share = total / np.maximum(row.sum(axis=0), 1)[..., None]
    value = np.zeros(total.shape[:-1])
    for side, rows in zip((expected_counts, other), row, strict=True):
        expected = share * rows[..., None]
        value = value + np.divide((side - expected) ** 2, expected, out=np.zeros_like(side), where=expected > 0).sum(-1)
    return _where_both(value, expected_counts, other)


def cramers_v(reference: ArrayLike, counts: ArrayLike) -> Any:
    """Cramer's V of the table of both histograms: `chi_square` as a strength, 0 to 1, whatever the number of rows.

    Sides of unequal size hide it: each is taken for as many rows as the smaller one.

    >>> round(cramers_v([10, 20], [200, 100]), 3), cramers_v([10, 0], [0, 3])
    (0.333, 1.0)
    """
    expected, other = _pair(reference, counts)
    size = np.minimum(expected.sum(axis=-1), other.sum(axis=-1))
    value = chi_square(_shares(expected) * size[..., None], _shares(other) * size[..., None])
    return _where_both(np.sqrt(np.clip(value / np.maximum(2 * size, 1), 0, 1)), expected, other)


def deciding(bins: Bins, reference: ArrayLike, counts: ArrayLike) -> dict[str, Any]:
    """The distances that alarm levels are told for: a change of shares or gaps, and of numbers how far they moved.

    NaN where a side has no rows or, of the latter, no values.
    """
    expected, other = _pair(reference, counts)
    distances = {"js": np.where(_both(expected, other), jensen_shannon(expected, other), np.nan)}
    if isinstance(bins, Numbers) and bins.scale:
        numbers = len(bins.edges) + 1
        is_comparable = _both(expected[..., :numbers], other[..., :numbers])
        distances["wasserstein"] = np.where(is_comparable, wasserstein(bins, expected, other), np.nan)
    return distances


def _pair(reference: ArrayLike, counts: ArrayLike) -> tuple[Array, Array]:
    expected, other = np.broadcast_arrays(np.asarray(reference, np.float64), np.asarray(counts, np.float64))
    return expected, other


def _shares(counts: Array) -> Array:
    total = counts.sum(axis=-1, keepdims=True)
    shares: Array = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    return shares


def _both(expected: Array, other: Array) -> Array:
    return np.asarray(expected.any(axis=-1) & other.any(axis=-1))


def _where_both(value: Array, expected: Array, other: Array) -> Any:
    distance = np.where(_both(expected, other), value, 0.0)
    return float(distance) if distance.ndim == 0 else distance
