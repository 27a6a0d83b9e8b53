"""history: what happened before in the same group, counted for every cut-off at once.

A statement counts for the cut-offs of one interval: after it was known and had happened, until it was replaced or
taken back or fell out of the window. On the sorted list of all cut-offs that interval is a pair of numbers, from which
`counting` takes every function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from pipelines import sql
from pipelines.asof import as_known
from pipelines.config import History
from pipelines.errors import DataError
from pipelines.features.counting import DAY_US, comma, widened
from pipelines.problem import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray


def add_history(problem: Problem, database: duckdb.DuckDBPyConnection) -> None:
    """Make the table `history` in a database that sees `targets`, `events` and `labels`.

    Grain: a combination of the columns that form groups and a `cutoff_time` that occurs in `targets`; one column of
    floats per history feature. Names that begin with _ are our own: no column of a problem does.

    Raises:
        DataError: a column's values are too large to be added up.
    """
    features = problem.features.history
    cutoffs = database.sql("SELECT DISTINCT epoch_us(cutoff_time) AS c FROM targets ORDER BY c").to_arrow_table()["c"]
    _number_cutoffs(database, cutoffs.to_numpy())
    groups = comma(group_columns(problem))
    database.execute(f"""
        CREATE TEMP TABLE history AS
        SELECT DISTINCT {groups} cutoff_time, cutoffs_until(epoch_us(cutoff_time)) - 1 AS _turn FROM targets
    """)
    for of_labels in (True, False):
        used = {name: feature for name, feature in features.items() if (feature.of == "label") == of_labels}
        if not used:
            continue
        match = _match(problem, database) if of_labels else ""
        said = _said(problem, database) if of_labels else None
        database.execute(f"CREATE TEMP TABLE _past AS {_past(problem, list(used.values()), said, match)}")
        for name, feature in used.items():
            try:
                database.execute(f"CREATE TEMP TABLE _wider AS {widened(problem, name, feature, len(cutoffs))}")
            except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
                raise DataError(
                    f"{name}: values of {feature.of!r} are too large to be added up: {str(error).splitlines()[0]}",
                    where=f"{problem.folder / 'problem.yaml'}, features.history.{name}",
                    cure=f"give {feature.of!r} a max under columns, or scale it in events.sql",
                ) from error
            database.execute("DROP TABLE history; ALTER TABLE _wider RENAME TO history")
        database.execute("DROP TABLE _past")
    database.remove_function("cutoffs_until")


def group_columns(problem: Problem) -> list[str]:
    """All columns by which some history feature groups, sorted."""
    return sorted({name for feature in problem.features.history.values() for name in feature.by})


def _number_cutoffs(database: duckdb.DuckDBPyConnection, cutoffs: NDArray[np.int64]) -> None:
    """Give SQL the function cutoffs_until(t): how many cut-offs (microseconds, sorted) are not after t.

    What is so from `start` to `end` counts for the cut-offs numbered cutoffs_until(start) up to, and without,
    cutoffs_until(end). A binary search in memory: the join that says the same sorts all statements.
    """

    def positions(moments: pa.Array) -> pa.Array:
        places = np.searchsorted(cutoffs, moments.to_numpy(zero_copy_only=False), side="right")
        return pa.array(places.astype(np.int32))

    database.create_function("cutoffs_until", positions, ["BIGINT"], "INTEGER", type="arrow")


def _said(problem: Problem, database: duckdb.DuckDBPyConnection) -> str:
    """Query for what was taken for each event's label, and when.

    Nearly every event has one statement, which stands by itself: to look at its neighbours, as `known` has to, would
    cost a copy of all labels. So `known` gets the others alone.
    """
    key = f"hash({sql.quote(problem.key)})"
    columns = f"{sql.quote(problem.key)}, event_time, label, known_time, superseded_time, withdrawn_time"
    truth = f"source IN ({', '.join(map(sql.literal, as_known.TRUTH))})"
    about = f"CASE WHEN {sql.quote(problem.key)} IN (FROM _came_again) THEN event_time ELSE 'epoch'::TIMESTAMPTZ END"
    also = f"hash({sql.quote(problem.key)} || '~')"  # one hash alone takes keys that look alike for the same
    database.execute(f"""
        CREATE TEMP TABLE _several AS
        SELECT {key} AS _h FROM labels WHERE {truth} GROUP BY _h, {also} HAVING count(*) > 1
    """)
    if not database.sql("SELECT * FROM _several LIMIT 1").fetchall():
        return f"SELECT {columns} FROM labels WHERE {truth}"
    database.execute(f"CREATE TEMP TABLE _disputed AS SELECT * FROM labels WHERE {key} IN (SELECT _h FROM _several)")
    return f"""
        SELECT {columns} FROM labels WHERE {truth} AND {key} NOT IN (SELECT _h FROM _several)
        UNION ALL
        SELECT {columns} FROM (
            WITH labels AS (SELECT * FROM _disputed) SELECT * FROM ({as_known.label_statements(problem, about=about)})
        )
    """


def _match(problem: Problem, database: duckdb.DuckDBPyConnection) -> str:
    """Condition under which the label `s` is about the event of statement `e`.

    The key says so, whatever was corrected since; of keys that came again for another event the event's time does.
    """
    key = sql.quote(problem.key)
    database.execute(f"""
        CREATE TEMP TABLE _came_again AS
        WITH repeated AS (
            SELECT hash({key}) AS _h FROM events WHERE superseded_time IS NULL AND withdrawn_time IS NULL
            GROUP BY _h HAVING count(*) > 1
        )
        SELECT {key} FROM events
        WHERE superseded_time IS NULL AND withdrawn_time IS NULL AND hash({key}) IN (SELECT _h FROM repeated)
        GROUP BY {key} HAVING count(DISTINCT event_time) > 1
    """)
    same = f"s.{key} = e.{key}"
    if not database.sql("SELECT * FROM _came_again LIMIT 1").fetchall():
        return same
    return f"{same} AND (s.event_time = e.event_time OR e.{key} NOT IN (SELECT {key} FROM _came_again))"


def _past(problem: Problem, features: list[History], said: str | None, match: str) -> str:
    """Query for the statements that count: group columns, values, and for which cut-offs, per window.

    They are those of events, or with `said`, the query for labels, those of labels, joined to their events by `match`.
    """
    key = sql.quote(problem.key)
    groups = {name for feature in features for name in feature.by}
    columns = sorted(groups | {feature.of for feature in features} - {"label"})
    kept = comma(columns, "e.") + ("s.label, " if said else "")
    if any(feature.function in ("last", "time_since") for feature in features):
        kept += f"e.{key}, e.event_time, "
    if said:
        # The group is the one that was known at the cut-off: the event's statement has to hold there as well.
        times = """greatest(s.known_time, e.known_time, s.event_time, e.event_time) AS _since,
            least(s.superseded_time, s.withdrawn_time, e.superseded_time, e.withdrawn_time) AS _until,
            least(s.event_time, e.event_time) AS _oldest"""
        rows = f"({said}) AS s JOIN events AS e ON {match}"
    else:
        times = """greatest(e.known_time, e.event_time) AS _since,
            least(e.superseded_time, e.withdrawn_time) AS _until, e.event_time AS _oldest"""
        rows = "events AS e"
    windows = sorted({feature.window_days for feature in features})
    ends = ", ".join(
        f"cutoffs_until(least(epoch_us(_until), epoch_us(_oldest) + {_span(days)})) AS _end_{days}" for days in windows
    )
    return f"""
        SELECT * EXCLUDE (_since, _until, _oldest), cutoffs_until(epoch_us(_since)) AS _first, {ends}
        FROM (SELECT {kept} {times} FROM {rows})
    """


def _span(days: int) -> int:
    """A window in microseconds; one that is longer than all of time is as long."""
    return min(days, 4_000_000) * DAY_US
