"""As known at T: the one rule of what was known when, for training, history features and monitoring alike.

Rows of `events` and `labels` are statements. One holds from its `known_time` until a later statement about the same
event supersedes it, or the source takes the event back; nothing is ever overwritten, so that what was known at any
moment can be read again (Snodgrass, Developing Time-Oriented Database Applications in SQL, 1999, ch. 10).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import pyarrow.compute as pc

from pipelines import sql
from pipelines.config import LabelSource
from pipelines.problem import Problem

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

Events = TypeVar("Events", "pa.Table", "ds.Dataset")
TRUTH: tuple[LabelSource, ...] = ("hand", "natural")  # what happened, not what somebody guesses: the most trusted first


def holds_now() -> pc.Expression:
    """Condition for Arrow: as far as is known today, a statement holds."""
    return pc.field("superseded_time").is_null() & pc.field("withdrawn_time").is_null()


def holds(at: str, of: str = "") -> str:
    """SQL condition: a statement holds at the moment `at`, an SQL expression. `of` prefixes the columns.

    >>> print(holds("$as_of", "e."))
    (e.known_time < $as_of AND (e.superseded_time IS NULL OR e.superseded_time >= $as_of)
        AND (e.withdrawn_time IS NULL OR e.withdrawn_time >= $as_of))
    """
    return (
        f"({of}known_time < {at} AND ({of}superseded_time IS NULL OR {of}superseded_time >= {at})\n"
        f"    AND ({of}withdrawn_time IS NULL OR {of}withdrawn_time >= {at}))"
    )


def targets(events: Events, as_of: datetime) -> Events:
    """The statement from which each event is predicted, as known at `as_of`: one row per event of `events`.

    It is the newest one known by the event's cut-off, so that a model learns from what it will be given. An event
    that was first heard of after its cut-off is taken as it was first heard of; so is one that the source had taken
    back, when it comes again. At most one row per event, since `publish` moves no cut-off that has passed. A dataset
    is filtered lazily.
    """
    known, cutoff, superseded, withdrawn = map(
        pc.field, ("known_time", "cutoff_time", "superseded_time", "withdrawn_time")
    )
    at = pc.scalar(as_of)
    in_time = (known <= cutoff) & (superseded.is_null() | (superseded > cutoff) | (superseded >= at))
    late = (known > cutoff) & (pc.field("statement") == 0)
    return events.filter((known < at) & (withdrawn.is_null() | (withdrawn >= at)) & (in_time | late))


def label_statements(problem: Problem, sources: Sequence[LabelSource] = TRUTH, about: str = "event_time") -> str:
    """SQL query over the table `labels`: what was taken for each event's label, from when on, and until when.

    Statements are about one event if their key and `about`, an SQL expression over a row (never null), are the same: a
    key may come again for an event at another time.

    Columns: the key, event_time, label, source, confidence, known_time, superseded_time, withdrawn_time. Of the
    statements that hold at a moment it is the one whose source is trusted most (`sources`: the most trusted first),
    and of those the newest; so at any moment at most one row about an event `holds`. When a statement is taken back,
    the one that it stood in front of comes again, as another row, known from that moment.
    """
    name = sql.quote(problem.key)
    key = f"{name}, _about"
    wanted = ", ".join(sql.literal(source) for source in sources)
    columns = f"{name}, event_time, label, source, confidence, known_time, superseded_time, withdrawn_time"
    order = "known_time, confidence, label, source, event_time"  # the last: those alike but for the time they say
    # Names that begin with _ are our own: no key does. Nearly every event has one statement only: it needs no look at
    # others, which would cost a sort of all rows.
    return f"""
        WITH wanted AS (
            SELECT *, hash({key}) AS _h FROM (
                SELECT {columns}, {about} AS _about FROM labels WHERE source IN ({wanted})
            )
        ),
        repeated AS (SELECT _h FROM wanted GROUP BY _h HAVING count(*) > 1),
        several AS (
            SELECT {columns}, _about, list_position([{wanted}], source) AS _rank,
                least(superseded_time, withdrawn_time) AS _ended_time,
                row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS _number
            FROM wanted WHERE _h IN (SELECT _h FROM repeated)
        ),
        moments AS (
            SELECT {key}, known_time AS _since FROM several
            UNION
            SELECT {key}, _ended_time FROM several WHERE _ended_time IS NOT NULL
        ),
        spans AS (  -- between two moments nothing changes
            SELECT {key}, _since, lead(_since) OVER (PARTITION BY {key} ORDER BY _since) AS _until FROM moments
        ),
        taken AS (
            SELECT {key}, _since, _until, arg_min(_number, (_rank, -_number)) AS _number
            FROM spans JOIN several USING ({key})
            WHERE known_time <= _since AND (_ended_time IS NULL OR _ended_time > _since)
            GROUP BY {key}, _since, _until
        ),
        marked AS (
            SELECT *, lag(_until) OVER one IS DISTINCT FROM _since OR lag(_number) OVER one IS DISTINCT FROM _number
                AS _is_other
            FROM taken WINDOW one AS (PARTITION BY {key} ORDER BY _since)
        ),
        runs AS (
            SELECT *, count_if(_is_other) OVER (PARTITION BY {key} ORDER BY _since ROWS UNBOUNDED PRECEDING) AS _run
            FROM marked
        ),
        whole AS (
            SELECT {key}, _number, min(_since) AS _since,
                nullif(max(coalesce(_until, 'infinity')), 'infinity') AS _until
            FROM runs GROUP BY {key}, _number, _run
        )
        SELECT {columns} FROM wanted WHERE _h NOT IN (SELECT _h FROM repeated)
        UNION ALL
        SELECT {name}, event_time, label, source, confidence, _since AS known_time,
            CASE WHEN _until IS DISTINCT FROM withdrawn_time THEN _until ELSE superseded_time END AS superseded_time,
            withdrawn_time
        FROM whole JOIN several USING ({key}, _number)
    """


def labels_as_known(problem: Problem, sources: Sequence[LabelSource] = TRUTH) -> str:
    """SQL query over the table `labels` with the parameter `as_of`: one row per event that had a label then."""
    return f"SELECT * FROM ({label_statements(problem, sources)}) AS s WHERE {holds('$as_of', 's.')}"


def labels_of(
    problem: Problem,
    rows: str,
    strays: str = "true",
    *,
    labels: str = "known",
    columns: Sequence[str] = ("label", "source", "confidence", "known_time"),
) -> str:
    """SQL query for the label of each event of the table `rows`, over the table `labels` (see `labels_as_known`).

    Gives the key, the row's event_time, and the label's `columns`; at most one row for each of `rows`. A label belongs
    to the event of its key *and* its event_time: keys come again. What is left are strays: labels with an event_time
    that no row of their key has, such as that of an event whose time was corrected after it had been predicted. A
    stray belongs to the row of its key if that is the only one, has no label of its own, and the two fulfil `strays`,
    an SQL condition over `r` (the row) and `k` (the label).
    """
    key, said = sql.quote(problem.key), ", ".join(f"k.{name}" for name in columns)
    left = f"SELECT * FROM {labels} ANTI JOIN {rows} USING ({key}, event_time)"
    return f"""
        SELECT r.{key}, r.event_time, {said} FROM {rows} AS r JOIN {labels} AS k USING ({key}, event_time)
        UNION ALL
        SELECT r.{key}, r.event_time, {said}
        FROM (
            SELECT * FROM {rows} ANTI JOIN {labels} USING ({key}, event_time)
            WHERE {key} IN (SELECT {key} FROM ({left}))
                AND {key} NOT IN (SELECT {key} FROM {rows} GROUP BY {key} HAVING count(*) > 1)
        ) AS r
        JOIN ({left}) AS k USING ({key})
        WHERE {strays}
        QUALIFY row_number() OVER (PARTITION BY r.{key} ORDER BY k.known_time DESC, k.event_time DESC) = 1
    """


def in_the_partition(problem: Problem) -> str:
    """A condition for `labels_of`: a stray's event_time lies in the partition of the row that was predicted."""
    return f"{sql.partition_of(problem.partitions, 'k.event_time')} = r.partition"
