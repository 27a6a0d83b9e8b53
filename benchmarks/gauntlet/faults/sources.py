"""Faults of a feed: the new weeks' files are harmed before they are ingested."""

from __future__ import annotations

import pyarrow.parquet as pq

from benchmarks.gauntlet.faults.fault import FLIGHT_ID, Fault, Site, chance, in_sources

FLIGHT = ("month", "day", "carrier", "flight", "origin", "sched_dep_time")
HOUR = ("origin", "time_hour")


def weather(assignment: str) -> str:
    return f"UPDATE weather SET {assignment} WHERE is_new"


def flights(assignment: str, condition: str = "true") -> str:
    return f"UPDATE flights SET {assignment} WHERE is_new AND {condition}"


def _stale(table: str) -> tuple[str, str]:
    """The rows of three weeks before, under the new weeks' dates."""
    date = "make_date(year, month, day) + 21"
    return (
        f"DELETE FROM {table} WHERE is_new",
        f"""INSERT INTO {table} SELECT * REPLACE (1000000 + row AS row, true AS is_new,
            time_hour + to_days(21) AS time_hour, year({date}) AS year, month({date}) AS month, day({date}) AS day)
            FROM {table} WHERE make_date(year, month, day) + 21 BETWEEN
                (SELECT min(make_date(year, month, day)) FROM kept) AND
                (SELECT max(make_date(year, month, day)) FROM kept)""",
    )


KEEP = "CREATE TEMP TABLE kept AS SELECT year, month, day FROM flights WHERE is_new"
# The last value before the new weeks stays, at each airport.
LAST = """SELECT origin, arg_max({0}, time_hour) AS last FROM weather
    WHERE NOT is_new AND {0} IS NOT NULL AND time_hour < (SELECT min(time_hour) FROM weather WHERE is_new) GROUP BY 1"""


def _frozen(*names: str) -> tuple[str, ...]:
    return tuple(
        f"UPDATE weather SET {name} = l.last FROM ({LAST.format(name)}) AS l WHERE is_new AND l.origin = weather.origin"
        for name in names
    )


def _copies(share: float, assignment: str) -> str:
    return f"""INSERT INTO flights SELECT * REPLACE (2000000 + row AS row{assignment})
        FROM flights WHERE is_new AND {chance(share, *FLIGHT)}"""


def _rename(site: Site) -> None:
    path = site.folder / "weather.parquet"
    rows = pq.read_table(path)
    path.unlink()
    pq.write_table(rows.rename_columns(["temperature" if name == "temp" else name for name in rows.schema.names]), path)


def _as_text(site: Site) -> None:
    """The temperature comes with its unit: 39.02 F."""
    import duckdb

    path = site.folder / "weather.parquet"
    rows = duckdb.sql(f"SELECT * REPLACE (temp::VARCHAR || ' F' AS temp) FROM '{path}'").to_arrow_table()
    path.unlink()
    pq.write_table(rows, path)


def _truncated(site: Site) -> None:
    path = site.folder / "flights.parquet"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) * 2 // 3])


KEYS = f"SELECT {FLIGHT_ID} FROM flights WHERE is_new AND "
CELSIUS = "({0} - 32) * 5 / 9"
SHIFTED = "(({0} // 100 + 3) % 24) * 100 + {0} % 100"

