"""orphans: labels of no event, and why their ids differ from those of the events."""

from __future__ import annotations

from typing import NamedTuple

import duckdb

EXAMPLES = 3

# What happens to ids on their way, and SQL that undoes it: both sides are equal afterwards.
CAUSES = {
    "one side has them as floats": r"regexp_replace(id, '\.0*$', '')",
    "one side has leading zeros": "ltrim(id, '0')",
    "capitals differ": "lower(id)",
    "one side has spaces around them": "trim(id)",
    "one side has quotes around them": "trim(id, '''\"')",
}
EVERYTHING = "they differ in more than one of: floats, leading zeros, capitals, spaces, quotes"


class Orphans(NamedTuple):
    """Labels whose event should be there, and is not."""

    without_event: int
    share: float
    """of the labels whose event should be there"""
    message: str


NONE = Orphans(0, 0.0, "every label has its event")


def orphans(database: duckdb.DuckDBPyConnection) -> Orphans:
    """Which ids of the table or view `labels` are not among those of `events`, and why, as far as that can be told.

    Both have a column `id`. What is held is the ids that are not there.

    >>> import pyarrow as pa
    >>> from pipelines import sql
    >>> def message(labels, events):
    ...     with sql.connection({"labels": pa.table({"id": labels}), "events": pa.table({"id": events})}) as database:
    ...         return orphans(database).message
    >>> message(["0.0", "7.0", "3"], ["0", "7", "3", None])
    "2 of 3 labels have no event: '0.0' and '7.0', where events are '0' and '7' (one side has them as floats)"
    >>> message(["a"], ["b", "c"])
    "1 of 1 labels have no event: 'a', where events are such as 'b' and 'c'"
    """
    database.execute("CREATE TEMP TABLE lost AS SELECT id FROM labels ANTI JOIN events USING (id)")
    (without,) = database.sql("SELECT count(*) FROM lost").fetchall()[0]
    if not without:
        return NONE
    (count,) = database.sql("SELECT count(*) FROM labels").fetchall()[0]
    everything = "id"
    for undone in reversed(CAUSES.values()):
        everything = undone.replace("id", everything, 1)
    best: tuple[int, str, list[tuple[str, str]]] = (0, "", [])
    for cause, undone in {**CAUSES, EVERYTHING: everything}.items():
        joined = f"""(SELECT DISTINCT id, {undone} AS plain FROM lost) AS l
            JOIN (SELECT min(id) AS event, {undone} AS plain FROM events GROUP BY 2) AS e USING (plain)"""
        (alike,) = database.sql(f"SELECT count(*) FROM {joined}").fetchall()[0]
        if alike > best[0]:
            examples = f"SELECT l.id, e.event FROM {joined} ORDER BY ALL LIMIT {EXAMPLES}"
            best = alike, cause, database.sql(examples).fetchall()
    if best[0]:
        ours, theirs = ([pair[side] for pair in best[2]] for side in (0, 1))
        why = f"where events are {_listed(theirs)} ({best[1]})"
    else:
        ours, theirs = (
            [row[0] for row in database.sql(f"SELECT DISTINCT id FROM {side} ORDER BY 1 LIMIT {EXAMPLES}").fetchall()]
            for side in ("lost", "events WHERE id IS NOT NULL")
        )
        why = f"where events are such as {_listed(theirs)}" if theirs else "and there are no events"
    message = f"{without} of {count} labels have no event: {_listed(ours)}, {why}"
    return Orphans(without, without / count, message)


def _listed(ids: list[str]) -> str:
    *others, last = map(repr, ids)
    return f"{', '.join(others)} and {last}" if others else last
