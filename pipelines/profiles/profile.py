"""profile: what a partition looks like, in one pass, on the bins of the champion's training data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from pipelines.artifacts import table_schema
from pipelines.config import VectorKind
from pipelines.errors import DataError, SchemaError
from pipelines.metrics.metrics import measure
from pipelines.metrics.scored import Scored, shown
from pipelines.problem import Problem
from pipelines.profiles.column import (
    Bins,
    ColumnProfile,
    Frozen,
    Numbers,
    bins_of,
    empty,
    finite,
    merge,
    number_bins,
    profile_column,
)
from pipelines.profiles.lens import Lens, fit_lens, seen
from pipelines.profiles.relations import Relations, relations

SCORE = "score"
KEPT_PARTITIONS = 60  # of the reference's, the newest: about a year of weeks, two months of days

Profiles = Mapping[str, ColumnProfile]


class ColumnReference(Frozen):
    bins: Bins
    profile: ColumnProfile


class Reference(Frozen):
    """What a model learnt from and how it did: features of the training split, `score` of the test split.

    `label_rate` is the positive rate of the training split, None unless the task is binary; `class_rates` is the share
    of each class, empty unless there are several; `label_mean` and `label_std` are those of a number, None of classes.
    `threshold` is the binary model's own. `partitions` are profiles of the partitions that the model was made from
    (training, validation, test), the oldest first: how far one lies from the others is what is usual. `relations` say
    how numbers go together. `lenses`: through which vector columns are seen, by name; of these, `columns` has the
    numbers that they are seen as.
    """

    columns: dict[str, ColumnReference]
    label_rate: float | None
    metrics: dict[str, float | None]
    class_rates: dict[str, float] = Field(default_factory=dict)
    label_mean: float | None = None
    threshold: float = 0.5
    label_std: float | None = None
    partitions: dict[str, dict[str, ColumnProfile]] = Field(default_factory=dict)
    relations: Relations | None = None
    lenses: dict[str, Lens] = Field(default_factory=dict)

    @property
    def mean_score(self) -> float | None:
        return self.columns[SCORE].profile.mean


def reference(
    features: pa.Table,
    labels: NDArray[Any],
    test: Scored,
    bins: int = 10,
    history: pa.Table | None = None,
    vectors: Mapping[str, VectorKind] | None = None,
) -> Reference:
    """The reference that partitions are compared with, for as long as this model serves.

    Args:
        features: training split; every column counts: numbers, strings or booleans.
        labels: (n,), of the training split: 0 or 1, codes of classes, or numbers.
        test: the model's scores on the test split. Of several classes the profile is that of the probability of the
            class decided for, as the table `predictions` keeps it.
        bins: quantile bins of a number; it gets fewer where values repeat, and steps beyond the outer ones.
        history: the same features, `partition` and `score` of all events in the partitions that the model was made
            from, as a partition is scored: not only those with a label, or that were drawn.
        vectors: columns that are seen through a lens, and their kinds.

    Raises:
        DataError: a split has no rows.
    """
    if not features.num_rows or not len(test.labels):
        raise DataError("the training or the test split has no rows", where="reference", cure="widen dataset.split")
    lenses = {name: fit_lens(features[name], kind) for name, kind in (vectors or {}).items()}
    features = seen(features, lenses)
    columns = {name: _refer(name, features[name], bins_of(features[name], bins)) for name in features.column_names}
    scores = pa.chunked_array([pa.array(shown(test.scores, test.decisions), pa.float64())])
    is_number = test.task == "regression"
    columns[SCORE] = _refer(SCORE, scores, number_bins(finite(scores), bins, within=() if is_number else (0, 1)))
    rates: dict[str, float] = {}
    if test.task == "multiclass":
        shares = np.bincount(labels, minlength=len(test.classes)) / len(labels)
        rates = dict(zip(test.classes, shares.tolist(), strict=True))
    mean = float(np.mean(labels))
    made = Reference(
        columns=columns,
        label_rate=mean if test.task == "binary" else None,
        metrics=measure(test),
        class_rates=rates,
        label_mean=mean if is_number else None,
        threshold=test.threshold,
        label_std=float(np.std(labels)) if is_number else None,
        relations=relations(features),
        lenses=lenses,
    )
    return made if history is None else made.model_copy(update={"partitions": _by_partition(history, made)})


def _by_partition(history: pa.Table, reference: Reference) -> dict[str, dict[str, ColumnProfile]]:
    keys = sorted(history["partition"].unique().to_pylist())[-KEPT_PARTITIONS:]
    parts = {key: history.filter(pc.field("partition") == key) for key in keys}
    return {key: profile(part.to_batches(), reference)[0] for key, part in parts.items()}


def profile(
    batches: Iterable[pa.RecordBatch], reference: Reference, slices: Sequence[str] = ()
) -> tuple[dict[str, ColumnProfile], dict[str, ColumnProfile]]:
    """Profiles of the reference's columns, `score` among them; and of the score by slice, such as `carrier=UA`.

    `slices` are columns, of which each category that has a bin makes a slice, and each quarter of a number (as near as
    its bins come to it). Columns that the reference lacks are ignored. Memory: that of one batch.

    Raises:
        SchemaError: a column is missing, or was a number and is none any more (or the reverse).
    """
    profiles = {name: empty(column.bins) for name, column in reference.columns.items()}
    parts: dict[str, ColumnProfile] = {}
    cuts = {name: _Cut(name, reference.columns[name]) for name in slices if name in reference.columns}
    for unseen_batch in batches:
        batch = _through(unseen_batch, reference.lenses)
        if missing := reference.columns.keys() - set(batch.schema.names):
            raise SchemaError(
                f"missing columns: {', '.join(sorted(missing))}",
                where="profile",
                cure="profile with the reference of the model that scored these rows",
            )
        for name, column in reference.columns.items():
            profiles[name] = merge(profiles[name], profile_column(name, batch[name], column.bins))
        for name, cut in cuts.items():
            for slice_, profile_of_slice in cut.profiles(
                batch[name], batch[SCORE], reference.columns[SCORE].bins
            ).items():
                parts[slice_] = merge(parts[slice_], profile_of_slice) if slice_ in parts else profile_of_slice
    return profiles, parts


def _through(batch: pa.RecordBatch, lenses: Mapping[str, Lens]) -> pa.RecordBatch:
    """The batch with its vectors as numbers."""
    if not lenses:
        return batch
    rows = seen(pa.Table.from_batches([batch]), lenses)
    return pa.record_batch([column.combine_chunks() for column in rows.columns], schema=rows.schema)


class _Cut:
    """One column's slices."""

    def __init__(self, name: str, column: ColumnReference) -> None:
        bins = column.bins
        self.edges: tuple[float, ...] | None = None
        if isinstance(bins, Numbers):
            shares = np.cumsum(column.profile.counts[: len(bins.edges)]) / max(column.profile.valued, 1)
            nearest = [int(np.abs(shares - quarter).argmin()) for quarter in (0.25, 0.5, 0.75)] if bins.edges else []
            self.edges = tuple(bins.edges[place] for place in sorted(set(nearest)))
            ends = ["-inf", *(f"{edge:g}" for edge in self.edges), "inf"]
            values = [f"({low}, {high}]" for low, high in pairwise(ends)]
            self.kept: tuple[str, ...] = ()
        else:
            self.kept = bins.kept
            values = [*bins.kept, "(other)"]
        self.names = [f"{name}={value}" for value in (*values, "(missing)")]

    def profiles(self, column: pa.Array, score: pa.Array, bins: Bins) -> dict[str, ColumnProfile]:
        last = len(self.names) - 1
        if self.edges is not None:
            values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            codes = np.where(np.isfinite(values), np.searchsorted(self.edges, values), last)
        else:
            text = column.cast(pa.string())
            positions = pc.index_in(text, value_set=pa.array(self.kept, pa.string())).fill_null(last - 1)
            codes = pc.if_else(text.is_null(), last, positions).to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        counts = np.bincount(codes, minlength=last + 1)
        sorted_scores = score.cast(pa.float64()).take(pa.array(order))
        starts = np.cumsum(counts) - counts
        return {
            self.names[code]: profile_column(SCORE, sorted_scores.slice(starts[code], counts[code]), bins)
            for code in np.flatnonzero(counts)
        }


