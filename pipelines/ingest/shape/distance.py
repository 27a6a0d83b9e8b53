"""How far a partition lies from those before it, and how far is too far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipelines.ingest.shape.profile import Array, ColumnShape

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
    "gone": 0.12,
    "rest": 0.35,
    "rhythm": 0.1,
    "usual rhythm": 2.5,
}  # what no history makes suspicious
FEWEST_VALUES = 10  # by which a standard deviation is told from nought
CLUSTERED = 4  # rows that tell as much as one: those of a storm, a group of travellers, an hour are much alike
A_DAY_OR_TWO = 2.0  # draws that may be other than ever: a holiday, a bridge day


class Suspicion(NamedTuple):
    """What a rule measured of a partition, beside what is usual and what is let pass."""

    value: float
    usual: float
    limit: float
    what: str
    """What is measured, with its unit: to be read after a number."""

    @property
    def ratio(self) -> float:
        """From 1 on it is suspicious."""
        return self.value / self.limit

    def __str__(self) -> str:
        """In words.

        >>> print(Suspicion(0.5, 0.0123, 0.25, "of the rows"))
        0.5 of the rows, usual: up to 0.012, limit: 0.25
        """
        return f"{self.value:.2g} {self.what}, usual: up to {self.usual:.2g}, limit: {self.limit:.2g}"


def allowed(floor: float, usual: float, before: Sequence[int], now: int, independent: float = np.inf) -> float:
    """The distance up to which nothing is suspicious, of a partition of `now` rows after some of `before` rows.

    Few rows lie far off by chance: a distance goes down with the root of their number, and rows come in clusters; in
    larger ones where no more than so many of them are `independent`.

    >>> allowed(0.2, 0.5, [900, 1000], 900), allowed(0.2, 0.5, [900, 1000], 100), allowed(0.2, 0.5, [900], 900, 16)
    (0.7, 1.9, 1.0)
    """
    by_chance = 2 * float(np.sqrt(max(CLUSTERED / max(now, 1), 1 / independent)))
    return max(floor, by_chance) + usual * wider(before, now)


def drawn(past: Sequence[ColumnShape], column: ColumnShape) -> int:
    """How many of a column's values are told apart by anything but the day, going by how that was so far.

    What has changed at the same time as the day in every partition that tells goes on to do so when it is broken.
    """
    draws = [column.draws for column in past if column.draws]
    if not draws or any(column.draws >= column.count for column in past if column.draws):
        return column.count
    return min(column.count, round(float(np.median(draws))))


def independent(past: Sequence[ColumnShape], column: ColumnShape) -> float:
    """How many of a number's values tell something of their own, going by how that was so far: a frozen one has no way
    to follow itself. At least one."""
    shares = [column.independent / column.count for column in past if column.count and column.independent]
    return max(float(np.median(shares)) * column.count, 1.0) if shares else float(max(column.count, 1))


def wider(before: Sequence[int], now: int) -> float:
    return max(1.0, float(np.sqrt(min(before) / now)))


def chance(share: float, rows: int) -> float:
    """Standard deviation of a share among so many rows; the rule of succession keeps 0 and 1 from being certain."""
    likely = (share * rows + 1) / (rows + 2)
    return float(np.sqrt(likely * (1 - likely) / rows))


def distances(past: Sequence[Array], values: Array, kind: str) -> tuple[float, float]:
    """To the nearest of the past; and the largest that one of these has to its nearest, which is what is usual."""
    usual = max(nearest([*past[:place], *past[place + 1 :]], partition, kind) for place, partition in enumerate(past))
    return nearest(past, values, kind), usual


def nearest(past: Sequence[Array], values: Array, kind: str) -> float:
    """Of numbers the normed Wasserstein-1 distance, of categories the total variation, of sizes that of logarithms."""
    gaps = np.abs(np.stack(past) - values)
    return float((gaps.sum(axis=1) / 2 if kind == "category" else gaps.mean(axis=1)).min())
