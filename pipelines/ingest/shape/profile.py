"""What a partition looks like: its columns' values in figures, however many rows it has."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOSTLY = 0.5  # share of one value from which on it says little: no rain, good sight


@dataclass(frozen=True)
class ColumnShape:
    """One column in one partition: the shares of its values by bucket, and a number's quantiles at LEVELS.

    `count` are the values that there are, `distinct` how many different ones, `spread` a number's standard deviation,
    `mode_share` the share of its most frequent value. Without a value both arrays are empty. `known` are all values of
    a number that has FEW_VALUES of them at most, and `known_shares` theirs: of the rows with other values than the most
    frequent, where that is most. `rest` are the quantiles at LEVELS of the logarithms of a number's size, of values
    other than the most frequent and zero; `rest_distinct` how many different ones there are. `draws` says how often the
    world has thrown the dice: as often as there are values, but of a column with one value for all rows of a day (a
    holiday, the month, a day's rate of exchange) as often as that changes from day to day, and 0 where each row is of
    another day, so that nothing is told. `independent`
    says how many of a number's values tell something of their own, as they follow each other in time: a sensor's next
    reading is much like its last. `is_label` says that it is what is predicted.
    """

    kind: str
    count: int
    shares: Array
    null_share: float
    values: Array
    spread: float = 0.0
    mode_share: float = 0.0
    distinct: int = 0
    rest: Array = field(default_factory=lambda: np.empty(0))
    rest_distinct: int = 0
    known: Array = field(default_factory=lambda: np.empty(0))
    known_shares: Array = field(default_factory=lambda: np.empty(0))
    draws: int = 0
    independent: float = 0.0
    is_label: bool = False

    @property
    def told_share(self) -> float:
        """Of the values, those that `known_shares` are of."""
        return 1 - self.mode_share if self.mode_share >= MOSTLY else 1.0


@dataclass(frozen=True)
class Moments:
    """Means (d,) and covariances (d, d) of the numbers; a gap counts as its column's mean.

    The mean of a column without a value is NaN.
    """

    names: list[str]
    means: Array
    covariances: Array


@dataclass(frozen=True)
class PartitionShape:
    """`content` are hashes of the sampled rows without key and times: rows that are sent again have the same.

    `copies` is the share of rows that say what another one of the partition says. `rhythm` (d, 2) are the numbers'
    slopes on sine and cosine of the hour of the event, in the order of `moments`; labels, and hours, have none.
    """

    rows: int
    columns: dict[str, ColumnShape]
    content: NDArray[np.uint64]
    moments: Moments
    copies: float = 0.0
    rhythm: Array = field(default_factory=lambda: np.empty((0, 2)))
