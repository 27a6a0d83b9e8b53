"""The chains of statements about events that were corrected, taken back or came back: the SQL behind `publish`.

It reads three tables of a DuckDB connection: `told_busy` and `now_busy` (statements that a table holds, and delivered
rows, of the events that are looked at) and `ingested` (partitions that were delivered before), and has the parameter
`now`.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipelines import sql


def chains_sql(identity: list[str], content: list[str], names: list[str]) -> str:
    """SQL query for all statements, old and new, about the busy events; columns `names`.

    `identity` names what statements are about, `content` the columns of which one has to differ, or else a statement
    says nothing new. Its steps: when each delivered row was learnt (`dated`); what of it is a new moment (`moments`);
    which cut-off holds then (`kept`); and what of that differs from the statement before (`news`). Names that begin
    with _ are our own: no column of a problem does.
    """
    who = quoted(identity)
    by_moment = f"PARTITION BY {who} ORDER BY _learnt"
    says = quoted(name for name in names if name not in ("known_time", "cutoff_time", *_OURS))
    compared = quoted(name for name in content if name != "cutoff_time")
    old = {
        "superseded_time": "coalesce(superseded_time, "
        "CASE WHEN _next_known IS NULL THEN _next_learnt ELSE greatest($now, _next_known) END)",
        # An event all of whose statements here are superseded has moved to a partition that is not looked at.
        "withdrawn_time": "CASE WHEN _is_there IS NULL AND _is_open "
        "THEN greatest($now, _newest_known + to_microseconds(1)) END",
    }
    new = {
        "known_time": "_learnt",
        "cutoff_time": "_due",
        "statement": "_told_before + _ordinal",
        "superseded_time": "_next_learnt",
        "withdrawn_time": "CAST(NULL AS TIMESTAMPTZ)",
    }
    return f"""
        WITH live AS (
            SELECT *, lead(known_time) OVER one AS _next_known,
                max(known_time) OVER (PARTITION BY {who}) AS _newest_known,
                bool_or(superseded_time IS NULL) OVER (PARTITION BY {who}) AS _is_open
            FROM told_busy WHERE withdrawn_time IS NULL
            WINDOW one AS (PARTITION BY {who} ORDER BY known_time, statement, partition)
        ),
        newest AS (SELECT * FROM live WHERE _next_known IS NULL),
        gone AS (
            SELECT {who}, max(withdrawn_time) AS _until
            FROM told_busy WHERE withdrawn_time IS NOT NULL GROUP BY ALL
        ),
        -- Of what was delivered about a live event, what is no younger than its newest statement is either old, or, if
        -- nothing younger was delivered, what the source says now.
        delivered AS (
            SELECT d.*, o.known_time AS _told_time, o.statement AS _told_statement, g._until,
                d.known_time = d.cutoff_time AND o.known_time = o.cutoff_time AS _is_default
            FROM now_busy AS d LEFT JOIN newest AS o USING ({who}) LEFT JOIN gone AS g USING ({who})
            QUALIFY _told_time IS NULL OR d.known_time > _told_time
                OR lead(d.known_time) OVER (PARTITION BY {who} ORDER BY d.known_time) IS NULL
        ),
        dated AS (
            SELECT *, max(
                CASE
                    WHEN _told_time IS NOT NULL THEN
                        greatest(CASE WHEN NOT _is_default THEN known_time END, $now, _told_time + to_microseconds(1))
                    WHEN _until IS NOT NULL THEN greatest(known_time, $now, _until)
                    WHEN partition IN (SELECT partition FROM ingested) THEN greatest(known_time, $now)
                    ELSE known_time
                END) OVER (PARTITION BY {who} ORDER BY known_time) AS _learnt
            FROM delivered
        ),
        moments AS (
            SELECT * FROM dated
            QUALIFY lead(_learnt) OVER (PARTITION BY {who} ORDER BY known_time) IS DISTINCT FROM _learnt
        ),
        chain AS (
            SELECT {says}, cutoff_time AS _due, known_time AS _learnt, statement AS _told_statement, true AS _is_told
            FROM newest
            UNION ALL
            SELECT {says},
                CASE WHEN _told_time IS NULL AND lag(_learnt) OVER ({by_moment}) IS NULL THEN cutoff_time
                    ELSE greatest(cutoff_time, _learnt) END,
                _learnt, _told_statement, false
            FROM moments
        ),
        passing AS (SELECT *, lead(_learnt) OVER ({by_moment}) > _due AS _has_passed FROM chain),
        kept AS (
            SELECT * REPLACE (coalesce(
                arg_min(_due, _learnt) FILTER (WHERE _has_passed)
                    OVER ({by_moment} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
                _due) AS _due)
            FROM passing
        ),
        news AS (
            SELECT * FROM kept
            QUALIFY _is_told OR lag(_learnt) OVER ({by_moment}) IS NULL
                OR lag(row(_due, {compared})) OVER ({by_moment}) IS DISTINCT FROM row(_due, {compared})
        ),
        numbered AS (
            SELECT *, coalesce(_told_statement, 0) AS _told_before, row_number() OVER ({by_moment}) - 1 AS _ordinal,
                lead(_learnt) OVER ({by_moment}) AS _next_learnt
            FROM news
        ),
        followed AS (SELECT {who}, _next_learnt FROM numbered WHERE _is_told),
        present AS (SELECT DISTINCT {who}, true AS _is_there FROM now_busy)
        SELECT {quoted(names)} FROM told_busy WHERE withdrawn_time IS NOT NULL
        UNION ALL
        SELECT {columns(names, old)} FROM live LEFT JOIN followed USING ({who}) LEFT JOIN present USING ({who})
        UNION ALL
        SELECT {columns(names, new)} FROM numbered WHERE NOT _is_told
    """


_OURS = ("statement", "superseded_time", "withdrawn_time")


def quoted(names: Iterable[str]) -> str:
    """Names for SQL.

    >>> quoted(["kettle_id", "order"])
    '"kettle_id", "order"'
    """
    return ", ".join(map(sql.quote, names))


def columns(names: Iterable[str], instead: dict[str, str]) -> str:
    """Columns of a SELECT: `instead` has the expressions of those that are not taken as they are.

    >>> columns(["kettle_id", "statement"], {"statement": "0"})
    '"kettle_id", 0 AS statement'
    """
    return ", ".join(f"{instead[name]} AS {name}" if name in instead else sql.quote(name) for name in names)
