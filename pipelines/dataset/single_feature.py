"""How well one feature alone predicts the label: what is too good to be true is a leak more often than a find.

A leak shows itself in a feature's order, in its ranges, in its categories, or in its being there at all; so each of
these is measured, in NumPy, and the best of them counts (Huyen, ch. 5, on detecting leakage).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Array = NDArray[Any]
SAMPLE_ROWS = 200_000
BINS = 50
LEAVES = 256
CERTAIN = 4  # standard errors: what is nearer to nothing than that, chance gives by itself now and then


class Prediction(NamedTuple):
    """How good a model is that sees one feature only (AUC or R2), and what of the feature it goes by."""

    value: float
    by: str


def single_feature_aucs(rows: pa.Table, features: Sequence[str], seed: int) -> dict[str, Prediction]:
    """What each feature alone can do about classes, on at most 200,000 of `rows`, drawn by `seed`; the best first.

    `rows` have `label` (0 or 1, or the names of several classes: then it is the AUC of the class against the rest that
    the feature tells best) and the features: numbers, strings or booleans. A number is taken as it is and as 50
    quantile ranges, so that a leak need not be monotone; a string as categories. Ranges and categories are learnt on
    one half of the rows and measured on the other, and the other way round, so that a category per row learns nothing
    by heart. Where there is no more than chance could give (Mann and Whitney's test, 4 standard errors) it is 0.5:
    a handful of rows proves nothing.
    """
    rows, half = _sampled(rows, features, seed)
    label = rows["label"]
    if pa.types.is_string(label.type):
        names = sorted(label.unique().to_pylist())
        targets = {f", for {name}": pc.equal(label, name).to_numpy().astype(np.float64) for name in names}
    else:
        targets = {"": label.to_numpy().astype(np.float64)}

    def measured(column: pa.ChunkedArray) -> Iterator[Prediction]:
        values, missing = _taken(column)
        ways: dict[str, Callable[[Array], float]] = {}
        if values is None:
            codes = pc.dictionary_encode(column, null_encoding="encode").combine_chunks().indices.to_numpy()
            ways["its categories"] = lambda labels: _learnt_auc(codes, labels, half)
        else:
            rank, ranges = _ranks(values[~missing]), _ranges(values, missing)
            ways["its value"] = lambda labels: _either_way(rank, labels[~missing])
            ways["its ranges"] = lambda labels: _learnt_auc(ranges, labels, half)
        ways["whether it is missing"] = lambda labels: _either_way(missing.astype(np.int64), labels)
        for by, way in ways.items():
            yield max((Prediction(way(labels), by + of) for of, labels in targets.items()), key=lambda one: one.value)

    return _best_first(rows, features, measured, nothing=0.5)


def single_feature_r2s(rows: pa.Table, features: Sequence[str], seed: int) -> dict[str, Prediction]:
    """What share of a number's variance each feature alone explains, on rows that it was not learnt from.

    As `single_feature_aucs`, for a `label` that is a number: R2 of a regression tree of 256 leaves over the values
    (which needs no order to be kept and no distribution; Breiman et al., Classification and Regression Trees, 1984),
    of the mean of each category, and of whether it is missing. No more than chance could give (a correlation of 4
    standard errors) is 0.
    """
    rows, half = _sampled(rows, features, seed)
    labels = rows["label"].to_numpy().astype(np.float64)

    def measured(column: pa.ChunkedArray) -> Iterator[Prediction]:
        values, missing = _taken(column)
        if values is None:
            codes = pc.dictionary_encode(column, null_encoding="encode").combine_chunks().indices.to_numpy()
            yield Prediction(_either_half(half, labels, lambda learn: _means(codes, labels, learn)), "its categories")
        else:
            rank = np.full(len(values), np.nan)  # a tree sees float32, which tells all of 200,000 ranks apart
            rank[~missing] = _ranks(values[~missing])
            yield Prediction(_either_half(half, labels, lambda learn: _tree(rank, labels, learn)), "its value")
        absent = missing.astype(np.int64)
        yield Prediction(_either_half(half, labels, lambda learn: _means(absent, labels, learn)),
                         "whether it is missing")  # fmt: skip

    return _best_first(rows, features, measured, nothing=0.0)


def _sampled(rows: pa.Table, features: Sequence[str], seed: int) -> tuple[pa.Table, Array]:
    """The rows that are looked at, and which half of them each is in."""
    random = np.random.default_rng(seed)
    if rows.num_rows > SAMPLE_ROWS:
        drawn = random.choice(rows.num_rows, SAMPLE_ROWS, replace=False, shuffle=False)
        rows = rows.select(["label", *features]).take(pa.array(np.sort(drawn)))
    return rows, random.random(rows.num_rows) < 0.5


def _best_first(
    rows: pa.Table,
    features: Sequence[str],
    measured: Callable[[pa.ChunkedArray], Iterator[Prediction]],
    nothing: float,
) -> dict[str, Prediction]:
    found = {}
    for name in features:
        best = max(measured(rows[name]), key=lambda one: one.value)
        found[name] = best if best.value > nothing else Prediction(nothing, "nothing")
    return dict(sorted(found.items(), key=lambda one: (-one[1].value, one[0])))


def _taken(column: pa.ChunkedArray) -> tuple[Array | None, Array]:
    """A number's values, float64, NaN where missing (None where it is no number); and where it is missing."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None, pc.is_null(column).to_numpy().astype(bool)
    values = pc.cast(column, pa.float64(), safe=False).to_numpy()
    return values, np.isnan(values)


def _ranks(values: Array) -> Array:
    return np.unique(values, return_inverse=True)[1]


def _ranges(values: Array, missing: Array) -> Array:
    """Number of the quantile range of each value; missing ones have a range of their own."""
    if missing.all():
        return np.zeros(len(values), np.int64)
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    edges = np.unique(np.quantile(values[~missing], inner, method="inverted_cdf"))
    return np.where(missing, len(edges) + 1, np.searchsorted(edges, values))


def _auc(rank: Array, labels: Array) -> float | None:
    """How often a positive ranks above a negative, ties counting half; None where one of them is not there."""
    positives = np.bincount(rank, labels, minlength=1)
    negatives = np.bincount(rank, 1 - labels, minlength=1)
    pairs = positives.sum() * negatives.sum()
    return float(positives @ (np.cumsum(negatives) - negatives / 2) / pairs) if pairs else None


def _either_way(rank: Array, labels: Array) -> float:
    """AUC of the ranks as scores, or of their negation, whichever is better."""
    measured = _auc(rank, labels)
    return 0.5 if measured is None else _certain(max(measured, 1 - measured), labels)


def _learnt_auc(codes: Array, labels: Array, half: Array) -> float:
    """AUC of each code's positive rate, learnt on the other half of the rows (target encoding; Micci-Barreca 2001)."""
    measured = []
    for learn in (half, ~half):
        found = None
        if learn.any() and not learn.all():
            found = _auc(_ranks(_means(codes, labels, learn)), labels[~learn])
        measured.append(0.5 if found is None else found)
    return _certain(float(np.mean(measured)), labels)


def _means(codes: Array, labels: Array, learn: Array) -> Array:
    """For each row that is not learnt from the mean label of its code, with one row's worth of doubt."""
    slots = int(codes.max()) + 1
    rows = np.bincount(codes[learn], minlength=slots)
    totals = np.bincount(codes[learn], labels[learn], slots)
    means: Array = ((totals + labels[learn].mean()) / (rows + 1))[codes[~learn]]
    return means


def _tree(rank: Array, labels: Array, learn: Array) -> Array:
    from sklearn.tree import DecisionTreeRegressor

    tree = DecisionTreeRegressor(max_leaf_nodes=LEAVES, min_samples_leaf=5, random_state=0)
    column = rank[:, None]
    return np.asarray(tree.fit(column[learn], labels[learn]).predict(column[~learn]))


def _either_half(half: Array, labels: Array, predicted: Callable[[Array], Array]) -> float:
    """Mean R2 of what is learnt on one half and measured on the other, and the other way round; at least 0."""
    found = []
    for learn in (half, ~half):
        truth = labels[~learn]
        spread = np.square(truth - truth.mean()).sum() if learn.any() and not learn.all() else 0.0
        found.append(1 - np.square(truth - predicted(learn)).sum() / spread if spread > 0 else 0.0)
    measured = float(np.mean(found))
    return measured if measured * len(labels) > CERTAIN**2 else 0.0


def _certain(measured: float, labels: Array) -> float:
    positives = float(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return 0.5
    error = np.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    return measured if measured - 0.5 > CERTAIN * error else 0.5
