"""Measure what partitions look like: DuckDB draws a sample of each, and NumPy looks at one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines import sql
from pipelines.config import is_vector
from pipelines.ingest.shape.distance import FEWEST_VALUES
from pipelines.ingest.shape.profile import MOSTLY, Array, ColumnShape, Moments, PartitionShape
from pipelines.ingest.shape.rhythm import HOUR, rhythm_of
from pipelines.problem import Problem, Query
from pipelines.vectors.measures import SQL_MEASURES, measure_name

LEVELS = [round(0.05 * step, 2) for step in range(1, 20)]
PAIRED = 6  # categories, the first ones declared, of which each two are looked at together
PAIR_BUCKETS = 65_536
BUCKETS = 64  # that the values of a category are hashed to: bounded, whatever the vocabulary
SAMPLED_ROWS = 20_000  # of a partition: by the hash of the key, so that every run looks at the same rows
LARGEST = 1e100  # numbers are cut here, so that their squares are numbers too
MOMENT, KEY = "(moment of the event)", "(key)"
DAY, CLOCK, CONTENT = "(day of the event)", "(hour as a number)", "(hash of all)"
TOGETHER = 16_384  # rows
FEW_VALUES = 1_000  # as many at most has a column whose every value is known: a count, or a rounded measurement


def shapes(
    problem: Problem, query: Query, rows: Any, counts: Mapping[str, int] | None = None
) -> dict[str, PartitionShape]:
    """The shape of each partition in `rows` (an Arrow dataset or table of events or labels) by its key.

    Bounded memory: a partition is sampled by the hash of its keys, categories are hashed to BUCKETS. `counts`: how many
    rows each partition has, where that is known.
    """
    columns = _columns(problem, query)
    kinds = {name: kind for name, (kind, _) in columns.items()}
    with sql.connection({"rows": rows}) as database:
        if counts is None:
            counts = dict(database.sql("SELECT partition, count(*) FROM rows GROUP BY 1").fetchall())
        counts = {key: count for key, count in counts.items() if count}
        if not counts:
            return {}
        sampled = database.sql(_sampled(problem, query, columns, counts)).to_arrow_reader(TOGETHER)
        return {key: _shape(query, kinds, counts[key], _arrays(part)) for key, part in _by_partition(sampled)}


def _sampled(problem: Problem, query: Query, columns: Mapping[str, tuple[str, str]], counts: Mapping[str, int]) -> str:
    """SQL query for the sampled rows, by partition and in the order of time: numbers, and hashes of what is none. Of
    numbers there are buckets too."""
    selected = ", ".join(f"{expression} AS {sql.quote(name)}" for name, (_, expression) in columns.items())
    places = {MOMENT: "event_time", KEY: sql.quote(problem.key)}
    if query == "labels":  # of categories only shares are taken, which no order changes
        places = {KEY: places[KEY]} if columns["label"][0] == "number" else {}
    placed = "".join(f", {column} AS {sql.quote(place)}" for place, column in places.items())
    measured = []
    for name, (kind, _) in columns.items():
        column = sql.quote(name)
        if kind == "category":
            measured.append(f"CASE WHEN {column} IS NOT NULL THEN hash({column}) END AS {column}")
        else:
            bucket = sql.quote(_bucket(name))
            measured += [f"{column}::DOUBLE AS {column}", f"(hash({column}) % {BUCKETS})::UTINYINT AS {bucket}"]
    if query == "events":
        local = f"{sql.quote(MOMENT)} AT TIME ZONE {sql.literal(problem.partitions.timezone)}"
        content = ", ".join(sql.quote(name) for name in columns if not name.startswith("("))
        measured.append(f"({local})::DATE - DATE '1970-01-01' AS {sql.quote(DAY)}")
        measured.append(f"hash({content}) AS {sql.quote(CONTENT)}")
        if HOUR in columns:
            measured.append(f"{sql.quote(HOUR)}::DOUBLE AS {sql.quote(CLOCK)}")
    return f"""
        SELECT partition, {", ".join(measured)}
        FROM (
            SELECT partition, {selected}{placed} FROM rows
            WHERE {sql.thinned(problem.key, counts, SAMPLED_ROWS)}
        )
        ORDER BY {", ".join(["partition", *map(sql.quote, places)])}
    """


def _by_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each partition; those of one follow each other."""
    key, parts = None, list[pa.RecordBatch]()
    for batch in batches:
        runs, start = pc.run_end_encode(batch["partition"]), 0
        for value, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            if value != key and parts:
                yield str(key), pa.Table.from_batches(parts)
                parts = []
            key = value
            parts.append(batch.slice(start, end - start))
            start = end
    if parts:
        yield str(key), pa.Table.from_batches(parts)


