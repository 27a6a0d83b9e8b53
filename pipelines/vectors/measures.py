"""measures: what there is to say of a vector in one number, by which rows are cut, compared and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import VectorKind
from pipelines.vectors.lists import matrix

Column: TypeAlias = pa.ChunkedArray | pa.Array


def _characters(texts: Column) -> Any:
    return pc.utf8_length(texts).cast(pa.int64())


def _norms(vectors: Column) -> Any:
    squares = np.square(matrix(vectors).astype(np.float64)).sum(axis=1)
    return pa.array(np.sqrt(squares), mask=vectors.is_null().to_numpy(zero_copy_only=False))


MEASURES: dict[VectorKind, tuple[str, Callable[[Column], Column]]] = {
    "text": ("characters", _characters),
    "embedding": ("norm", _norms),
}
"""Of each kind the measure's name, and what it is of a column."""
SQL_MEASURES: dict[VectorKind, str] = {
    "text": "length({})",
    "embedding": "sqrt(list_sum(list_transform({}, lambda number: number::DOUBLE * number)))",
}
"""The same over a column's name in SQL."""


def measure_name(name: str, kind: VectorKind) -> str:
    """The name under which a column's measure is looked at and shown.

    >>> measure_name("remarks", "text")
    'remarks (characters)'
    """
    return f"{name} ({MEASURES[kind][0]})"


def measured_names(names: Iterable[str], vectors: Mapping[str, VectorKind]) -> list[str]:
    """The columns that `measured` gives for these."""
    return [measure_name(name, vectors[name]) if name in vectors else name for name in names]


def measured(rows: pa.Table, vectors: Mapping[str, VectorKind]) -> pa.Table:
    """The rows with each vector's measure in its place: nothing that looks at values sees a text itself.

    >>> measured(pa.table({"n": [1], "remarks": ["no damage"]}), {"remarks": "text"}).to_pydict()
    {'n': [1], 'remarks (characters)': [9]}
    """
    for place, name in enumerate(rows.column_names):
        if name in vectors:
            _, measure = MEASURES[vectors[name]]
            rows = rows.set_column(place, measure_name(name, vectors[name]), measure(rows[name]))
    return rows
