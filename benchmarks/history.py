"""Point-in-time history features: the generated SQL against SQL written by hand for this one problem.

    python -m benchmarks.history [copies]

The reference knows what the generator may not: that labels are never corrected, and that all flights of a day share
one cut-off. `copies` repeats the default problem's year of flights.
"""

from __future__ import annotations

import sys

import pyarrow as pa

from benchmarks.measure import compare
from pipelines import sql
from pipelines.features.featurize import featurize
from pipelines.ingest.extract import extract
from pipelines.ingest.sources import read_sources
from pipelines.problem import load_problem

BY_HAND = """
    WITH known AS (SELECT e.carrier, e.dest, e.origin, l.label, l.known_time, l.event_time
                   FROM labels AS l JOIN events AS e USING (flight_id)),
    {rates}
    SELECT t.*, {values} FROM events AS t {joins} ORDER BY t.event_time, t.flight_id
"""
RATE = """{by}_rate AS (
    SELECT c.{by}, c.cutoff_time, avg(k.label) AS value
    FROM (SELECT DISTINCT {by}, cutoff_time FROM events) AS c
    JOIN known AS k ON k.{by} = c.{by} AND k.known_time < c.cutoff_time
        AND k.event_time >= c.cutoff_time - to_days(28) AND k.event_time < c.cutoff_time
    GROUP BY c.{by}, c.cutoff_time)"""


def main(copies: int) -> None:
    problem = load_problem("flight_delay")
    sources = read_sources(problem)
    first, last = problem.partitions.first.isoformat(), str(problem.partitions.last)
    year = {
        query: pa.Table.from_batches(extract(problem, query, sources, first, last)) for query in ("events", "labels")
    }
    many = {
        name: sql.query(
            "SELECT * REPLACE (flight_id || '/' || copy AS flight_id) FROM year, range($copies) AS r(copy)",
            {"year": table.drop_columns(["faults", "raw"])},
            {"copies": copies},
        )
        for name, table in year.items()
    }
    many["labels"] = many["labels"].append_column("confidence", pa.array([1.0] * many["labels"].num_rows))
    by = ("carrier", "dest", "origin")
    by_hand = BY_HAND.format(
        rates=", ".join(RATE.format(by=name) for name in by),
        values=", ".join(f"{name}_rate.value AS {name}_late_rate_28d" for name in by),
        joins=" ".join(f"LEFT JOIN {name}_rate USING ({name}, cutoff_time)" for name in by),
    )

    def ours() -> int:
        return sum(batch.num_rows for batch in featurize(problem, many["events"], many["events"], many["labels"]))

    def reference() -> int:
        return sum(batch.num_rows for batch in sql.stream(by_hand, many))

    compare(f"history features of {many['events'].num_rows:,} events", ours, reference, rounds=3)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
