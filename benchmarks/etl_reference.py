"""The reference of `benchmarks.etl`: the default problem's data plane in SQL written by hand, for DuckDB alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

KEY = """format('{:04d}-{:02d}-{:02d}/{}{}/{}/{:04d}', f.year, f.month, f.day, f.carrier, f.flight, f.origin,
    f.sched_dep_time)"""
WEEK = "strftime(date_trunc('week', {} AT TIME ZONE 'America/New_York'), '%Y-%m-%d')"
EVENTS = f"""
    SELECT {KEY} AS flight_id, f.time_hour + to_minutes(f.minute) AS event_time,
        (make_timestamp(f.year, f.month, f.day, 4, 0, 0) - to_days(CAST(f.sched_dep_time < 400 AS INTEGER)))
            AT TIME ZONE 'America/New_York' AS cutoff_time,
        f.carrier, f.origin, f.dest, f.distance,
        f.sched_dep_time // 100 + (f.sched_dep_time % 100) / 60 AS sched_dep_hour,
        f.sched_arr_time // 100 + (f.sched_arr_time % 100) / 60 AS sched_arr_hour,
        isodow(make_date(f.year, f.month, f.day)) AS weekday, f.year - p.year AS plane_age, p.seats, p.manufacturer,
        w.temp, w.dewp, w.humid, w.wind_speed, w.precip, w.visib, w.pressure
    FROM flights AS f
    LEFT JOIN planes AS p USING (tailnum)
    LEFT JOIN weather AS w ON w.origin = f.origin AND w.time_hour = f.time_hour
"""
RANGES = {
    "distance": (50, 6000),
    "sched_dep_hour": (0, 24),
    "sched_arr_hour": (0, 24),
    "weekday": (1, 7),
    "plane_age": (0, 100),
    "seats": (1, 1000),
    "temp": (-40, 130),
    "dewp": (-60, 100),
    "humid": (0, 100),
    "wind_speed": (0, 150),
    "precip": (0, 10),
    "visib": (0, 20),
    "pressure": (870, 1090),
}
REQUIRED = (
    "flight_id",
    "event_time",
    "cutoff_time",
    "carrier",
    "origin",
    "dest",
    "distance",
    "sched_dep_hour",
    "sched_arr_hour",
    "weekday",
)
COLUMNS = (
    "carrier",
    "origin",
    "dest",
    "distance",
    "sched_dep_hour",
    "sched_arr_hour",
    "weekday",
    "plane_age",
    "seats",
    "manufacturer",
    "temp",
    "dewp",
    "humid",
    "wind_speed",
    "precip",
    "visib",
    "pressure",
)
RULES = {
    **{f"{name}: missing": f"{name} IS NULL" for name in REQUIRED},
    **{f"{name}: outside {low}..{high}": f"{name} < {low} OR {name} > {high}" for name, (low, high) in RANGES.items()},
    "origin: not an allowed value": "origin NOT IN ('EWR', 'JFK', 'LGA')",
    "dew_below_temperature": "NOT (dewp <= temp + 1)",
    "flight_id: twice": "flight_id IN (SELECT flight_id FROM twice)",
}
LABELS = f"""
    SELECT {KEY} AS flight_id, f.time_hour + to_minutes(f.minute) AS event_time,
        ((f.time_hour + to_minutes(f.minute) + to_minutes(CAST(f.dep_delay + f.air_time + 30 AS INTEGER)))
            AT TIME ZONE 'America/New_York' + to_days(7)) AT TIME ZONE 'America/New_York' AS known_time,
        CAST(f.arr_delay >= 15 AS TINYINT) AS label
    FROM flights AS f WHERE f.arr_delay IS NOT NULL
