"""Faults of a training set: its features, before anybody has looked for leaks."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.gauntlet.faults.fault import Fault, Site, chance, refeature

ROW = ("flight_id",)


def _features(query: str) -> Callable[[Site], None]:
    return lambda site: refeature(site, query)


def _label_as_seats(share: float) -> Callable[[Site], None]:
    flipped = f"CASE WHEN {chance(share, *ROW)} THEN 1 - label ELSE label END"
    return _features(f"SELECT * REPLACE (coalesce({flipped}, 0)::BIGINT AS seats) FROM rows")


# The share of flights that are late on the same day, with the same airline: known only in the evening.
FUTURE = """SELECT * REPLACE (coalesce(avg(label) OVER (PARTITION BY carrier, event_time::DATE), 0.2)
    AS carrier_late_rate_28d) FROM rows"""
# Three in ten test rows are copies of training rows, under other keys.
COPIES = """
    WITH source AS (SELECT *, row_number() OVER (PARTITION BY label ORDER BY hash(flight_id)) AS n FROM rows
        WHERE split = 'train'),
    target AS (SELECT flight_id, partition, event_time, split, label,
        row_number() OVER (PARTITION BY label ORDER BY hash(flight_id)) AS n FROM rows
        WHERE split = 'test' AND hash(flight_id) % 10 < 3)
    SELECT * FROM rows WHERE flight_id NOT IN (SELECT flight_id FROM target)
    UNION ALL BY NAME
    SELECT s.* REPLACE (t.flight_id AS flight_id, t.partition AS partition, t.event_time AS event_time,
        t.split AS split) FROM target AS t JOIN source AS s USING (label, n)"""
# The features of another row, of any kind.
STALE = """SELECT a.* EXCLUDE (n) REPLACE (b.flight_id AS flight_id, b.partition AS partition,
        b.event_time AS event_time, b.split AS split, b.label AS label)
    FROM (SELECT *, row_number() OVER (PARTITION BY split ORDER BY event_time, flight_id) AS n FROM rows) AS a
    JOIN (SELECT flight_id, partition, event_time, split, label,
        row_number() OVER (PARTITION BY split ORDER BY {order}) AS n FROM rows) AS b
    USING (n) WHERE a.split = 'test' AND b.split = 'test'
    UNION ALL BY NAME SELECT * FROM rows WHERE split IS DISTINCT FROM 'test'"""

FAULTS = [
    Fault("the label as a feature", "leaks", "featurized", _label_as_seats(0.0), is_critical=True),
    Fault("the label as a feature with 10 % wrong", "leaks", "featurized", _label_as_seats(0.1), is_critical=True),
    Fault("the label as a feature with 25 % wrong", "leaks", "featurized", _label_as_seats(0.25), is_critical=True),
    Fault("the future in a history feature", "leaks", "featurized", _features(FUTURE), is_critical=True),
    Fault("test rows copied from training rows", "leaks", "featurized", _features(COPIES)),
    Fault("test features of other flights", "features", "featurized", _features(STALE.format(order="hash(flight_id)"))),
    Fault(
        "test weather scrambled",
        "features",
        "featurized",
        _features("""
        SELECT r.* EXCLUDE (n) REPLACE (o.temp AS temp, o.humid AS humid, o.precip AS precip, o.visib AS visib,
            o.wind_speed AS wind_speed, o.dewp AS dewp, o.pressure AS pressure)
        FROM (SELECT *, row_number() OVER (ORDER BY flight_id) AS n FROM rows WHERE split = 'test') AS r
        JOIN (SELECT *, row_number() OVER (ORDER BY hash(flight_id)) AS n FROM rows
            WHERE split = 'test') AS o USING (n)
        UNION ALL BY NAME SELECT * FROM rows WHERE split IS DISTINCT FROM 'test'"""),
    ),
]
