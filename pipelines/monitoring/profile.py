"""profile: what a partition looks like, in one pass, on the bins of the champion's training data.

A profile is counts per bin and a few sums, so the profiles of parts merge into the profile of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipelines.artifacts import table_schema
from pipelines.errors import DataError, SchemaError
from pipelines.evaluation.metrics import measure
from pipelines.evaluation.scored import Scored
from pipelines.problem import Problem
from pipelines.scoring.score import shown

SCORE = "score"
SCORE_EDGES = tuple(step / 20 for step in range(1, 20))
KEPT_CATEGORIES = 50
KNOWN_CATEGORIES = 10_000


class Frozen(BaseModel):
    """Goes to JSON by `model_dump(mode="json")` and comes back by `model_validate`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Numbers(Frozen):
    """Bins (-inf, e0], (e0, e1], ... (ek, inf) of a number."""

    edges: tuple[float, ...]

    @property
    def slots(self) -> int:
        return len(self.edges) + 3


class Categories(Frozen):
    """One bin for each of `kept` (most frequent first), one for all others.

    `known` is every category of the training data, `kept` first; None when they are too many to tell a new one.
    """

    kept: tuple[str, ...]
    known: tuple[str, ...] | None

    @property
    def slots(self) -> int:
        return len(self.kept) + 3


class ColumnProfile(Frozen):
    """One column of some rows. `counts` has a slot for each bin, then unseen, then null.

    A number that is not finite counts as null. Mean, min and max are None where there is no number.
    """

    rows: int
    nulls: int
    unseen: int
    mean: float | None
    min: float | None
    max: float | None
    counts: tuple[int, ...]


class ColumnReference(Frozen):
    bins: Numbers | Categories
    profile: ColumnProfile


class Reference(Frozen):
    """What a model learnt from and how it did: features of the training split, `score` of the test split.

    `label_rate` is the positive rate of the training split, None unless the task is binary; `class_rates` is the share
    of each class, empty unless there are several; `label_mean` is the mean of a number, None of classes. `threshold`
    is the binary model's own.
    """

    columns: dict[str, ColumnReference]
    label_rate: float | None
    metrics: dict[str, float | None]
    class_rates: dict[str, float] = {}
    label_mean: float | None = None
    threshold: float = 0.5

    @property
    def mean_score(self) -> float | None:
        return self.columns[SCORE].profile.mean


def reference(features: pa.Table, labels: NDArray[Any], test: Scored, bins: int = 10) -> Reference:
    """The reference that partitions are compared with, for as long as this model serves.

    Args:
        features: training split; every column counts: numbers, strings or booleans.
        labels: (n,), of the training split: 0 or 1, codes of classes, or numbers.
        test: the model's scores on the test split. Of several classes the profile is that of the probability of the
            class decided for, as the table `predictions` keeps it; numbers get quantile bins, probabilities even ones.
        bins: quantile bins of a number; it gets fewer where values repeat.

    Raises:
        DataError: a split has no rows.
    """
    if not features.num_rows or not len(test.labels):
        raise DataError("the training or the test split has no rows", where="reference", cure="widen dataset.split")
    columns = {}
    for name in features.column_names:
        column = features[name]
        columns[name] = _refer(
            name, column, _quantiles(column, bins) if _is_number(column.type) else _categories(column)
        )
    scores = pa.chunked_array([pa.array(shown(test.scores, test.decisions), pa.float64())])
    is_number = test.task == "regression"
    columns[SCORE] = _refer(SCORE, scores, _quantiles(scores, bins) if is_number else Numbers(edges=SCORE_EDGES))
    rates: dict[str, float] = {}
    if test.task == "multiclass":
        shares = np.bincount(labels, minlength=len(test.classes)) / len(labels)
        rates = dict(zip(test.classes, shares.tolist(), strict=True))
    mean = float(np.mean(labels))
    return Reference(
        columns=columns,
        label_rate=mean if test.task == "binary" else None,
        metrics=measure(test),
        class_rates=rates,
        label_mean=mean if is_number else None,
        threshold=test.threshold,
    )


def profile(batches: Iterable[pa.RecordBatch], reference: Reference) -> dict[str, ColumnProfile]:
    """Profile the reference's columns, `score` among them; other columns are ignored.

    Raises:
        SchemaError: a column is missing, or was a number and is none any more (or the reverse).
    """
    profiles = {name: _empty(column.bins) for name, column in reference.columns.items()}
    for batch in batches:
        if missing := reference.columns.keys() - set(batch.schema.names):
            raise SchemaError(
                f"missing columns: {', '.join(sorted(missing))}",
                where="profile",
                cure="profile with the reference of the model that scored these rows",
            )
        for name, column in reference.columns.items():
            profiles[name] = merge(profiles[name], _profile(name, batch[name], column.bins))
    return profiles


