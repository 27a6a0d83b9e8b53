"""Columns as arrays for methods that make rows, and back: values of the column's own type, within what was seen."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def is_category(column: pa.ChunkedArray, name: str, categorical: list[str]) -> bool:
    """Whether made rows take a value that was seen: categories by declaration, and all that is no number."""
    return name in categorical or not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """float64, shape (rows,); NaN where the value is missing or not finite."""
    values = np.array(column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy())
    values[~np.isfinite(values)] = np.nan
    return values


def from_numbers(values: np.ndarray, like: pa.ChunkedArray) -> pa.Array:
    """`values` in the type of `like` and between its least and its greatest; integers rounded, NaN as null.

    >>> from_numbers(np.array([1.6, np.nan, 9.0]), pa.chunked_array([[1, 5, None]])).to_pylist()
    [2, None, 5]
    """
    missing = np.isnan(values)
    if missing.all():
        return pa.nulls(len(values), like.type)
    real = numbers(like)
    inside = np.clip(np.where(missing, 0, values), np.nanmin(real), np.nanmax(real))
    if pa.types.is_integer(like.type):
        top = float(np.iinfo(like.type.to_pandas_dtype()).max)
        # The float next to the largest int64 is one above it.
        inside = np.minimum(np.rint(inside), top if int(top) <= 2**53 else np.nextafter(top, 0))
    return pa.array(inside, mask=missing).cast(like.type)


def codes(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Each row's position among the distinct values, int64, and these values; a missing value is the last of them.

    >>> codes(pa.chunked_array([["b", None, "a", "b"]]))[0].tolist()
    [0, 2, 1, 0]
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = column.drop_null().unique()
    positions = pc.index_in(column, value_set=values, skip_nulls=True).fill_null(len(values))
    return positions.to_numpy().astype(np.int64), pa.concat_arrays([values, pa.nulls(1, values.type)])


def from_codes(positions: np.ndarray, values: pa.Array, like: pa.ChunkedArray) -> pa.Array:
    """The values at these positions, in the type of `like`."""
    return values.take(pa.array(positions)).cast(like.type)
