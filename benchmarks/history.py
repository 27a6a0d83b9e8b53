"""Point-in-time history features: Evergreen's counting against SQL written by hand for this one problem.

    python -m benchmarks.history [copies] [each]

The reference knows what Evergreen may not: that nothing is ever corrected. `copies` repeats the default problem's year
of flights; with `each`, every flight has a cut-off of its own (an hour before it leaves) instead of one a day.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from benchmarks.arguments import parser
from benchmarks.measure import compare
from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.features.featurize import featurize
from pipelines.ingest.extract import extract
from pipelines.ingest.sources import opened
from pipelines.problem import Problem, load_problem

BY_HAND = """
    WITH known AS (SELECT e.carrier, e.dest, e.origin, l.label, l.known_time, l.event_time
                   FROM labels AS l JOIN events AS e USING (flight_id)),
    {rates}
    SELECT t.*, {values} FROM events AS t {joins}
"""
A_DAY = """{by}_rate AS (
    SELECT c.{by}, c.cutoff_time, avg(k.label) AS value
    FROM (SELECT DISTINCT {by}, cutoff_time FROM events) AS c
    JOIN known AS k ON k.{by} = c.{by} AND k.known_time < c.cutoff_time
        AND k.event_time >= c.cutoff_time - to_days(28) AND k.event_time < c.cutoff_time
    GROUP BY c.{by}, c.cutoff_time)"""
# The join above would look at every pair of flights of a group.
EACH = """{by}_change AS (
    SELECT {by}, greatest(known_time, event_time) AS ts, label, 1 AS n FROM known
    UNION ALL SELECT {by}, event_time + to_days(28), -label, -1 FROM known),
{by}_past AS (
    SELECT {by}, ts, sum(label) OVER past AS late, sum(n) OVER past AS n FROM {by}_change
    WINDOW past AS (PARTITION BY {by} ORDER BY ts)),
{by}_rate AS (
    SELECT c.{by}, c.cutoff_time, p.late / nullif(p.n, 0) AS value
    FROM (SELECT DISTINCT {by}, cutoff_time FROM events) AS c
    ASOF JOIN {by}_past AS p ON p.{by} = c.{by} AND p.ts < c.cutoff_time)"""


def year(problem: Problem, copies: int, each: bool) -> dict[str, Any]:
    """The default problem's statements, repeated within the hour."""
    first, last = problem.partitions.first_key, str(problem.partitions.last_key)
    shift = "to_microseconds(CAST(hash(flight_id, copy) % 3600000000 AS BIGINT))"
    cutoff = f"event_time + {shift} - INTERVAL 1 HOUR" if each else "cutoff_time"
    columns = {
        "events": [*problem.columns, "partition", f"{cutoff} AS cutoff_time, {cutoff} AS known_time, 0 AS statement"],
        "labels": [
            "label",
            "partition",
            f"known_time + {shift} AS known_time",
            "'natural' AS source, 1 AS confidence",
            "'' AS labeler",
        ],
    }
    made = {}
    with opened(problem, first, last) as sources:
        for name, kept in columns.items():
            rows = pa.Table.from_batches(extract(problem, name, sources.database, first, last))
            repeated = sql.query(
                f"""SELECT flight_id || '/' || copy AS flight_id, event_time + {shift} AS event_time, {", ".join(kept)},
                    NULL AS superseded_time, NULL AS withdrawn_time FROM year, range($copies) AS r(copy)""",
                {"year": rows},
                {"copies": copies},
            )
            schema = table_schema(problem, name)
            made[name] = repeated.select(schema.names).cast(schema)
    return made


def main(copies: int, each: bool) -> None:
    problem = load_problem("flight_delay")
    many = year(problem, copies, each)
    by = ("carrier", "dest", "origin")
    by_hand = BY_HAND.format(
        rates=", ".join((EACH if each else A_DAY).format(by=name) for name in by),
        values=", ".join(f"{name}_rate.value AS {name}_late_rate_28d" for name in by),
        joins=" ".join(f"LEFT JOIN {name}_rate USING ({name}, cutoff_time)" for name in by),
    )

    def ours() -> int:
        return sum(batch.num_rows for batch in featurize(problem, many["events"], many["events"], many["labels"]))

    def reference() -> int:
        return sum(batch.num_rows for batch in sql.stream(by_hand, many))

    each_its_own = "a cut-off each" if each else "a cut-off a day"
    compare(f"history features of {many['events'].num_rows:,} events, {each_its_own}", ours, reference, rounds=3)


if __name__ == "__main__":
    asked = parser(__doc__)
    asked.add_argument("copies", nargs="?", type=int, default=1, help="default: 1")
    asked.add_argument("each", nargs="?", choices=["each"])
    arguments = asked.parse_args()
    main(arguments.copies, arguments.each is not None)
