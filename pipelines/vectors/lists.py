"""lists: lists of numbers, so many in each row, as a matrix."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.errors import SchemaError


def matrix(column: pa.ChunkedArray | pa.Array, length: int | None = None) -> NDArray[np.float32]:
    """float32, shape (rows, length); a row without a list is all NaN.

    Raises:
        SchemaError: a list has another length; without one given, than the others.

    >>> matrix(pa.chunked_array([[[3.0, 4.0], None]]))
    array([[ 3.,  4.],
           [nan, nan]], dtype=float32)
    """
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths = np.unique(pc.list_value_length(values).drop_null().to_numpy())
    expected = length if length is not None else int(lengths[0]) if len(lengths) else 0
    if len(lengths) and lengths.tolist() != [expected]:
        raise SchemaError(
            f"lists of {', '.join(map(str, lengths))} numbers, and {expected} are wanted in each row",
            where="an embedding",
            cure="give each row as many numbers as columns.<name>.length says",
        )
    rows = np.full((len(values), expected), np.nan, dtype=np.float32)
    flat = pc.list_flatten(values).cast(pa.float32()).to_numpy(zero_copy_only=False)
    is_there = values.is_valid().to_numpy(zero_copy_only=False)
    rows[is_there] = flat.reshape(int(is_there.sum()), expected)
    return rows
