"""Relations between columns: what a number's mean should be, given the means of all others.

A column alone may stay within what is usual while it no longer goes with the others: two columns exchanged, degrees
Fahrenheit that became Celsius in a summer, a wind speed that is not that of its day. Linear relations of the training
rows say what a partition's mean of one column should be by those of the others, so that profiles are all that is
needed; what is left over is compared between partitions as any other distance is (`levels`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.profiles.column import ColumnProfile, Frozen, is_number, spread

Array = NDArray[Any]
RIDGE = 1e-3  # of each column's variance: columns that repeat each other have no relation of their own
FEWEST_ROWS = 200


class Relations(Frozen):
    """Of the training rows: mean and standard deviation of each of `names`, and the inverse of their correlations."""

    names: tuple[str, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]


def relations(rows: pa.Table) -> Relations | None:
    """Relations of the numeric columns that vary; None where there are fewer than two, or few rows.

    A missing value is taken for its column's mean.
    """
    names, columns = [], []
    for name in rows.column_names:
        if is_number(rows[name].type):
            values = rows[name].cast(pa.float64(), safe=False).to_numpy()
            finite = np.isfinite(values)
            finite_values = values[finite]
            mean = float((finite_values / max(len(finite_values), 1)).sum())  # divided first: no overflow
            if len(finite_values) > 1 and 0 < (std := spread(finite_values, mean)) < np.inf:
                names.append(name)
                columns.append((values, finite, mean, std))
    if len(names) < 2 or rows.num_rows < FEWEST_ROWS:
        return None
    standard = np.stack([np.where(finite, (values - mean) / std, 0.0) for values, finite, mean, std in columns])
    correlations = standard @ standard.T / rows.num_rows
    correlations[np.diag_indices(len(names))] = 1 + RIDGE
    return Relations(
        names=tuple(names),
        means=tuple(mean for *_, mean, _ in columns),
        stds=tuple(std for *_, std in columns),
        precision=tuple(map(tuple, np.linalg.inv(correlations).tolist())),
    )


def left_over(fitted: Relations, partitions: Sequence[Mapping[str, ColumnProfile]]) -> Array:
    """How far each partition's mean of each column is off what the others' means say, (partitions, names).

    In standard deviations of a training row's own such residual: of a Gaussian this is the one column's share in the
    likelihood of a shift (the precision matrix times the shift, over the root of its diagonal; Lauritzen, Graphical
    Models, 1996), so that the column with the largest is the likeliest to have moved alone. NaN where a column has no
    value.
    """
    means = np.array(
        [
            [partition[name].mean if partition[name].mean is not None else np.nan for name in fitted.names]
            for partition in partitions
        ],
        np.float64,
    ).reshape(len(partitions), len(fitted.names))
    shift = (means - fitted.means) / fitted.stds
    precision = np.array(fitted.precision)
    off = np.nan_to_num(shift) @ precision / np.sqrt(np.diag(precision))
    return np.where(np.isnan(shift), np.nan, off)
