"""audit: a sample of a training set, made a second time from the tables, and compared.

Between the tables and a fit lie files and tables of their own: staged rows, the table `training_sets`, the table
`features`. Whatever happened to a row on its way (another label, a feature that looks ahead, values of another event)
shows beside the same row made anew, to the last bit; no statistic of the set has to look odd for that.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import targets
from pipelines.dataset.label import SPLITS, labelled
from pipelines.dataset.leaks import EXAMPLES, Finding
from pipelines.features.featurize import featurize
from pipelines.problem import Problem

CURE = (
    "something has changed the training set between `label` and here: trigger the training anew; if the same is found "
    "again, look at who writes to the store"
)


class Made(NamedTuple):
    """What was made of the tables: a dataset or an Arrow table each."""

    labelled: Any
    """Rows of the stage `label`."""
    training_sets: Any
    """Rows of this set alone."""
    features: Any


def audit(
    problem: Problem,
    events: Any,
    labels: Any,
    as_of: datetime,
    split: dict[str, str],
    made: Made,
    rows: int,
) -> list[Finding]:
    """Three findings: is every row of an event; and do `rows` events, drawn by their keys, have the labels and the
    features that the tables give them?

    `events` and `labels` are the tables that the set was made of, `split` the split of each partition, as `splits`
    gives it.
    """
    in_splits = targets(events.filter(sql.is_among("partition", split)), as_of)
    drawn = _drawn(problem, in_splits, split, rows, as_of.isoformat())
    return [
        _counts(problem, in_splits, made),
        _labels(problem, drawn, events, labels, as_of, split, made),
        _features(problem, drawn, events, labels, made),
    ]


def _drawn(problem: Problem, in_splits: Any, split: dict[str, str], rows: int, seed: str) -> pa.Table:
    used = [partition for partition, name in split.items() if name in SPLITS]
    key = sql.quote(problem.key)
    chosen = f"SELECT {key}, partition FROM events ORDER BY hash({key}, {sql.literal(seed)}), {key} LIMIT {rows}"
    return sql.query(
        f"SELECT * FROM events SEMI JOIN ({chosen}) USING ({key}, partition)",
        {"events": in_splits.filter(sql.is_among("partition", used))},
    )


def _labels(
    problem: Problem,
    drawn: pa.Table,
    events: Any,
    labels: Any,
    as_of: datetime,
    split: dict[str, str],
    made: Made,
) -> Finding:
    is_drawn = pc.field(problem.key).isin(drawn[problem.key].combine_chunks())
    again = labelled(problem, drawn, events.filter(is_drawn), labels.filter(is_drawn), as_of, split)
    names = ["partition", "event_time", "label", "source", "confidence", "label_known_time"]
    if problem.dataset.split.group_by is None:  # else it depends on the rest of the group
        names.append("split")
    staged = made.labelled.filter(is_drawn)
    off = _differences(problem, again, staged, names)
    off |= _differences(problem, again, made.training_sets.filter(is_drawn), ["label"], is_sampled=True)
    return _finding("labels as published", off, drawn.num_rows)


def _features(problem: Problem, drawn: pa.Table, events: Any, labels: Any, made: Made) -> Finding:
    """Only of partitions that have rows in the set: no others have features."""
    of_set = sql.query("SELECT DISTINCT partition FROM rows", {"rows": made.training_sets})["partition"]
    drawn = drawn.filter(pc.is_in(drawn["partition"], value_set=of_set.combine_chunks()))
    schema = table_schema(problem, "features")
    batches = [batch.cast(schema) for batch in featurize(problem, drawn, events, labels)]
    stored = made.features.filter(pc.field(problem.key).isin(drawn[problem.key].combine_chunks()))
    again = pa.Table.from_batches(batches, schema=schema)
    off = _differences(problem, again, stored, ["event_time", *problem.feature_names])
    return _finding("features as defined", off, drawn.num_rows)


def _differences(
    problem: Problem, again: pa.Table, there: Any, names: list[str], is_sampled: bool = False
) -> dict[str, list[str]]:
    """Key -> columns in which what is there differs from what was made again; `is_sampled`: rows may be missing."""
    key = sql.quote(problem.key)
    differs = ", ".join(
        f"CASE WHEN a.{sql.quote(name)} IS DISTINCT FROM t.{sql.quote(name)} THEN {sql.literal(name)} END"
        for name in names
    )
    different = sql.query(
        f"""SELECT * FROM (
            SELECT {key}, CASE WHEN t._there IS NULL THEN ['missing']
                ELSE list_filter([{differs}], lambda one: one IS NOT NULL) END AS _off
            FROM again AS a {"" if is_sampled else "LEFT"} JOIN (SELECT *, true AS _there FROM stored) AS t
            USING ({key}, partition)
        ) WHERE len(_off) > 0 ORDER BY {key}""",
        {"again": again, "stored": there},
    )
    return {str(row[problem.key]): row["_off"] for row in different.to_pylist()}


def _counts(problem: Problem, of_splits: Any, made: Made) -> Finding:
    """Of all rows, as counting is cheap: an event has one labelled row, and at most one in the set."""
    key = sql.quote(problem.key)
    off = sql.query(
        f"""WITH wanted AS (SELECT partition, count(*) AS wanted FROM events GROUP BY 1),
            there AS (SELECT partition, count(*) AS n FROM labelled GROUP BY 1),
            chosen AS (SELECT {key}, partition, count(*) AS n FROM training_sets GROUP BY ALL)
            SELECT partition, n || ' rows of ' || wanted || ' events' AS told FROM (
                SELECT partition, coalesce(n, 0) AS n, coalesce(wanted, 0) AS wanted
                FROM wanted FULL JOIN there USING (partition)
            ) WHERE n != wanted
            UNION ALL
            SELECT partition, count(*) || ' rows that are no labelled event'
            FROM chosen ANTI JOIN labelled USING ({key}, partition) GROUP BY 1
            UNION ALL
            SELECT partition, count(*) || ' events that stand there twice' FROM chosen WHERE n > 1 GROUP BY 1
            ORDER BY ALL""",
        {"events": of_splits, "labelled": made.labelled, "training_sets": made.training_sets},
    ).to_pylist()
    if not off:
        return Finding("rows of events", True, "every row is of one event, and no event was left out")
    examples = "; ".join(f"{partition['partition']} has {partition['told']}" for partition in off[:EXAMPLES])
    return Finding("rows of events", False, f"in {len(off)} partitions rows and events do not match: {examples}", CURE)


def _finding(name: str, off: dict[str, list[str]], rows: int) -> Finding:
    if not off:
        return Finding(name, True, f"{rows} events, made again from the tables, are the same")
    examples = ", ".join(f"{key} ({', '.join(columns[:EXAMPLES])})" for key, columns in list(off.items())[:EXAMPLES])
    return Finding(
        name, False, f"{len(off)} of {rows} events differ from what the tables give, such as {examples}", CURE
    )