def merge(one: ColumnProfile, other: ColumnProfile) -> ColumnProfile:
    """The profile of both sets of rows; both must be on the same bins.

    >>> odd = ColumnProfile(rows=2, nulls=1, unseen=0, mean=3, min=3, max=3, counts=(0, 1, 0, 1))
    >>> even = ColumnProfile(rows=3, nulls=0, unseen=0, mean=1, min=0, max=2, counts=(3, 0, 0, 0))
    >>> merge(odd, even)
    ColumnProfile(rows=5, nulls=1, unseen=0, mean=1.5, min=0.0, max=3.0, counts=(3, 1, 0, 1))
    """
    parts = (one, other)
    means = [(part.mean, part.rows - part.nulls) for part in parts if part.mean is not None]
    numbers = sum(count for _, count in means)
    return ColumnProfile(
        rows=one.rows + other.rows,
        nulls=one.nulls + other.nulls,
        unseen=one.unseen + other.unseen,
        mean=sum(mean * (count / numbers) for mean, count in means) if means else None,
        min=min((part.min for part in parts if part.min is not None), default=None),
        max=max((part.max for part in parts if part.max is not None), default=None),
        counts=tuple(a + b for a, b in zip(one.counts, other.counts, strict=True)),
    )


def to_rows(problem: Problem, partition: str, model_version: str, profiles: Mapping[str, ColumnProfile]) -> pa.Table:
    """Rows for the table `profiles`, one per column."""
    rows = [
        {"partition": partition, "column": name, "model_version": model_version} | column.model_dump()
        for name, column in profiles.items()
    ]
    return pa.Table.from_pylist(rows, schema=table_schema(problem, "profiles"))


def from_rows(rows: pa.Table) -> dict[str, ColumnProfile]:
    """Profiles by column, of one partition's rows of the table `profiles`."""
    kept = rows.select(["column", *ColumnProfile.model_fields]).to_pylist()
    return {row.pop("column"): ColumnProfile.model_validate(row) for row in kept}


def _refer(name: str, column: pa.ChunkedArray, bins: Numbers | Categories) -> ColumnReference:
    profiles = (_profile(name, chunk, bins) for chunk in column.chunks)
    return ColumnReference(bins=bins, profile=reduce(merge, profiles, _empty(bins)))


def _empty(bins: Numbers | Categories) -> ColumnProfile:
    return ColumnProfile(rows=0, nulls=0, unseen=0, mean=None, min=None, max=None, counts=(0,) * bins.slots)


def _profile(name: str, column: pa.Array, bins: Numbers | Categories) -> ColumnProfile:
    if not pa.types.is_null(column.type) and _is_number(column.type) != isinstance(bins, Numbers):
        raise SchemaError(
            f"{name} had {'numbers' if isinstance(bins, Numbers) else 'categories'} in training, now {column.type}",
            where="profile",
            cure="give the column its old type in problem.yaml, or train anew",
        )
    if isinstance(bins, Categories):
        return _profile_categories(column, bins)
    values = _finite(column)
    count, nulls = len(values), len(column) - len(values)
    above = [np.count_nonzero(values > edge) for edge in bins.edges]
    return ColumnProfile(
        rows=len(column),
        nulls=nulls,
        unseen=0,
        mean=float((values / count).sum()) if count else None,  # divided first: no overflow
        min=float(values.min()) if count else None,
        max=float(values.max()) if count else None,
        counts=(*(-np.diff([count, *above, 0])).tolist(), 0, nulls),
    )


def _profile_categories(column: pa.Array, bins: Categories) -> ColumnProfile:
    known = bins.kept if bins.known is None else bins.known
    column = column.cast(pa.string())
    codes = pc.index_in(column, value_set=pa.array(known, pa.string())).fill_null(len(known))
    counts = np.bincount(codes.to_numpy(), minlength=len(known) + 1)
    others, strange = int(counts[len(bins.kept) : -1].sum()), int(counts[-1]) - column.null_count
    if bins.known is None:
        others, strange = others + strange, 0
    return ColumnProfile(
        rows=len(column),
        nulls=column.null_count,
        unseen=strange,
        mean=None,
        min=None,
        max=None,
        counts=(*counts[: len(bins.kept)].tolist(), others, strange, column.null_count),
    )


def _quantiles(column: pa.ChunkedArray, bins: int) -> Numbers:
    values = _finite(column)
    if not len(values):
        return Numbers(edges=())
    edges = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf"))
    if edges[0] == values.min():  # the lowest bin is a single value: what falls below it deserves its own
        edges = np.insert(edges, 0, np.nextafter(edges[0], -np.inf))
    return Numbers(edges=tuple(edges.tolist()))


def _categories(column: pa.ChunkedArray) -> Categories:
    counts = pc.value_counts(column.cast(pa.string()).drop_null())
    ranked = pa.table({"category": counts.field("values"), "count": counts.field("counts")})
    names = tuple(ranked.sort_by([("count", "descending"), ("category", "ascending")])["category"].to_pylist())
    return Categories(kept=names[:KEPT_CATEGORIES], known=names if len(names) <= KNOWN_CATEGORIES else None)


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _finite(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float64]:
    array = column.cast(pa.float64(), safe=False)
    values = array.to_numpy() if isinstance(array, pa.ChunkedArray) else array.to_numpy(zero_copy_only=False)
    finite: NDArray[np.float64] = values[np.isfinite(values)]
    return finite
