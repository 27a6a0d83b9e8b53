"""Categories of a feature row to columns of the model's matrix: codes, one-hot, means of the label, hashes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Encoding

UNSEEN, MISSING = -1, -2  # codes of a value that training did not see, and of none
HELD_VALUES = 1_000_000  # while counting, before equal ones are added up


def text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Categories are compared as text: True is "true"."""
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def counted(batches: Iterable[pa.RecordBatch], features: list[str]) -> dict[str, pa.Table]:
    """Of each feature its distinct values, sorted, and their rows: columns value and rows; null is the last value."""
    held: dict[str, list[pa.Table]] = {name: [_counts(pa.chunked_array([], pa.string()))] for name in features}
    for batch in batches:
        for name in features:
            held[name].append(_counts(text(pa.chunked_array([batch[name]]))))
            if sum(part.num_rows for part in held[name][1:]) > HELD_VALUES + held[name][0].num_rows:
                held[name] = [_added(held[name])]
    return {name: _added(parts).sort_by("value") for name, parts in held.items()}


def _counts(column: pa.ChunkedArray) -> pa.Table:
    values, counts = column.value_counts().flatten()
    return pa.table({"value": values, "rows": counts})


def _added(parts: list[pa.Table]) -> pa.Table:
    added = pa.concat_tables(parts).group_by("value").aggregate([("rows", "sum")])
    return added.select(["value", "rows_sum"]).rename_columns(["value", "rows"])


class Vocabulary:
    """The categories of a feature: `known` by name, `rare` ones that count as one, and whether some were missing."""

    def __init__(self, counts: pa.Table, min_frequency: int, min_share: float = 0.0) -> None:
        min_frequency = max(min_frequency, math.ceil(min_share * (pc.sum(counts["rows"]).as_py() or 0)))
        values = counts.filter(pc.is_valid(counts["value"]))
        is_rare = pc.less(values["rows"], min_frequency)
        self.known: list[str] = values.filter(pc.invert(is_rare))["value"].to_pylist()
        self.rare: list[str] = values.filter(is_rare)["value"].to_pylist()
        self.has_missing = values.num_rows < counts.num_rows

    @property
    def reason(self) -> str | None:
        """Why the feature says nothing; None if it tells rows apart."""
        if not self.known and not self.rare:
            return "all values are missing"
        if len(self.known) + bool(self.rare) + self.has_missing > 1:
            return None
        return "all values are the same" if len(self.known) + len(self.rare) == 1 else "all values are rare"


class CategoryPlan(TypedDict):
    """How to prepare a category; a plain mapping, as it is part of every model file.

    `known`: how many categories have a place of their own. `buckets`: columns of hashes. `means` and `overall`: of a
    target encoding, the mean label of each category and of all rows, shapes (known + has_rare, targets) and (targets,).
    """

    kind: Encoding
    known: int
    has_rare: bool
    has_missing: bool
    buckets: int
    means: np.ndarray | None
    overall: np.ndarray | None


def fit_category(vocabulary: Vocabulary, encoding: Encoding, hash_buckets: int) -> CategoryPlan:
    """How to prepare such a column; `means` of a target encoding are filled in by `fit_means`."""
    return {
        "kind": encoding,
        "known": len(vocabulary.known),
        "has_rare": bool(vocabulary.rare),
        "has_missing": vocabulary.has_missing,
        "buckets": hash_buckets if encoding == "hashing" else 0,
        "means": None,
        "overall": None,
    }


def category_names(plan: CategoryPlan, feature: str, known: list[str], task: str) -> list[str]:
    """Names of the columns, in their order."""
    match plan["kind"]:
        case "one_hot":
            rare = [f"{feature} is rare"] * plan["has_rare"]
            return [f"{feature}={value}" for value in known] + rare + [f"{feature} is missing"] * plan["has_missing"]
        case "target":
            if task != "multiclass":
                return [f"{feature} mean label"]
            return [f"{feature} share of class {code}" for code in range(len(means_of(plan)[1]))]
        case "hashing":
            return [f"{feature} #{bucket}" for bucket in range(plan["buckets"])]
        case _:
            return [feature]


def means_of(plan: CategoryPlan) -> tuple[np.ndarray, np.ndarray]:
    """Mean labels of each category and of all rows, of a target encoding that is fitted."""
    assert plan["means"] is not None and plan["overall"] is not None, "fit_means comes before"
    return plan["means"], plan["overall"]


def codes(plan: CategoryPlan, column: pa.ChunkedArray, vocabulary: pa.Array | None) -> np.ndarray:
    """int64, shape (rows,): the category's place; rare ones share the last, and unseen ones with them if there is one.

    What has no place is UNSEEN or MISSING.
    """
    column = text(column)
    positions = pc.fill_null(pc.index_in(column, value_set=vocabulary, skip_nulls=True), UNSEEN).to_numpy()
    positions = positions.astype(np.int64)
    if plan["has_rare"]:
        positions[(positions == UNSEEN) | (positions > plan["known"])] = plan["known"]
    if column.null_count:
        positions[pc.is_null(column).to_numpy()] = MISSING
    return np.asarray(positions)


