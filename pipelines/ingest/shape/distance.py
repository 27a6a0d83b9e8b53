"""How far a partition lies from those before it, and how far is too far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.ingest.shape.profile import Array

FLOOR = {
    "number": 0.2,
    "category": 0.15,
    "mostly": 0.25,
    "nulls": 0.05,
    "spread": 1.4,
    "relation": 0.35,
    "rows": 0.4,
    "distinct": 0.8,
    "copies": 0.04,
    "unseen": 0.2,
    "beyond": 0.4,
    "pairs": 0.15,
    "gone": 0.05,
    "rest": 0.35,
    "rhythm": 0.1,
    "usual rhythm": 2.5,
}  # what no history makes suspicious
FEWEST_VALUES = 10  # by which a standard deviation is told from nought


def allowed(floor: float, usual: float, before: Sequence[int], now: int) -> float:
    """The distance up to which nothing is suspicious, of a partition of `now` rows after some of `before` rows.

    Few rows lie far off by chance: a distance goes down with the root of their number.

    >>> allowed(0.2, 0.5, [900, 1000], 900), allowed(0.2, 0.5, [900, 1000], 100)
    (0.7, 1.7)
    """
    return max(floor, 2 / float(np.sqrt(now))) + usual * wider(before, now)


def wider(before: Sequence[int], now: int) -> float:
    return max(1.0, float(np.sqrt(min(before) / now)))


def chance(share: float, rows: int) -> float:
    """Standard deviation of a share among so many rows; the rule of succession keeps 0 and 1 from being certain."""
    likely = (share * rows + 1) / (rows + 2)
    return float(np.sqrt(likely * (1 - likely) / rows))


def distances(past: Sequence[Array], values: Array, kind: str) -> tuple[float, float]:
    """To the nearest of the past; and the largest that one of these has to its nearest, which is what is usual."""
    usual = max(nearest([*past[:place], *past[place + 1 :]], one, kind) for place, one in enumerate(past))
    return nearest(past, values, kind), usual


def nearest(past: Sequence[Array], values: Array, kind: str) -> float:
    """Of numbers the normed Wasserstein-1 distance, of categories the total variation, of sizes that of logarithms."""
    gaps = np.abs(np.stack(past) - values)
    return float((gaps.sum(axis=1) / 2 if kind == "category" else gaps.mean(axis=1)).min())
