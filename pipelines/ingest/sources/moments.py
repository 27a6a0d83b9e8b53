"""Times as moments: one without a zone is a time on the clock of the problem's own zone.

When the clock is set back, an hour comes twice: a time in it is its first occurrence. When it is set forward, an hour
is skipped: a time in it is as much later as the clock was set. So Python's `datetime` reads them too (PEP 495, fold 0).
Times are kept to the microsecond; what is finer is cut off, so that the last nanosecond of a day stays in that day.
"""

from __future__ import annotations

from pipelines.sql import literal

# A text that is a time without a zone, in the forms that DuckDB reads.
WITHOUT_ZONE = r"\d{1,6}[-/]\d{1,2}[-/]\d{1,2}([T ]\d{1,2}:\d{1,2}(:\d{1,2}(\.\d*)?)?)?"
WITH_ZONE = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ", "TIMESTAMPTZ_NS")
LOCAL = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "DATE")
EARLIEST, LATEST = "0001-01-01", "10000-01-01"  # extraction refuses what lies there: Python has no such moments
LONGEST_CHANGE_H = 48  # clocks were never set by more, nor twice within it


def is_time(kind: str) -> bool:
    """Whether a DuckDB type is one of times."""
    return kind in WITH_ZONE or kind in LOCAL


def moment(value: str, kind: str, zone: str) -> str:
    """SQL: a value of the DuckDB type `kind` as TIMESTAMPTZ; null where it is no time.

    >>> print(moment("at", "TIMESTAMP", "UTC"))
    (at AT TIME ZONE 'UTC')
    """
    if kind == "VARCHAR":
        local = of_local(f"TRY_CAST({value} AS TIMESTAMP)", zone)
        is_local = f"regexp_full_match(trim({value}), '{WITHOUT_ZONE}')"
        return f"CASE WHEN {is_local} THEN {local} ELSE TRY_CAST({value} AS TIMESTAMPTZ) END"
    if kind in LOCAL:
        return of_local(to_microseconds(value, kind), zone)
    return to_microseconds(value, kind) if kind in WITH_ZONE else f"TRY_CAST({value} AS TIMESTAMPTZ)"


def to_microseconds(value: str, kind: str) -> str:
    """SQL: a time of the DuckDB type `kind` as TIMESTAMPTZ, or as TIMESTAMP where it has no zone.

    Times that these types do not reach become EARLIEST and LATEST.
    """
    if kind in ("TIMESTAMP_NS", "TIMESTAMPTZ_NS"):  # a cast would round
        nanos = f"epoch_ns({value})"
        micros = f"make_timestamp(({nanos} - (({nanos} % 1000) + 1000) % 1000) // 1000)"
        return micros if kind == "TIMESTAMP_NS" else f"({micros} AT TIME ZONE 'UTC')"
    if kind in ("DATE", "TIMESTAMP_S", "TIMESTAMP_MS"):
        low, high = (f"CAST({literal(bound)} AS {kind})" for bound in (EARLIEST, LATEST))
        within = f"CASE WHEN {value} < {low} THEN {low} WHEN {value} > {high} THEN {high} ELSE {value} END"
        return f"CAST({within} AS TIMESTAMP)"
    return value


def of_local(local: str, zone: str) -> str:
    """SQL: what a clock in the IANA time zone `zone` shows (a TIMESTAMP) as the moment (a TIMESTAMPTZ)."""
    if zone == "UTC":
        return f"({local} AT TIME ZONE 'UTC')"
    # Of an hour that comes twice DuckDB takes the second. The offset that held before tells the first: it is one only
    # if the clock was set back since, and if it shows the same time then.
    name = literal(zone)
    second = f"({local} AT TIME ZONE {name})"
    before = f"({second} - to_hours({LONGEST_CHANGE_H}))"
    offset_before = f"(epoch_us({before} AT TIME ZONE {name}) - epoch_us({before}))"
    offset = f"(epoch_us({local}) - epoch_us({second}))"
    first = f"({second} - to_microseconds({offset_before} - {offset}))"
    is_known = f"{local} BETWEEN TIMESTAMP '{EARLIEST}' AND TIMESTAMP '{LATEST}'"
    return f"""CASE
        WHEN {is_known} AND {offset_before} > {offset} AND {first} AT TIME ZONE {name} = {local} THEN {first}
        WHEN {is_known} THEN {second}
        ELSE {local} AT TIME ZONE 'UTC' END"""