"""
LABEL_RULES = {
    "event_time: missing": "event_time IS NULL",
    "known_time: missing": "known_time IS NULL",
    "label: not 0 or 1": "label NOT IN (0, 1)",
    "flight_id: twice": "(flight_id, known_time) IN (SELECT (flight_id, known_time) FROM twice)",
}


def reference(folder: Path, bounds: dict[str, Any]) -> None:
    """Write events, labels, quarantine and features below `folder`/by_hand, each partitioned by its partition."""
    target = folder / "by_hand"
    target.mkdir()
    config = {"TimeZone": "UTC", "autoinstall_known_extensions": False, "temp_directory": f"{folder}/spill", **bounds}
    with duckdb.connect(config=config) as database:
        for name in ("flights", "planes", "weather"):
            database.execute(f"CREATE VIEW {name} AS FROM '{folder}/{name}.parquet'")
        known = ", cutoff_time AS known_time, 0 AS statement"
        _publish(
            database, target, "events", f"SELECT *{known}, {WEEK.format('event_time')} AS partition", EVENTS, RULES
        )
        arrived = ", 'natural' AS source, 1.0 AS confidence, 'outcome' AS labeler"
        _publish(
            database,
            target,
            "labels",
            f"SELECT *{arrived}, {WEEK.format('known_time')} AS partition",
            LABELS,
            LABEL_RULES,
        )
        _features(database, target)


def _publish(
    database: duckdb.DuckDBPyConnection, target: Path, name: str, shaped: str, rows: str, rules: dict[str, str]
) -> None:
    staged = f"{target}/{name}.staged.parquet"
    within = "WHERE partition BETWEEN '2012-12-31' AND '2013-12-30' OR partition IS NULL"
    database.execute(f"COPY (SELECT * FROM ({shaped} FROM ({rows})) {within}) TO '{staged}'")
    hashes = f"SELECT hash(flight_id) AS h FROM '{staged}' GROUP BY h HAVING count(*) > 1"
    database.execute(f"""
        CREATE OR REPLACE TEMP TABLE twice AS
        SELECT flight_id, known_time FROM '{staged}' WHERE hash(flight_id) IN ({hashes})
        GROUP BY flight_id, known_time HAVING count(*) > 1
    """)
    broken = " OR ".join(f"coalesce({rule}, false)" for rule in rules.values())
    named = ", ".join(f"CASE WHEN {rule} THEN '{text}' END" for text, rule in rules.items())
    times = "NULL::TIMESTAMPTZ AS superseded_time, NULL::TIMESTAMPTZ AS withdrawn_time"
    database.execute(f"""
        COPY (SELECT *, {times} FROM '{staged}' WHERE NOT ({broken}))
            TO '{target}/{name}' (FORMAT parquet, PARTITION_BY (partition), WRITE_PARTITION_COLUMNS false);
        COPY (SELECT partition, '{name}' AS source, md5(to_json(s)::VARCHAR) AS id, to_json(s)::VARCHAR AS row,
                list_filter([{named}], lambda rule: rule IS NOT NULL) AS rules FROM '{staged}' AS s WHERE {broken})
            TO '{target}/quarantine' (FORMAT parquet, PARTITION_BY (partition), APPEND)
    """)
    Path(staged).unlink()


def _features(database: duckdb.DuckDBPyConnection, target: Path) -> None:
    """Late rates of 28 days, by a join of each group's cut-offs with what was known then: one query a rate."""
    database.execute(f"""
        CREATE VIEW e AS FROM read_parquet('{target}/events/**/*.parquet', hive_partitioning = true,
            hive_types_autocast = false);
        CREATE VIEW l AS FROM read_parquet('{target}/labels/**/*.parquet', hive_partitioning = true);
        CREATE TEMP TABLE known AS
            SELECT e.carrier, e.dest, e.origin, l.label, l.known_time, l.event_time FROM l JOIN e USING (flight_id)
    """)
    for by in ("carrier", "dest", "origin"):
        database.execute(f"""
            CREATE TEMP TABLE {by}_rate AS
            SELECT c.{by}, c.cutoff_time, avg(k.label) AS rate
            FROM (SELECT DISTINCT {by}, cutoff_time FROM e) AS c
            JOIN known AS k ON k.{by} = c.{by} AND k.known_time < c.cutoff_time
                AND k.event_time >= c.cutoff_time - INTERVAL 28 DAYS AND k.event_time < c.cutoff_time
            GROUP BY c.{by}, c.cutoff_time
        """)
    rates = ", ".join(f"{by}_rate.rate AS {by}_late_rate_28d" for by in ("carrier", "dest", "origin"))
    joins = " ".join(f"LEFT JOIN {by}_rate USING ({by}, cutoff_time)" for by in ("carrier", "dest", "origin"))
    columns = ", ".join(f"e.{name}" for name in COLUMNS)
    database.execute(f"""
        COPY (SELECT flight_id, partition, event_time, {columns}, {rates} FROM e {joins})
            TO '{target}/features' (FORMAT parquet, PARTITION_BY (partition))
    """)
