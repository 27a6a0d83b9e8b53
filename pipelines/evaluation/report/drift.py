"""drift: how far the test rows lie from those that the model learnt from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.documents.evaluation import Drift
from pipelines.profiles.distance import psi

Array = NDArray[Any]
BINS = 10
KEPT_CATEGORIES = 50


def drift(train: pa.Table, test: pa.Table, features: list[str], train_scores: Array, scores: Array) -> Drift:
    """PSI of each feature and of the scores, weighted by `weight` where the rows have it.

    Numbers are compared on tenths of the training rows, missing ones and categories (the 50 most frequent) by
    themselves. Of several classes the score that moved most counts. All None where a side has no rows.
    """
    if not (train.num_rows and test.num_rows):
        return {"columns": dict.fromkeys(features), "prediction": None}
    weights = _weights(train), _weights(test)
    columns = {name: psi(*_counts(*_codes(train[name], test[name]), *weights)) for name in features}
    sides = [np.atleast_2d(side.T) for side in (train_scores, scores)]
    moved = [psi(*_counts(*_binned(known, test), *weights)) for known, test in zip(*sides, strict=True)]
    return {"columns": columns, "prediction": max(moved)}


def _weights(rows: pa.Table) -> Array:
    """Weights that add up to the rows: what chance gives depends on how many there are."""
    if "weight" not in rows.column_names:
        return np.ones(rows.num_rows)
    weights: Array = rows["weight"].to_numpy()
    return weights * (len(weights) / weights.sum()) if weights.any() else np.ones(len(weights))


def _counts(known: Array, test: Array, known_weights: Array, found_weights: Array) -> tuple[list[int], list[int]]:
    size = int(max(known.max(), test.max())) + 1
    pairs = ((known, known_weights), (test, found_weights))
    known_counts, found_counts = (
        np.rint(np.bincount(codes, weights, size)).astype(int).tolist() for codes, weights in pairs
    )
    return known_counts, found_counts


def _codes(train: pa.ChunkedArray, test: pa.ChunkedArray) -> tuple[Array, Array]:
    if pa.types.is_integer(train.type) or pa.types.is_floating(train.type):
        known, test_values = (column.cast(pa.float64(), safe=False).to_numpy() for column in (train, test))
        return _binned(known, test_values)
    train, test = train.cast(pa.string()), test.cast(pa.string())
    counts = pc.value_counts(train.drop_null())
    ranked = pa.table({"category": counts.field("values"), "count": counts.field("counts")})
    kept = ranked.sort_by([("count", "descending"), ("category", "ascending")])["category"][:KEPT_CATEGORIES]
    codes = []
    for column in (train, test):
        place = pc.index_in(column, value_set=kept, skip_nulls=True).fill_null(len(kept)).to_numpy()
        codes.append(np.where(pc.is_null(column).to_numpy(), len(kept) + 1, place))
    return codes[0], codes[1]


def _binned(known: Array, test: Array) -> tuple[Array, Array]:
    """Number of the training rows' tenth, the last one for what is no finite number."""
    finite = known[np.isfinite(known)]
    edges = np.unique(np.quantile(finite, np.arange(1, BINS) / BINS, method="inverted_cdf")) if finite.size else finite
    if edges.size and edges[0] == finite.min():  # the lowest bin is a single value: what falls below it is another
        edges = np.insert(edges, 0, np.nextafter(edges[0], -np.inf))
    places = [
        np.where(np.isfinite(side), np.searchsorted(edges, side), len(edges) + 1).astype(np.int64)
        for side in (known, test)
    ]
    return places[0], places[1]
