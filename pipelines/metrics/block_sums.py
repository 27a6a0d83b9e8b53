"""Intervals of what is computed from sums over rows, for measures that are not among the metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.documents.measures import Interval
from pipelines.metrics.bootstrap import drawn_blocks, draws, interval

if TYPE_CHECKING:
    from pipelines.config import Bootstrap

Array = NDArray[Any]
MOST_BLOCKS = 5_000


def summed_blocks(blocks: Array) -> tuple[Array, int]:
    """The number of the block that each row is summed in, and how many there are: what the metrics draw, at most 5,000.

    Where rows are drawn one by one, 5,000 bundles of rows give the same interval but for a hundredth of its width.

    >>> summed_blocks(np.array([3, 3, 4, 5, 6, 9]))
    (array([0, 0, 1, 2, 3, 4]), 5)
    """
    drawn = drawn_blocks(blocks) % MOST_BLOCKS
    return drawn, int(drawn.max(initial=-1)) + 1


def intervals_of_sums(sums: Array, combine: Callable[[Array], Array], rule: Bootstrap) -> list[Interval]:
    """Intervals of the q values that `combine` makes of sums: (..., m) sums -> (..., q), NaN where there is none.

    `sums`: of each block, shape (blocks, m). Resamples draw blocks.
    """
    values = [float(value) if np.isfinite(value) else None for value in combine(sums.sum(axis=0))]
    if len(sums) < 2:
        return [{"value": value, "low": None, "high": None} for value in values]
    resampled = np.concatenate([combine(drawn @ sums) for drawn in draws(len(sums), rule)])
    return [interval(value, resampled[:, position], len(sums), rule) for position, value in enumerate(values)]
