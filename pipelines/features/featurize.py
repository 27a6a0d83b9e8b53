"""featurize: what a model sees of an event, as it could be known at the event's cut-off."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.config import History
from pipelines.problem import Problem


def featurize(
    problem: Problem, targets: Any, events: Any, labels: Any, batch_rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """Feature rows of `targets`, streamed: key, partition, event_time, then the features in the model's order.

    `targets` are rows of `events`; `events` and `labels` are the history they look back on (Arrow datasets
    or tables). Declared columns are taken as they are: `events` holds only what was known at the cut-off.
    History features count only label statements that were known before the event's own cut-off, so no row
    of the future can change one; training and scoring both come here, so neither can see what the other
    does not.
    """
    if problem.features.history:  # lets files be passed over that hold nothing so young
        longest = max(feature.window_days for feature in problem.features.history.values())
        earliest = sql.query("SELECT min(cutoff_time) AS earliest FROM targets", {"targets": targets})
        since = earliest["earliest"][0].as_py()
        if since is not None:
            is_young = pc.field("event_time") >= pc.scalar(since - timedelta(days=longest))
            events, labels = events.filter(is_young), labels.filter(is_young)
    tables = {"targets": targets, "events": events, "labels": labels}
    yield from sql.stream(features_sql(problem), tables, batch_rows=batch_rows)


def features_sql(problem: Problem) -> str:
    """The query behind `featurize`; sorted, so that the same rows always come in the same order."""
    key, history = sql.quote(problem.key), problem.features.history
    columns = [f"t.{sql.quote(name)}" for name in problem.features.columns]
    columns += [_aggregate_or_zero(name, feature) for name, feature in history.items()]
    joins = [
        f"LEFT JOIN {sql.quote(name)} USING ({_names(feature.by)}, cutoff_time)" for name, feature in history.items()
    ]
    return f"""
        {_history_sql(problem)}
        SELECT t.{key}, t.partition, t.event_time, {", ".join(columns)}
        FROM targets AS t
        {" ".join(joins)}
        ORDER BY t.event_time, t.{key}
    """


def _history_sql(problem: Problem) -> str:
    """Common table expressions: one per history feature, one row per (group, cut-off) that targets ask for."""
    history = problem.features.history
    if not history:
        return ""
    key = sql.quote(problem.key)
    by = sorted({name for feature in history.values() for name in feature.by})
    # A statement holds from its known_time until the next one about the same event: later corrections
    # change what is known after them and nothing before.
    statements = f"""
        statements AS (
            SELECT {_names(by, "e.")}, l.event_time, l.label,
                -- what is said of an event that we have not heard of yet cannot be put in a group
                greatest(l.known_time, e.known_time) AS known_time,
                lead(l.known_time) OVER (PARTITION BY l.{key} ORDER BY l.known_time, l.confidence) AS superseded_time
            FROM labels AS l
            JOIN events AS e USING ({key})
        )
    """
    return "WITH " + ", ".join([statements, *(_one_history_sql(name, f) for name, f in history.items())])


def _one_history_sql(name: str, feature: History) -> str:
    same_group = " AND ".join(f"s.{column} = c.{column}" for column in map(sql.quote, feature.by))
    return f"""
        {sql.quote(name)} AS (
            SELECT {_names(feature.by, "c.")}, c.cutoff_time, {_AGGREGATES[feature.function]} AS value
            FROM (SELECT DISTINCT {_names(feature.by)}, cutoff_time FROM targets) AS c
            JOIN statements AS s
                ON {same_group}
                AND s.event_time >= c.cutoff_time - to_days({feature.window_days})
                AND s.event_time < c.cutoff_time
                AND s.known_time < c.cutoff_time
                AND (s.superseded_time IS NULL OR s.superseded_time >= c.cutoff_time)
            GROUP BY {_names(feature.by, "c.")}, c.cutoff_time
        )
    """


_AGGREGATES = {"mean": "avg(s.label)", "sum": "CAST(sum(s.label) AS DOUBLE)", "count": "CAST(count(*) AS DOUBLE)"}


def _aggregate_or_zero(name: str, feature: History) -> str:
    """A group without history has a count and a sum of nought, and no mean."""
    value = f"{sql.quote(name)}.value"
    return f"{value if feature.function == 'mean' else f'coalesce({value}, 0)'} AS {sql.quote(name)}"


def _names(columns: list[str], prefix: str = "") -> str:
    return ", ".join(f"{prefix}{sql.quote(column)}" for column in columns)
