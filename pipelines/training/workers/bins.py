"""The bins of a training that several workers share, the same however the rows are shared out.

XGBoost's workers would agree on bins themselves, on others with each number of workers. Here they are found once, from
a sample, and every worker makes its matrix by them: what is learnt then hangs on the rows alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from pipelines.training.external import Batch


class Extremes(NamedTuple):
    """Least and greatest value of each column, float32 (d,); NaN where it has none."""

    least: np.ndarray
    greatest: np.ndarray

    @classmethod
    def of(cls, parts: Iterable[np.ndarray], columns: int) -> Extremes:
        """Of the rows of all `parts`, each of the shape (n, d)."""
        least = greatest = np.full(columns, np.nan, np.float32)
        for part in parts:
            least = np.fmin(least, np.fmin.reduce(part, axis=0, initial=np.nan))
            greatest = np.fmax(greatest, np.fmax.reduce(part, axis=0, initial=np.nan))
        return cls(least, greatest)


def bin_rows(sample: Batch, extremes: Extremes, kinds: list[str], max_bin: int, threads: int) -> np.ndarray:
    """Rows, float32 (n, d), at most a few more than bins, in whose matrix XGBoost has the bins of the sample's.

    Args:
        sample: matrix, labels and weights.
        extremes: of all rows. What lies beyond the sample's is in its outermost bins, which have to reach that far: a
            split between all values and those that are missing stands at such an edge. All codes of a category up
            to the greatest have a bin.
        kinds: of the columns, as XGBoost has them.
    """
    matrix, _, weight = sample
    is_beyond = (extremes.least < np.fmin.reduce(matrix, axis=0)) | (extremes.greatest > np.fmax.reduce(matrix, axis=0))
    if is_beyond.any() or np.isnan(matrix).all(axis=0).any():
        matrix = np.vstack([matrix, extremes.least, extremes.greatest])
        weight = np.append(weight, np.full(2, weight.mean()))
    starts, edges = _matrix(matrix, kinds, max_bin, threads, weight=weight).get_quantile_cut()
    columns = []
    for column, kind in enumerate(kinds):
        own = edges[int(starts[column]) : int(starts[column + 1])]
        # The first and the last edge of numbers are what XGBoost makes of the extremes.
        ends = extremes.least[column], extremes.greatest[column]
        columns.append(own if kind == "c" else np.concatenate([ends[:1], own[1:-1], ends[1:]]))
    rows = np.full((max(map(len, columns)), len(columns)), np.nan, np.float32)
    for column, values in enumerate(columns):
        rows[: len(values), column] = values
    return rows


def matrix_of_bins(rows: np.ndarray, kinds: list[str], max_bin: int, threads: int) -> Any:
    """The matrix whose bins others take, from `bin_rows`."""
    return _matrix(rows, kinds, max_bin, threads)


def matrix_by(bins: Any, rows: Batch, kinds: list[str], max_bin: int, threads: int) -> Any:
    """The matrix of rows in memory, with these bins."""
    matrix, y, weight = rows
    return _matrix(matrix, kinds, max_bin, threads, label=y, weight=weight, ref=bins)


def _matrix(rows: np.ndarray, kinds: list[str], max_bin: int, threads: int, **more: Any) -> Any:
    import xgboost

    options = {"feature_types": kinds, "enable_categorical": True, "max_bin": max_bin, "nthread": threads}
    return xgboost.QuantileDMatrix(rows, **options, **more)