def to_rows(
    problem: Problem, partition: str, model_version: str, profiles: Profiles, slices: Profiles | None = None
) -> pa.Table:
    """Rows for the table `profiles`: one per column, and one of the score per slice."""
    named = [("", name, column) for name, column in profiles.items()]
    named += [(name, SCORE, column) for name, column in (slices or {}).items()]
    rows = []
    for slice_, name, column in named:
        row = column.model_dump() | {"new": list(column.new), "new_counts": list(column.new.values())}
        rows.append({"partition": partition, "column": name, "slice": slice_, "model_version": model_version} | row)
    return pa.Table.from_pylist(rows, schema=table_schema(problem, "profiles"))


def from_rows(rows: pa.Table) -> dict[str, ColumnProfile]:
    """Profiles by column, of one partition's rows of the table `profiles`; those of slices are left out."""
    whole = rows.filter(pc.field("slice") == "")
    kept = whole.select(["column", "new_counts", *ColumnProfile.model_fields]).to_pylist()
    for row in kept:
        row["new"] = dict(zip(row["new"], row.pop("new_counts"), strict=True))
    return {row.pop("column"): ColumnProfile.model_validate(row) for row in kept}


def _refer(name: str, column: pa.ChunkedArray, bins: Bins) -> ColumnReference:
    profiles = (profile_column(name, chunk, bins) for chunk in column.chunks)
    return ColumnReference(bins=bins, profile=reduce(merge, profiles, empty(bins)))
