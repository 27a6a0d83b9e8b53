"""Measure what partitions look like: one pass of DuckDB over a sample of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines import sql
from pipelines.ingest.shape.distance import FEWEST_VALUES
from pipelines.ingest.shape.profile import MOSTLY, Array, ColumnShape, Moments, PartitionShape
from pipelines.ingest.shape.rhythm import HOUR, rhythm_of
from pipelines.problem import Problem, Query

LEVELS = [round(0.05 * step, 2) for step in range(1, 20)]
PAIRED = 6  # categories, the first ones declared, of which each two are looked at together
PAIR_BUCKETS = 65_536
BUCKETS = 64  # that the values of a category are hashed to: bounded, whatever the vocabulary
SAMPLED_ROWS = 20_000  # of a partition: by the hash of the key, so that every run looks at the same rows
LARGEST = 1e100  # numbers are cut here, so that their squares are numbers too
DAY, PLACE = '"(day of the event)"', '"(place in time)"'
FEW_VALUES = 1_000  # as many at most has a column whose every value is known: a count, or a rounded measurement


def shapes(problem: Problem, query: Query, rows: Any) -> dict[str, PartitionShape]:
    """The shape of each partition in `rows` (an Arrow dataset or table of events or labels) by its key.

    Bounded memory: a partition is sampled by the hash of its keys, categories are hashed to BUCKETS.
    """
    columns = _columns(problem, query)
    with sql.connection({"rows": rows}) as database:
        counts = dict(database.sql("SELECT partition, count(*) FROM rows GROUP BY 1").fetchall())
        if not counts:
            return {}
        chosen = ", ".join(f"{expression} AS {sql.quote(name)}" for name, (_, expression) in columns.items())
        zone = sql.literal(problem.partitions.timezone)
        day = f", (event_time AT TIME ZONE {zone})::DATE AS {DAY}" if query == "events" else ""
        order = f"event_time, {sql.quote(problem.key)}" if query == "events" else sql.quote(problem.key)
        database.execute(f"""
            CREATE TEMP TABLE sampled AS SELECT partition, {chosen}{day},
                row_number() OVER (ORDER BY {order}) AS {PLACE}
            FROM rows
            WHERE {sql.thinned(problem.key, counts, SAMPLED_ROWS)}
        """)
        parts: dict[str, dict[str, ColumnShape]] = {key: {} for key in counts}
        for name, (kind, _) in columns.items():
            draws = _draws(database, name) if query == "events" and kind != "pair" else {}
            for key, shape in _profile(database, name, kind):
                parts[key][name] = replace(shape, draws=draws.get(key, shape.count), is_label=query == "labels")
        numbers = [name for name, (kind, _) in columns.items() if kind == "number"]
        moments, rhythms = {}, {}
        for key in counts:
            matrix = _matrix(database, key, [*numbers, HOUR] if HOUR in columns else numbers)
            moments[key] = _moments(numbers, matrix[:, : len(numbers)])
            if query == "events":
                for place, name in enumerate(numbers):
                    parts[key][name] = replace(parts[key][name], independent=_independent(matrix[:, place]))
            if HOUR in columns:
                rhythms[key] = rhythm_of(matrix[:, :-1], matrix[:, -1])
        quoted = [sql.quote(name) for name in columns if not name.startswith("(")]
        content: dict[str, NDArray[np.uint64]] = {}
        copies: dict[str, float] = {}
        if query == "events":
            hashed = database.sql(f"SELECT partition, hash({', '.join(quoted)}) AS content FROM sampled").fetchnumpy()
            for key in counts:
                hashes = np.asarray(hashed["content"][hashed["partition"] == key], np.uint64)
                content[key] = np.unique(hashes)
                copies[key] = 1 - len(content[key]) / max(len(hashes), 1)
    none, still = np.empty(0, np.uint64), np.empty((0, 2))
    return {
        key: PartitionShape(
            counts[key],
            parts[key],
            content.get(key, none),
            moments[key],
            copies.get(key, 0.0),
            rhythms.get(key, still),
        )
        for key in sorted(parts)
    }


def _columns(problem: Problem, query: Query) -> dict[str, tuple[str, str]]:
    """Name -> kind and SQL of what is looked at. Times count by their hour and weekday, where the problem lives."""
    zone = sql.literal(problem.partitions.timezone)
    if query == "labels":
        kind = "number" if problem.task == "regression" else "category"
        return {"label": (kind, _number_sql("label") if kind == "number" else "label::VARCHAR")}
    kinds = {}
    for name, column in problem.columns.items():
        value = sql.quote(name)
        if column.type in ("integer", "float"):
            kinds[name] = ("number", _number_sql(value))
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
    hour = f"extract(hour FROM event_time AT TIME ZONE {zone})::VARCHAR"
    kinds[HOUR] = ("category", hour)
    if problem.partitions.every == "week":
        kinds["(weekday of the event)"] = ("category", f"isodow(event_time AT TIME ZONE {zone})::VARCHAR")
    return kinds


def _number_sql(value: str) -> str:
    return f"CASE WHEN isfinite({value}::DOUBLE) THEN greatest(least({value}::DOUBLE, {LARGEST}), -{LARGEST}) END"


def _matrix(database: Any, key: str, names: Sequence[str]) -> Array:
    """The sampled rows of a partition in the order of time: (rows, names), a gap is NaN. Without a name, no row."""
    if not names:
        return np.empty((0, 0))
    chosen = ", ".join(f"{sql.quote(name)}::DOUBLE AS {sql.quote(name)}" for name in names)
    sampled = database.execute(f"SELECT {chosen} FROM sampled WHERE partition = ? ORDER BY {PLACE}", [key]).fetchnumpy()
    return np.stack([np.ma.filled(np.ma.asarray(sampled[name], np.float64), np.nan) for name in names], axis=1)


def _independent(values: Array) -> float:
    """How many values in the order of time tell something of their own, by how much each is like the one before.

    Of a first-order autoregression the mean of n values is as uncertain as that of n (1 - r) / (1 + r) independent
    ones (Bayley and Hammersley 1946).

    >>> _independent(np.array([1.0, 9.0] * 20)), round(_independent(np.arange(40.0)), 1)
    (40.0, 1.6)
    """
    values = values[np.isfinite(values)]
    off = values - values.mean() if len(values) else values
    squares = float(off @ off)
    if len(values) < FEWEST_VALUES or not squares > 0:
        return float(len(values))
    alike = min(max(float(off[1:] @ off[:-1]) / squares, 0.0), 1.0)
    return max(len(values) * (1 - alike) / (1 + alike), 1.0)


def _moments(names: Sequence[str], matrix: Array) -> Moments:
    is_told = np.isfinite(matrix)
    count = is_told.sum(axis=0)
    means = np.where(count > 0, np.nansum(matrix, axis=0) / np.maximum(count, 1), np.nan)
    centred = np.where(is_told, matrix - means, 0.0)
    return Moments(list(names), means, centred.T @ centred / max(len(matrix), 1))


def _profile(database: Any, name: str, kind: str) -> list[tuple[str, ColumnShape]]:
    column = sql.quote(name)
    counted = database.sql(f"""
        SELECT partition, CASE WHEN {column} IS NULL THEN {BUCKETS} ELSE hash({column}) % {BUCKETS} END AS bucket,
            count(*) AS n
        FROM sampled GROUP BY ALL
    """).fetchnumpy()
    keys, place = np.unique(np.asarray(counted["partition"], str), return_inverse=True)
    counts = np.zeros((len(keys), BUCKETS + 1))
    counts[place, np.asarray(counted["bucket"], np.int64)] = counted["n"]
    numbers = _numbers(database, column) if kind == "number" else {}
    known = _known(database, column) if kind != "category" else {}
    none = (np.empty(0), np.empty(0))
    profiles = []
    for key, row in zip(keys, counts, strict=True):
        told_count, of_number = row[:BUCKETS].sum(), numbers.get(str(key), (np.empty(0), 0.0, 0.0, 0, np.empty(0), 0))
        shares, nulls = row[:BUCKETS] / told_count if told_count else np.empty(0), float(row[BUCKETS] / row.sum())
        profiles.append(
            (str(key), ColumnShape(kind, int(told_count), shares, nulls, *of_number, *known.get(str(key), none)))
        )
    return profiles


def _draws(database: Any, name: str) -> dict[str, int]:
    """Of a column that has one value for all rows of a day: runs of days with the same one; 0, where no day has more
    than one row to tell by."""
    column = sql.quote(name)
    counted = database.sql(f"""
        WITH days AS (
            SELECT partition, {DAY} AS day, min({column}) AS low, max({column}) AS high, count(*) AS n
            FROM sampled WHERE {column} IS NOT NULL GROUP BY ALL
        ),
        steps AS (
            SELECT *, low IS DISTINCT FROM lag(low) OVER (PARTITION BY partition ORDER BY day) AS is_new FROM days
        )
        SELECT partition, CASE WHEN sum(n) > count(*) THEN count_if(is_new) ELSE 0 END FROM steps
        GROUP BY partition HAVING bool_and(low = high)
    """)
    return dict(counted.fetchall())


def _known(database: Any, column: str) -> dict[str, tuple[Array, Array]]:
    """All values of a number and their shares, by partition; of one with more than FEW_VALUES, none."""
    counted = database.sql(f"""
        SELECT partition, {column} AS value, count(*) AS n FROM sampled
        WHERE {column} IS NOT NULL AND partition IN (
            SELECT partition FROM sampled GROUP BY 1 HAVING approx_count_distinct({column}) <= {FEW_VALUES})
        GROUP BY ALL ORDER BY ALL
    """).fetchnumpy()
    keys = np.asarray(counted["partition"], str)
    values, counts = np.asarray(counted["value"], np.float64), np.asarray(counted["n"], np.float64)
    values_by_partition: dict[str, tuple[Array, Array]] = {}
    for key in np.unique(keys):
        weights = counts[keys == key]
        weights[weights >= MOSTLY * weights.sum()] = 0.0
        values_by_partition[str(key)] = values[keys == key], weights / max(weights.sum(), 1.0)
    return values_by_partition


def _numbers(database: Any, column: str) -> dict[str, tuple[Array, float, float, int, Array, int]]:
    """By partition: quantiles, standard deviation, share of the most frequent value, and how many different ones;
    then quantiles of the sizes of the rest, and how many different ones it has."""
    is_rest = f"{column} <> usual AND {column} <> 0"
    rows = database.sql(f"""
        SELECT partition, quantile_cont({column}, {LEVELS}), stddev_pop({column}),
            count(*) FILTER ({column} = usual) / count({column}), count(DISTINCT {column}),
            quantile_cont(ln(abs({column})), {LEVELS}) FILTER ({is_rest}),
            count(DISTINCT {column}) FILTER ({is_rest})
        FROM sampled JOIN (SELECT partition, mode({column}) AS usual FROM sampled GROUP BY 1) USING (partition)
        GROUP BY partition HAVING count({column}) > 0
    """).fetchall()
    return {
        key: (
            np.asarray(values, np.float64),
            spread,
            share,
            distinct,
            np.asarray(rest or [], np.float64),
            rest_distinct,
        )
        for key, values, spread, share, distinct, rest, rest_distinct in rows
    }