def _arrays(rows: pa.Table) -> dict[str, NDArray[Any]]:
    """Columns of numbers, masked where values are missing."""
    arrays: dict[str, NDArray[Any]] = {}
    for name in rows.column_names:
        column = rows[name]
        if name == "partition":
            continue
        if column.null_count:
            mask = column.is_null().to_numpy()
            arrays[name] = np.ma.array(column.fill_null(0).to_numpy(), mask=mask)
        else:
            arrays[name] = column.to_numpy()
    return arrays


def _bucket(name: str) -> str:
    return f"(bucket of {name})"


def _shape(query: Query, kinds: Mapping[str, str], count: int, rows: Mapping[str, NDArray[Any]]) -> PartitionShape:
    is_events = query == "events"
    days = np.asarray(rows[DAY]) if is_events else None
    columns = {name: replace(_column(name, kind, rows, days), is_label=not is_events) for name, kind in kinds.items()}
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    matrix = np.empty((len(next(iter(rows.values()))), 0))
    if numbers:
        matrix = np.stack([np.ma.filled(np.ma.asarray(rows[name], np.float64), np.nan) for name in numbers], axis=1)
    moments = _moments(numbers, matrix)
    if not is_events:
        return PartitionShape(count, columns, np.empty(0, np.uint64), moments)
    for place, name in enumerate(numbers):
        columns[name] = replace(columns[name], independent=_independent(matrix[:, place]))
    hashes = np.asarray(rows[CONTENT], np.uint64)
    content = np.unique(hashes)
    copies = 1 - len(content) / max(len(hashes), 1)
    shape = PartitionShape(count, columns, content, moments, copies)
    return replace(shape, rhythm=rhythm_of(matrix, np.asarray(rows[CLOCK], np.float64))) if CLOCK in rows else shape


def _columns(problem: Problem, query: Query) -> dict[str, tuple[str, str]]:
    """Name -> kind and SQL of what is looked at. Times count by their hour and weekday, where the problem lives, as far
    as a partition has several of them."""
    zone = sql.literal(problem.partitions.timezone)
    if query == "labels":
        kind = "number" if problem.task == "regression" else "category"
        return {"label": (kind, _number_sql("label") if kind == "number" else "label::VARCHAR")}
    kinds = {}
    for name, column in problem.columns.items():
        value = sql.quote(name)
        if column.type in ("integer", "float"):
            kinds[name] = ("number", _number_sql(value))
        elif is_vector(column.type):
            measure = SQL_MEASURES[column.type].format(value)
            kinds[measure_name(name, column.type)] = ("number", _number_sql(measure))
        elif column.type in ("string", "boolean"):
            kinds[name] = ("category", f"{value}::VARCHAR")
    categories = [name for name, (kind, _) in kinds.items() if kind == "category"][:PAIRED]
    for first, other in combinations(categories, 2):
        values = f"{sql.quote(first)}::VARCHAR, {sql.quote(other)}::VARCHAR"
        both = f"{sql.quote(first)} IS NOT NULL AND {sql.quote(other)} IS NOT NULL"
        kinds[f"({first} with {other})"] = (
            "pair",
            f"CASE WHEN {both} THEN (hash({values}) % {PAIR_BUCKETS})::DOUBLE END",
        )
    every = problem.partitions.every
    if every == "delivery":  # all of its rows came at once
        return kinds
    if every != "hour":
        kinds[HOUR] = ("category", f"extract(hour FROM event_time AT TIME ZONE {zone})::VARCHAR")
    if every not in ("hour", "day"):
        kinds["(weekday of the event)"] = ("category", f"isodow(event_time AT TIME ZONE {zone})::VARCHAR")
    return kinds


def _number_sql(value: str) -> str:
    return f"CASE WHEN isfinite({value}::DOUBLE) THEN greatest(least({value}::DOUBLE, {LARGEST}), -{LARGEST}) END"