def write_category(plan: CategoryPlan, column: pa.ChunkedArray, vocabulary: pa.Array | None, out: np.ndarray) -> None:
    """Fill `out`, float32 of shape (rows, columns of this feature)."""
    if plan["kind"] == "native" and not plan["has_rare"]:
        positions = pc.index_in(text(column), value_set=vocabulary, skip_nulls=True)
        out[:, 0] = positions.cast(pa.float32()).to_numpy()
        return
    if plan["kind"] == "hashing":
        _write_hashes(text(column), out)
        return
    positions = codes(plan, column, vocabulary)
    match plan["kind"]:
        case "native":
            out[:, 0] = np.where(positions < 0, np.nan, positions)
        case "ordinal":
            out[:, 0] = positions
        case "one_hot":
            if plan["has_missing"]:
                positions[positions == MISSING] = out.shape[1] - 1
            out[:] = 0
            rows = np.flatnonzero(positions >= 0)
            out[rows, positions[rows]] = 1
        case "target":
            out[:] = np.vstack(means_of(plan))[positions.clip(UNSEEN)]  # the last one: the overall mean


def _write_hashes(column: pa.ChunkedArray, out: np.ndarray) -> None:
    """One of the columns is 1 or -1, by the value's signed MurmurHash3 (Weinberger et al. 2009); none if missing."""
    from sklearn.feature_extraction import FeatureHasher

    out[:] = 0
    encoded = pc.dictionary_encode(column).combine_chunks()
    if not len(encoded.dictionary):
        return
    # Marked, because the hasher passes over an empty text.
    tokens = ([f"={value}"] for value in encoded.dictionary.to_pylist())
    hashed = FeatureHasher(out.shape[1], input_type="string", dtype=np.float32).transform(tokens).tocsr()
    there = np.flatnonzero(pc.is_valid(encoded).to_numpy(zero_copy_only=False))
    value = encoded.indices.drop_null().to_numpy()
    out[there, hashed.indices[value]] = hashed.data[value]


def targets(y: np.ndarray, classes: int | None) -> np.ndarray:
    """What is averaged, float64: the label; of several classes, whether it is each, shape (rows, classes)."""
    if classes is None:
        return np.asarray(y, dtype=np.float64).reshape(-1, 1)
    return np.asarray(y.astype(np.int64)[:, np.newaxis] == np.arange(classes), dtype=np.float64)


def fit_means(
    plan: CategoryPlan, positions: np.ndarray, target: np.ndarray, weight: np.ndarray, smoothing: float
) -> CategoryPlan:
    """The plan with the weighted mean of `target` of each code, and overall.

    Each mean is drawn to the overall one as if `smoothing` more rows had that (Micci-Barreca 2001); a row is a weight
    of 1.
    """
    sums, weights = _sums(plan, positions, target, weight)
    means, overall = _smoothed(sums[:-1], weights[:-1], sums.sum(0), weights.sum(), smoothing)
    return {**plan, "means": means, "overall": overall}


def cross_fitted(
    plan: CategoryPlan,
    positions: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    smoothing: float,
    fold: np.ndarray,
) -> np.ndarray:
    """The same means for the rows that they are learnt from, float64 (rows, targets): a row's by the other folds.

    So a row's own label is in none of its features (Huyen, ch. 5: leakage). A fold that is all there is has the whole.
    """
    sums, weights = _sums(plan, positions, target, weight)
    out = np.empty_like(target)
    for held_back in np.unique(fold):
        inside = fold == held_back
        its_sums, its_weights = _sums(plan, positions[inside], target[inside], weight[inside])
        others, of_others = sums - its_sums, weights - its_weights
        if of_others.sum() <= 1e-9 * weights.sum():
            others, of_others = sums, weights
        means, overall = _smoothed(others[:-1], of_others[:-1], others.sum(0), of_others.sum(), smoothing)
        out[inside] = np.vstack([means, overall])[positions[inside].clip(UNSEEN)]
    return out


def _sums(
    plan: CategoryPlan, positions: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums of the targets and weights of each code; the last are of the rows without a code."""
    slots = plan["known"] + plan["has_rare"] + 1
    slot = np.where(positions < 0, slots - 1, positions)
    sums = np.column_stack([np.bincount(slot, weight * column, slots) for column in target.T])
    return sums, np.bincount(slot, weight, slots)


def _smoothed(
    sums: np.ndarray, weights: np.ndarray, all_sums: np.ndarray, all_weight: float, smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    overall = all_sums / all_weight
    is_empty = weights + smoothing <= 1e-9
    rows = np.where(is_empty, 1, weights + smoothing)[:, np.newaxis]
    means = (sums + smoothing * overall) / rows
    return np.where(is_empty[:, np.newaxis], overall, means), overall
