"""How well one feature alone predicts the label: what is too good to be true is a leak more often than a find.

A leak shows itself in a feature's order, in its ranges, in its categories, or in its being there at all; so each of
these is measured, in NumPy, and the best of them counts (Huyen, ch. 5, on detecting leakage).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.evaluation.metrics import auc

Array = NDArray[Any]
SAMPLE_ROWS = 200_000
BINS = 50
CERTAIN = 4  # standard errors: what is nearer to 1/2 than that, chance gives by itself now and then


class Prediction(NamedTuple):
    """AUC, at least 0.5, of a model that sees one feature only, and what of the feature it goes by."""

    auc: float
    by: str


def single_feature_aucs(rows: pa.Table, features: Sequence[str], seed: int) -> dict[str, Prediction]:
    """What each feature alone can do, on at most 200,000 of `rows`, drawn by `seed`; the best first.

    `rows` have `label` (0 or 1) and the features: numbers, strings or booleans. A number is taken as it is and as 50
    quantile ranges, so that a leak need not be monotone; a string as categories. Ranges and categories are learnt on
    one half of the rows and measured on the other, and the other way round, so that a category per row learns nothing
    by heart. Where there is no more than chance could give (Mann and Whitney's test, 4 standard errors) it is 0.5:
    a handful of rows proves nothing.
    """
    random = np.random.default_rng(seed)
    if rows.num_rows > SAMPLE_ROWS:
        drawn = random.choice(rows.num_rows, SAMPLE_ROWS, replace=False, shuffle=False)
        rows = rows.select(["label", *features]).take(pa.array(np.sort(drawn)))
    labels = rows["label"].to_numpy().astype(np.float64)
    half = random.random(len(labels)) < 0.5
    found = {name: _best(rows[name], labels, half) for name in features}
    return dict(sorted(found.items(), key=lambda one: (-one[1].auc, one[0])))


def _best(column: pa.ChunkedArray, labels: Array, half: Array) -> Prediction:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = pc.cast(column, pa.float64()).to_numpy()  # null becomes NaN
        missing = np.isnan(values)
        there, its = values[~missing], labels[~missing]
        candidates = [Prediction(_either_way(its, there), "its value"),
                      Prediction(_learnt(_ranges(values, missing), labels, half), "its ranges")]  # fmt: skip
    else:
        codes = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
        missing = pc.is_null(column).to_numpy().astype(bool)
        candidates = [Prediction(_learnt(codes.indices.to_numpy(), labels, half), "its categories")]
    candidates.append(Prediction(_either_way(labels, missing), "whether it is missing"))
    best = max(candidates, key=lambda one: one.auc)
    return best if best.auc > 0.5 else Prediction(0.5, "nothing")


def _ranges(values: Array, missing: Array) -> Array:
    """Number of the quantile range of each value; missing ones have a range of their own."""
    if missing.all():
        return np.zeros(len(values), np.int64)
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    edges = np.unique(np.quantile(values[~missing], inner, method="inverted_cdf"))
    return np.where(missing, len(edges) + 1, np.searchsorted(edges, values))


def _either_way(labels: Array, values: Array) -> float:
    """AUC of the values as scores, or of their negation, whichever is better."""
    distinct, rank = np.unique(values, return_inverse=True)
    measured = auc(labels, rank / max(1, len(distinct) - 1))
    return 0.5 if measured is None else _certain(max(measured, 1 - measured), labels)


def _learnt(codes: Array, labels: Array, half: Array) -> float:
    """AUC of each code's positive rate, learnt on the other half of the rows (target encoding; Micci-Barreca 2001)."""
    measured = [_transferred(codes, labels, side) for side in (half, ~half)]
    return _certain(float(np.mean(measured)), labels)


def _transferred(codes: Array, labels: Array, learn: Array) -> float:
    if learn.all() or not learn.any():
        return 0.5
    slots = int(codes.max()) + 1
    rows = np.bincount(codes[learn], minlength=slots)
    positives = np.bincount(codes[learn], labels[learn], slots)
    rate = (positives + labels[learn].mean()) / (rows + 1)  # one row's worth of doubt
    measured = auc(labels[~learn], rate[codes[~learn]])
    return 0.5 if measured is None else measured


def _certain(measured: float, labels: Array) -> float:
    positives = float(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return 0.5
    error = np.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    return measured if measured - 0.5 > CERTAIN * error else 0.5