def _independent(values: Array) -> float:
    """How many values in the order of time tell something of their own, by how much each is like the one before.

    Of a first-order autoregression the mean of n values is as uncertain as that of n (1 - r) / (1 + r) independent
    ones (Bayley and Hammersley 1946).

    >>> _independent(np.array([1.0, 9.0] * 20)), round(_independent(np.arange(40.0)), 1)
    (40.0, 1.6)
    """
    values = values[np.isfinite(values)]
    off = values - values.mean() if len(values) else values
    squares = float(np.square(off).sum())  # not by BLAS, whose threads would wait for each other
    if len(values) < FEWEST_VALUES or not squares > 0:
        return float(len(values))
    alike = min(max(float((off[1:] * off[:-1]).sum()) / squares, 0.0), 1.0)
    return max(len(values) * (1 - alike) / (1 + alike), 1.0)


def _moments(names: Sequence[str], matrix: Array) -> Moments:
    is_told = np.isfinite(matrix)
    count = is_told.sum(axis=0)
    means = np.where(count > 0, np.nansum(matrix, axis=0) / np.maximum(count, 1), np.nan)
    centred = np.where(is_told, matrix - means, 0.0)
    return Moments(list(names), means, centred.T @ centred / max(len(matrix), 1))


def _column(name: str, kind: str, rows: Mapping[str, NDArray[Any]], days: NDArray[Any] | None) -> ColumnShape:
    is_told = ~np.ma.getmaskarray(rows[name])
    values = np.ma.getdata(rows[name])[is_told]
    buckets = values % BUCKETS if kind == "category" else np.ma.getdata(rows[_bucket(name)])[is_told]
    count = len(values)
    shares = np.bincount(buckets.astype(np.int64), minlength=BUCKETS) / count if count else np.empty(0)
    draws = count if days is None or kind == "pair" else _draws(days[is_told], values)
    shape = ColumnShape(kind, count, shares, float(1 - count / len(is_told)), np.empty(0), draws=draws)
    if kind == "category" or not count:
        return shape
    ordered = np.sort(values)
    distinct, counts = _counted(ordered)
    known, known_shares = _known(distinct, counts)
    shape = replace(shape, known=known, known_shares=known_shares)
    if kind == "pair":
        return shape
    most = counts.max()
    usual = values[np.isin(values, distinct[counts == most])][0]  # of several that are as frequent the first
    is_rest = (distinct != usual) & (distinct != 0)
    sizes = np.repeat(np.log(np.abs(distinct[is_rest])), counts[is_rest])
    return replace(
        shape,
        values=np.quantile(ordered, LEVELS),
        spread=float(values.std()),
        mode_share=float(most / count),
        distinct=len(distinct),
        rest=np.quantile(sizes, LEVELS) if len(sizes) else np.empty(0),
        rest_distinct=int(is_rest.sum()),
    )


def _counted(ordered: Array) -> tuple[Array, NDArray[np.int64]]:
    """The different values of some in order, and how many there are of each.

    >>> _counted(np.array([1.0, 1.0, 4.0]))
    (array([1., 4.]), array([2, 1]))
    """
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.diff(np.append(starts, len(ordered)))


def _draws(days: NDArray[np.int64], values: NDArray[Any]) -> int:
    """How many values there are; but of a column that has one value for all rows of a day, runs of days with the same
    one; 0, where no day has more than one row to tell by.

    >>> [_draws(np.array([1, 1, 2, 2, 3, 3]), np.array(values)) for values in ([5, 6, 5, 6, 5, 6], [5, 5, 5, 5, 6, 6])]
    [6, 2]
    >>> _draws(np.array([1, 2, 3]), np.array([5, 5, 6]))
    0
    """
    steps = np.diff(days)
    if (steps < 0).any():
        order = np.argsort(days, kind="stable")
        days, values = days[order], values[order]
        steps = np.diff(days)
    is_new_day = steps != 0
    is_new_value = values[1:] != values[:-1]
    if (is_new_value & ~is_new_day).any() or not len(values):
        return len(values)
    return 0 if is_new_day.all() else 1 + int(is_new_value.sum())


def _known(distinct: Array, counts: NDArray[np.int64]) -> tuple[Array, Array]:
    """All values of a number and their shares; of one with more than FEW_VALUES, none."""
    if len(distinct) > FEW_VALUES:
        return np.empty(0), np.empty(0)
    weights = counts.astype(np.float64)
    weights[weights >= MOSTLY * weights.sum()] = 0.0
    return distinct, weights / max(weights.sum(), 1.0)
