"""How well one feature alone predicts the label: what is too good to be true is a leak more often than a find.

A leak shows itself in a feature's order, in its ranges, in its categories, or in its being there at all; so each of
these is measured, in NumPy, and the best of them counts (Huyen, ch. 5, on detecting leakage).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from pipelines.config import VectorKind
from pipelines.vectors.foretold import foretold

Array = NDArray[Any]
Vectors = Mapping[str, VectorKind]
NONE: Vectors = {}
SAMPLE_ROWS = 200_000
BINS = 50
LEAVES = 256
BY: dict[VectorKind, str] = {"text": "its words", "embedding": "its numbers"}
CERTAIN = 4  # standard errors: what is nearer to nothing than that, chance gives by itself now and then
CLASS_ROWS = 12  # of fewer, chance gives a class away now and then
TOGETHER_ROWS = 10_000
SAME = 0.995  # R2 from which on two numbers are one, in other words


class Prediction(NamedTuple):
    """How good a model is that sees one feature only (AUC, R2 or share), and what of the feature it goes by."""

    value: float
    by: str


def single_feature_aucs(
    rows: pa.Table | ds.Dataset, features: Sequence[str], seed: int, vectors: Vectors = NONE
) -> dict[str, Prediction]:
    """What each feature alone can do about classes, on at most 200,000 of `rows`, drawn by `seed`; the best first.

    `rows`, which may be more than fit in memory, have `label` (0 or 1, or the names of several classes: then it is the
    AUC of the class against the rest that the feature tells best) and the features: numbers, strings or booleans. A
    number is taken as it is and as 50 quantile ranges, so that a leak need not be monotone; a string as categories.
    Ranges and categories are learnt on one half of the rows and measured on the other, and the other way round, so that
    a category per row learns nothing by heart; so it is with all words of a text together (`vectors`), by a linear
    model of them. Where there is no more than chance could give (Mann and Whitney's test, 4 standard errors) it is 0.5:
    a handful of rows proves nothing.
    """
    rows, half = _sampled(rows, features, seed)
    label = rows["label"]
    if pa.types.is_string(label.type):
        names = sorted(label.unique().to_pylist())
        targets = {f", for {name}": pc.equal(label, name).to_numpy().astype(np.float64) for name in names}
    else:
        targets = {"": label.to_numpy().astype(np.float64)}

    def measured(name: str) -> Iterator[Prediction]:
        column = rows[name]
        values, missing = _taken(column)
        ways: dict[str, Callable[[Array], float]] = {}
        if name in vectors:
            scores = foretold(column, vectors[name], np.stack(list(targets.values()), axis=1), half)
            for (of, labels), score in zip(targets.items(), scores.T, strict=True):
                yield Prediction(_half_auc(score, labels, half), BY[vectors[name]] + of)
        elif values is None:
            codes = _codes(column)
            ways["its categories"] = lambda labels: _learnt_auc(codes, labels, half)
        else:
            rank, ranges = _ranks(values[~missing]), _ranges(values, missing)
            ways["its value"] = lambda labels: _either_way(rank, labels[~missing])
            ways["its ranges"] = lambda labels: _learnt_auc(ranges, labels, half)
        ways["whether it is missing"] = lambda labels: _either_way(missing.astype(np.int64), labels)
        for by, way in ways.items():
            yield max(
                (Prediction(way(labels), by + of) for of, labels in targets.items()),
                key=lambda prediction: prediction.value,
            )

    return _best_first(features, measured, nothing=0.5)


def single_feature_shares(
    rows: pa.Table | ds.Dataset, features: Sequence[str], seed: int, vectors: Vectors = NONE
) -> dict[str, Prediction]:
    """What share of the uncertainty about one of several classes each feature alone removes: 0 nothing, 1 all.

    Theil's uncertainty coefficient, one minus the feature's log loss over that of the classes' shares, on rows that it
    was not learnt from. Unlike the AUC of the class that is told best, it does not grow with the number of classes: to
    tell one of nine well is to tell little. As `single_feature_aucs`: 50 quantile ranges of a number, categories, and
    that it is missing, which counts as one of these.
    """
    rows, half = _sampled(rows, features, seed)
    labels = _codes(rows["label"])
    classes = int(labels.max(initial=-1)) + 1

    def measured(name: str) -> Iterator[Prediction]:
        column = rows[name]
        values, missing = _taken(column)
        if name in vectors:  # the class that they speak for most
            codes = foretold(column, vectors[name], np.eye(classes)[labels], half).argmax(axis=1)
            by = BY[vectors[name]]
        elif values is None:
            codes, by = _codes(column), "its categories"
        else:
            codes, by = _ranges(values, missing), "its ranges"
        shares = [_removed(codes, labels, classes, learn) for learn in (half, ~half)]
        yield Prediction(max(float(np.mean(shares)), 0.0), by)

    return _best_first(features, measured, nothing=0.0)


class Stand(NamedTuple):
    """One value of a feature that stands for one of several classes.

    `overlap`: rows that have both, over rows that have one of them; `auc`: of the class against the rest, by having
    the value.
    """

    value: Any
    label: str
    overlap: float
    auc: float


def stand_ins(rows: pa.Table | ds.Dataset, features: Sequence[str], seed: int) -> dict[str, Stand]:
    """Of each feature the value, or its being missing, that coincides best with one class: a class in other words.

    A class of fewer than 12 rows proves nothing; a measurement, which seldom takes a value twice, stands for no class.
    """
    rows, _ = _sampled(rows, features, seed)
    stand_in_for = {}
    for name in features:
        values = rows[name]
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        counts = (
            pa.table({"value": values, "label": rows["label"]})
            .group_by(["value", "label"])
            .aggregate([([], "count_all")])
        )
        both = counts["count_all"].to_numpy().astype(np.float64)
        of_value, of_label = (_totals(counts[part], both) for part in ("value", "label"))
        overlap = np.where(of_label >= CLASS_ROWS, both / (of_value + of_label - both), 0.0)
        if not len(overlap) or not overlap.max():
            continue
        best = int(overlap.argmax())
        rest = rows.num_rows - of_label[best]
        is_told, is_alarm = both[best] / of_label[best], (of_value[best] - both[best]) / rest if rest else 0.0
        stand_in_for[name] = Stand(
            counts["value"][best].as_py(),
            counts["label"][best].as_py(),
            float(overlap[best]),
            float((1 + is_told - is_alarm) / 2),
        )
    return stand_in_for


def single_feature_r2s(
    rows: pa.Table | ds.Dataset, features: Sequence[str], seed: int, vectors: Vectors = NONE
) -> dict[str, Prediction]:
    """What share of a number's variance each feature alone explains, on rows that it was not learnt from.

    As `single_feature_aucs`, for a `label` that is a number: R2 of a regression tree of 256 leaves over the values
    (which needs no order to be kept and no distribution; Breiman et al., Classification and Regression Trees, 1984),
    of the mean of each category, and of whether it is missing. No more than chance could give (a correlation of 4
    standard errors) is 0.
    """
    rows, half = _sampled(rows, features, seed)
    labels = rows["label"].to_numpy().astype(np.float64)

    def measured(name: str) -> Iterator[Prediction]:
        column = rows[name]
        values, missing = _taken(column)
        if name in vectors:
            scores = foretold(column, vectors[name], labels[:, None], half)[:, 0]
            yield Prediction(_either_half(half, labels, lambda learn: scores[~learn]), BY[vectors[name]])
        elif values is None:
            codes = _codes(column)
            yield Prediction(_either_half(half, labels, lambda learn: _means(codes, labels, learn)), "its categories")
        else:
            rank = np.full(len(values), np.nan)  # a tree sees float32, which tells all of 200,000 ranks apart
            rank[~missing] = _ranks(values[~missing])
            yield Prediction(_either_half(half, labels, lambda learn: _tree(rank, labels, learn)), "its value")
        absent = missing.astype(np.int64)
        yield Prediction(
            _either_half(half, labels, lambda learn: _means(absent, labels, learn)), "whether it is missing"
        )

    return _best_first(features, measured, nothing=0.0)


def beyond_the_others(
    rows: pa.Table | ds.Dataset, features: Sequence[str], name: str, seed: int, vectors: Vectors = NONE
) -> float:
    """Share of what all other features together leave unexplained of a number's ranks that `name` explains.

    Measured by boosted trees (scikit-learn's HistGradientBoostingRegressor) on at most 10,000 rows, learnt on one half
    and measured on the other. Near 1: the feature knows what nothing else knows, as a leak does. Near 0: it tells what
    the others tell as well, as last week's number does where each place has a level of its own. What is the same
    number in other words (one explains 99.5 % of the other's ranks) is no other feature.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    rows, half = _sampled(rows, features, seed, TOGETHER_ROWS)
    labels = _ranks(rows["label"].to_numpy().astype(np.float64)).astype(np.float64)
    matrix = {
        feature: foretold(rows[feature], vectors[feature], labels[:, None], half)[:, 0]
        if feature in vectors
        else _in_order(rows[feature], labels, half)
        for feature in features
    }
    tested = matrix[name]
    others = [column for feature, column in matrix.items() if feature != name and not _are_same(tested, column, half)]
    # A column without a value, as a history feature is at first, splits nothing, and scikit-learn 1.9 fails on it.
    others = [column for column in others if all(np.isfinite(column[learn]).any() for learn in (half, ~half))]

    def unexplained(columns: list[Array]) -> float:
        if not columns:
            return 1.0
        trees = HistGradientBoostingRegressor(learning_rate=0.2, max_iter=50, early_stopping=False, random_state=seed)
        x = np.stack(columns, axis=1)
        return 1 - _either_half(half, labels, lambda learn: trees.fit(x[learn], labels[learn]).predict(x[~learn]))

    with threadpool_limits(1):  # more threads than free cores wait for one another
        without, withal = unexplained(others), unexplained([*others, tested])
    return 1 - withal / without if without > 0 else 0.0


def _in_order(column: pa.ChunkedArray, labels: Array, learn: Array) -> Array:
    """A column as ranks, NaN where it is missing; categories by their mean label on the rows that are learnt from."""
    values, missing = _taken(column)
    if values is None:
        codes = _codes(column)
        return _means(
            np.concatenate([codes[learn], codes]),
            np.concatenate([labels[learn], labels]),
            _first(learn.sum(), len(codes)),
        )
    rank = np.full(len(values), np.nan)
    rank[~missing] = _ranks(values[~missing])
    return rank


def _first(count: int, more: int) -> Array:
    return np.arange(count + more) < count


def _are_same(first: Array, other: Array, half: Array) -> bool:
    known = ~(np.isnan(first) | np.isnan(other))
    if known.mean() < 0.5:
        return False
    return _either_half(half[known], first[known], lambda learn: _tree(other[known], first[known], learn)) > SAME


def _sampled(
    rows: pa.Table | ds.Dataset, features: Sequence[str], seed: int, most: int = SAMPLE_ROWS
) -> tuple[pa.Table, Array]:
    """The rows that are looked at, and which half of them each is in."""
    rows = ds.dataset(rows) if isinstance(rows, pa.Table) else rows
    random, count, names = np.random.default_rng(seed), rows.count_rows(), ["label", *features]
    if count > most:
        drawn = np.sort(random.choice(count, most, replace=False, shuffle=False))
        sample = _at(rows, names, drawn)
    else:
        sample = rows.to_table(columns=names)
    return sample, random.random(sample.num_rows) < 0.5


def _at(rows: ds.Dataset, names: list[str], positions: Array) -> pa.Table:
    """The rows at these positions, ascending, batch by batch."""
    taken, end = [], 0
    for batch in rows.to_batches(columns=names):
        start, end = end, end + batch.num_rows
        first, last = np.searchsorted(positions, [start, end])
        taken.append(batch.take(pa.array(positions[first:last] - start)))
    return pa.Table.from_batches(taken)


def _best_first(
    features: Sequence[str],
    measured: Callable[[str], Iterator[Prediction]],
    nothing: float,
) -> dict[str, Prediction]:
    best_of = {}
    for name in features:
        best = max(measured(name), key=lambda prediction: prediction.value)
        best_of[name] = best if best.value > nothing else Prediction(nothing, "nothing")
    return dict(sorted(best_of.items(), key=lambda named: (-named[1].value, named[0])))


def _taken(column: pa.ChunkedArray) -> tuple[Array | None, Array]:
    """A number's values, float64, NaN where missing (None where it is no number); and where it is missing."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None, pc.is_null(column).to_numpy().astype(bool)
    values = pc.cast(column, pa.float64(), safe=False).to_numpy()
    return values, np.isnan(values)


def _codes(column: pa.ChunkedArray) -> Array:
    """Number of each row's category; a missing one is a category too."""
    codes: Array = pc.dictionary_encode(column, null_encoding="encode").combine_chunks().indices.to_numpy()
    return codes


def _totals(column: pa.ChunkedArray, counts: Array) -> Array:
    """For each row of a table of counts, what all rows with its value count."""
    codes = _codes(column)
    return np.bincount(codes, counts)[codes]


def _removed(codes: Array, labels: Array, classes: int, learn: Array) -> float:
    """Share of the classes' log loss that knowing the code removes, on the rows that are not learnt from.

    A code's shares are those of its rows, and of as many rows of the whole as there are classes.
    """
    if not learn.any() or learn.all():
        return 0.0
    cells = np.bincount(codes[learn] * classes + labels[learn], minlength=(int(codes.max()) + 1) * classes)
    table = cells.reshape(-1, classes).astype(np.float64)
    overall = table.sum(axis=0) + 1
    overall /= overall.sum()
    shares = (table + overall * classes) / (table.sum(axis=1, keepdims=True) + classes)
    chance = -np.log(overall[labels[~learn]]).mean()
    return float(1 + np.log(shares[codes[~learn], labels[~learn]]).mean() / chance) if chance > 0 else 0.0


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
        auc = None
        if learn.any() and not learn.all():
            auc = _auc(_ranks(_means(codes, labels, learn)), labels[~learn])
        measured.append(0.5 if auc is None else auc)
    return _certain(float(np.mean(measured)), labels)


def _half_auc(score: Array, labels: Array, half: Array) -> float:
    """AUC of scores that each half of the rows was given by the other, the mean of both halves."""
    measured = [_auc(_ranks(score[part]), labels[part]) for part in (half, ~half)]
    return _certain(float(np.mean([0.5 if auc is None else auc for auc in measured])), labels)


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
    explained = []
    for learn in (half, ~half):
        truth = labels[~learn]
        spread = np.square(truth - truth.mean()).sum() if learn.any() and not learn.all() else 0.0
        explained.append(1 - np.square(truth - predicted(learn)).sum() / spread if spread > 0 else 0.0)
    measured = float(np.mean(explained))
    return measured if measured * len(labels) > CERTAIN**2 else 0.0


def _certain(measured: float, labels: Array) -> float:
    positives = float(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return 0.5
    error = np.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    return measured if measured - 0.5 > CERTAIN * error else 0.5
