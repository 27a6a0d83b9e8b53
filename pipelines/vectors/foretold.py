"""foretold: what a vector column alone says of a label, by a linear model that is learnt on other rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.config import VectorKind
from pipelines.vectors.lists import matrix
from pipelines.vectors.terms import batches, counts, hashed

Array = NDArray[Any]
BUCKETS = 512  # that the words of a text are hashed to
RIDGE = 1.0  # rows' worth of doubt about each


def foretold(column: pa.ChunkedArray, kind: VectorKind, targets: Array, half: Array) -> Array:
    """Scores of each target, (rows, targets): of each half of the rows by least squares on the other.

    >>> texts = pa.chunked_array([["struck engine", "no damage"] * 4])
    >>> is_damaged = np.array([[1.0], [0.0]] * 4)
    >>> foretold(texts, "text", is_damaged, np.arange(8) < 4).round(1)[:, 0].tolist()
    [0.8, 0.2, 0.8, 0.2, 0.8, 0.2, 0.8, 0.2]
    """
    from scipy.sparse import csr_array, vstack

    if kind == "embedding":
        rows = matrix(column)
        seen = np.nan_to_num((rows - np.nanmean(rows, axis=0)) / (np.nanstd(rows, axis=0) + 1e-12))
        encoded = csr_array(seen)
    else:
        encoded = vstack([hashed(counts(part, "words", 1, 1), BUCKETS) for _, part in batches(column)], format="csr")
    scores = np.tile(targets.mean(axis=0), (len(column), 1))
    for learn in (half, ~half):
        if learn.any() and not learn.all():
            learnt, mean = encoded[learn], targets[learn].mean(axis=0)
            squares = (learnt.T @ learnt).toarray().astype(np.float64) + RIDGE * np.eye(encoded.shape[1])
            weights = np.linalg.solve(squares, learnt.T @ (targets[learn] - mean))
            scores[~learn] = encoded[~learn] @ weights + mean
    return scores
