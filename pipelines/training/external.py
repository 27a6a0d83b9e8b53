"""Training data that does not fit into memory: XGBoost's matrix on disk, read page by page in every round.

What stays in memory is a few pages, and a few numbers a row: label, weight, gradient, position in the tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import DataError

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
HASHED_ROWS = 65_536


class Fingerprint:
    """A hash of rows, whichever way they are cut into batches."""

    def __init__(self) -> None:
        self.parts = [hashlib.sha256() for _ in range(3)]
        self.shape = [0, 0]

    def add(self, matrix: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Fingerprint:
        for start in range(0, len(matrix), HASHED_ROWS):  # a part at a time: it may have to be copied
            rows = slice(start, start + HASHED_ROWS)
            for part, array in zip(self.parts, (matrix, y, weight), strict=True):
                part.update(np.ascontiguousarray(array[rows], dtype=np.float32).data)
        self.shape = [self.shape[0] + len(matrix), matrix.shape[1]]
        return self

    def digest(self) -> list[str]:
        return [str(self.shape), *(part.hexdigest() for part in self.parts)]


def matrix_on_disk(
    batches: Callable[[], Iterator[Batch]],
    folder: Path,
    *,
    feature_types: list[str],
    max_bin: int,
    threads: int,
    fingerprint: Fingerprint | None = None,
    ref: Any = None,
) -> Any:
    """An `xgboost.ExtMemQuantileDMatrix` in `folder`, which has to live as long as it does.

    `batches` is called once for each of the passes that XGBoost makes over the data (three; two with `ref`), and gives
    the same rows each time. `fingerprint`: takes in the rows of the first pass. `ref`: a matrix whose bins are taken.

    Raises:
        DataError: there is not one row.
    """
    import xgboost

    class Pages(xgboost.DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(cache_prefix=str(folder / "pages"), on_host=False)
            self.rows = 0
            self.passes = 0
            self.left = batches()

        def reset(self) -> None:
            self.left = batches()

        def next(self, input_data: Callable[..., Any]) -> bool:
            for matrix, y, weight in self.left:
                if len(matrix):
                    if self.passes == 0:
                        self.rows += len(matrix)
                        if fingerprint is not None:
                            fingerprint.add(matrix, y, weight)
                    input_data(data=matrix, label=y, weight=weight, feature_types=feature_types)
                    return True
            self.passes += 1
            if self.rows == 0:
                raise DataError("there is no row to learn from", where="training rows", cure="ingest more partitions")
            return False

    return xgboost.ExtMemQuantileDMatrix(Pages(), ref=ref, max_bin=max_bin, enable_categorical=True, nthread=threads)