_ALL: dict[str, dict[str, tuple[str, ...]]] = {
    "units": {
        "temperature in Celsius": (weather(f"temp = {CELSIUS.format('temp')}"),),
        "dew point in Celsius": (weather(f"dewp = {CELSIUS.format('dewp')}"),),
        "temperature and dew point in Celsius": (
            weather(f"temp = {CELSIUS.format('temp')}, dewp = {CELSIUS.format('dewp')}"),
        ),
        "distance in kilometres": (flights("distance = CAST(distance * 1.609 AS BIGINT)"),),
        "wind in metres per second": (weather("wind_speed = wind_speed * 0.447"),),
        "pressure in inches of mercury": (weather("pressure = pressure / 33.8639"),),
        "visibility in kilometres": (weather("visib = visib * 1.609"),),
        "rain in millimetres": (weather("precip = precip * 25.4"),),
        "humidity as a share": (weather("humid = humid / 100"),),
    },
    "columns swapped": {
        "temperature and dew point": (weather("temp = dewp, dewp = temp"),),
        "temperature and humidity": (weather("temp = humid, humid = temp"),),
        "departure and arrival hour": (flights("sched_dep_time = sched_arr_time, sched_arr_time = sched_dep_time"),),
        "origin and destination weather": (
            weather("origin = CASE origin WHEN 'JFK' THEN 'LGA' WHEN 'LGA' THEN 'JFK' ELSE origin END"),
        ),
    },
    "frozen": {
        "temperature frozen": _frozen("temp"),
        "humidity frozen": _frozen("humid"),
        "wind frozen": _frozen("wind_speed"),
        "pressure frozen": _frozen("pressure"),
        "all weather frozen": _frozen("temp", "dewp", "humid", "wind_speed", "pressure", "precip", "visib"),
    },
    "values lost": {
        "temperature missing in 30 % of the hours": (
            f"UPDATE weather SET temp = NULL WHERE is_new AND {chance(0.3, *HOUR)}",
        ),
        "temperature missing": (weather("temp = NULL"),),
        "wind missing": (weather("wind_speed = NULL"),),
        "all weather missing": ("DELETE FROM weather WHERE is_new",),
        "planes missing": (flights("tailnum = NULL"),),
    },
    "values out of range": {
        "30 % of the hours at 999 degrees": (f"UPDATE weather SET temp = 999 WHERE is_new AND {chance(0.3, *HOUR)}",),
        "5 % of the distances negative": (flights("distance = -distance", chance(0.05, *FLIGHT)),),
    },
    "rows": {
        "5 % delivered twice": (_copies(0.05, ""),),
        "30 % copied under new keys": (_copies(0.3, ", flight + 7000 AS flight"),),
        "an old delivery with new dates": (KEEP, *_stale("flights"), *_stale("weather")),
        "old flights with new dates": (KEEP, *_stale("flights")),
        "half of the rows lost": (f"DELETE FROM flights WHERE is_new AND {chance(0.5, *FLIGHT)}",),
        "three of seven days lost": (
            "DELETE FROM flights WHERE is_new AND isodow(make_date(year, month, day)) BETWEEN 2 AND 4",
        ),
        "the largest airline lost": (
            "DELETE FROM flights WHERE is_new AND carrier = (SELECT mode(carrier) FROM flights)",
        ),
        "nothing delivered": ("DELETE FROM flights WHERE is_new",),
    },
    "time": {
        "events five hours late": (flights("time_hour = time_hour + to_hours(5)"),),
        "schedule in another time zone": (
            flights(
                f"sched_dep_time = {SHIFTED.format('sched_dep_time')}, "
                f"sched_arr_time = {SHIFTED.format('sched_arr_time')}"
            ),
        ),
        "weather of half a day before": ("UPDATE weather SET time_hour = time_hour + to_hours(12) WHERE is_new",),
    },
    "categories": {
        "airlines in lower case": (flights("carrier = lower(carrier)"),),
        "airlines as numbers": (flights("carrier = (ascii(carrier) - 40)::VARCHAR"),),
        "airlines with a blank behind": (flights("carrier = carrier || ' '"),),
        "airports in another encoding": (flights("dest = 'Ã' || dest || '©'"),),
        "airport codes renumbered": (
            flights("origin = CASE origin WHEN 'EWR' THEN '1' WHEN 'JFK' THEN '2' ELSE '3' END"),
        ),
        "airlines' codes exchanged": (
            flights(
                "carrier = CASE carrier WHEN 'UA' THEN 'MQ' WHEN 'MQ' THEN 'UA' "
                "WHEN 'DL' THEN 'EV' WHEN 'EV' THEN 'DL' ELSE carrier END"
            ),
        ),
    },
}

FAULTS = [
    Fault(name, group, "history", in_sources(*statements))
    for group, several in _ALL.items()
    for name, statements in several.items()
] + [
    Fault(
        "1 % of the distances negative",
        "values out of range",
        "history",
        in_sources(flights("distance = -distance", chance(0.01, *FLIGHT)), bad=KEYS + "distance < 0"),
    ),
    Fault(
        "0.5 % delivered twice",
        "rows",
        "history",
        in_sources(_copies(0.005, ""), bad=f"SELECT {FLIGHT_ID} AS key FROM flights GROUP BY 1 HAVING count(*) > 1"),
    ),
    Fault("a column renamed", "file", "history", _rename),
    Fault("a number with its unit", "file", "history", _as_text),
    Fault("a file cut short", "file", "history", _truncated),
]
