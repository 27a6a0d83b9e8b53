"""Feature rows to the float32 matrix that models take; the same object for training, batches and single rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.base import BaseEstimator, TransformerMixin

from pipelines.errors import SchemaError


class FrameEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Arrow table or pandas frame, any column order -> float32 matrix (rows, len(columns)), in `columns`' order.

    A category becomes its rank among the categories of the training rows, sorted; one that training never
    saw becomes NaN, as does a missing value: models take NaN, and monitoring counts the unseen.

    Raises (transform):
        SchemaError: a column is missing. Columns are found by name, so they cannot swap silently.

    >>> rows = pa.table({"n": [1, 2], "c": ["b", "a"]})
    >>> FrameEncoder(["c", "n"], ["c"]).fit(rows).transform(pa.table({"n": [3, None], "c": ["a", "z"]}))
    array([[ 0.,  3.],
           [nan, nan]], dtype=float32)
    """

    def __init__(self, columns: list[str], categorical: list[str]) -> None:
        self.columns = columns
        self.categorical = categorical

    def fit(self, X: Any, y: Any = None) -> FrameEncoder:
        rows = self._named(X)
        self.categories_ = {
            name: sorted(value for value in _text(rows[name]).unique().to_pylist() if value is not None)
            for name in self.categorical
        }
        return self

    def transform(self, X: Any) -> np.ndarray:
        rows = self._named(X)
        matrix = np.empty((rows.num_rows, len(self.columns)), dtype=np.float32)
        for position, name in enumerate(self.columns):
            column = rows[name]
            if name in self.categories_:
                known = pa.array(self.categories_[name], pa.string())
                column = pc.index_in(_text(column), value_set=known, skip_nulls=True)
            matrix[:, position] = column.cast(pa.float32(), safe=False).to_numpy()
        return matrix

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        return np.asarray(self.columns, dtype=object)

    def _named(self, X: Any) -> pa.Table:
        rows = X if isinstance(X, pa.Table) else pa.Table.from_pandas(X, preserve_index=False)
        missing = [name for name in self.columns if name not in rows.schema.names]
        if missing:
            raise SchemaError(
                f"feature columns are missing: {', '.join(missing)}",
                where="model input",
                cure=f"give the model {', '.join(self.columns)}",
            )
        return rows.select(self.columns)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column if pa.types.is_string(column.type) else column.cast(pa.string())
