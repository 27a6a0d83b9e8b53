"""A table's rows with types: what its texts stand for, and what stands for a missing value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import duckdb

from pipelines import sql
from pipelines.config import SourceType
from pipelines.ingest.sources import opened
from pipelines.ingest.sources.typed import DAY, LOCAL_TIME, TIME, Texts, infer, typed
from pipelines.ingest.sources.typed import Kind as TextKind
from pipelines.propose import words
from pipelines.propose.origin import Origin, identifiers

T = TypeVar("T")
Kind = Literal["string", "integer", "float", "boolean", "time", "list", "other"]
Clock = Literal["", "date", "local", "zoned"]
"""Of a time: a day, what a clock shows, or a moment."""

ROWS = "rows"
TOGETHER = 32  # columns in one query
BLANK = ("", "NA")
# Texts that mean missing: the first wherever they stand, the others where all other values are numbers or times.
MISSING = ("N/A", "n/a", "#N/A", "NULL", "null", "NaN", "nan", "<NA>", "\\N")
MISSING_AMONG_NUMBERS = ("None", "none", "-", "--", "?", ".", "missing", "unknown", "Unknown", "nil", "n.a.", "inf")
# Texts of a source that has types of its own: whole numbers among them are codes.
CASTS: dict[TextKind, str] = {"date": "DATE", "local": "TIMESTAMP", "timestamp": "TIMESTAMPTZ", "float": "DOUBLE"}
SINCE_1970 = {1: "seconds", 1_000: "milliseconds", 1_000_000: "microseconds"}
EXCEL = (32_874, 54_788)  # days since 1899-12-30: 1990 to 2049
SENTINELS = (-99, -999, -9999, -99999, -999999)
MOST_EXACT = 2**53  # beyond it not every whole number is one of 64 bits
READABLE = 0.98  # share of a column's texts that make it one of numbers: the others are set aside
HEAD = 1000  # first rows: a format that fits these is tried on all
FEW = 50  # first texts: more than may be set aside in the head, so a format that fits none of them does not fit it
NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
CODE = r"0\d+"  # 007 is no number
MONEY = r"[+-]?[$€£]?\s?[+-]?\d{1,3}([, ']?\d{3})*(\.\d+)?\s?[%$€£]?"
QUARTER = r"\d{4}[-/ ]?[Qq][1-4]|[Qq][1-4][-/ ]?\d{4}"
COMMA = r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?"  # 1.234,56
DAYS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y-%m-%d"),
    *("%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%d-%m-%y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y"),
    *("%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%a, %d %b %Y", "%a %d %b %Y", "%A, %B %d, %Y"),
)
OTHER_TIMES = ("%a %b %d %H:%M:%S %Y", "%Y%m%d%H%M%S", "%Y%m%d %H:%M:%S", "%Y%m%dT%H%M%S")
MONTHS = ("%Y-%m", "%Y/%m", "%m/%Y", "%b %Y", "%B %Y", "%b-%Y", "%b-%y", "%YM%m")
CLOCKS = ("", " %H:%M", " %H:%M:%S", "T%H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")


@dataclass(frozen=True)
class Column:
    """One column of the table as events would have it."""

    name: str
    """in events"""
    source: str
    expression: str
    """SQL over the source, whose columns have their declared types"""
    kind: Kind
    declared: SourceType | None
    """in the source; None: it has no type that a source can declare"""
    clock: Clock = ""
    note: str = ""
    unread: int = 0
    """values that are none of its kind, and null in the rows"""
    given: str = ""
    """SQL over the source that is null where there is no value, readable or not; empty: as `expression`"""


@dataclass(frozen=True)
class Table:
    """The rows of an origin, as the table ROWS of a database, under the names of events."""

    database: duckdb.DuckDBPyConnection
    origin: Origin
    columns: list[Column]
    count: int
    offsets: dict[str, dict[str, str]]
    """Of each column of moments: as written -> its offset from UTC, one for each offset and month."""

    def column(self, name: str) -> Column | None:
        """By its name in events or in the source, in capitals or not."""
        by_name = {column.name: column for column in self.columns}
        by_source = {column.source.lower(): column for column in self.columns}
        exactly = next((column for column in self.columns if column.source == name), None)
        return exactly or by_source.get(name.lower()) or by_name.get(name.lower())


@contextmanager
def read(origin: Origin, folder: Path) -> Iterator[Table]:
    """The table, read once; `folder` is the problem's.

    Raises:
        EvergreenError: as an ingest would, of what cannot be read.
    """
    texts = dict.fromkeys(origin.names, "string") or None
    problem = origin.problem(folder, texts)
    first = problem.partitions.first_key
    with opened(problem, first, first) as sources:
        database, relation = sources.database, sql.quote(origin.name)
        if texts:
            columns, origin, values = _of_texts(database, relation, origin)
        else:
            columns, values = _of_values(database, relation)
        selected = ", ".join(f"{values[c.source]} AS {sql.quote(c.name)}" for c in columns)
        database.execute(f"CREATE TEMP TABLE {ROWS} AS SELECT {selected} FROM {relation}")
        (count,) = database.execute(f"SELECT count(*) FROM {ROWS}").fetchall()[0]
        offsets = {c.name: _offsets(database, relation, c.source) for c in columns if texts and c.clock == "zoned"}
        columns = _without_sentinels(database, _with_times(database, columns))
        yield Table(database, origin, columns, int(count), offsets)


def _of_texts(
    database: duckdb.DuckDBPyConnection, relation: str, origin: Origin
) -> tuple[list[Column], Origin, dict[str, str]]:
    """Columns of a CSV, all of whose values are texts; the origin with what stands for missing; SQL of the values."""
    names, nulls = origin.names, (*BLANK, *MISSING)

    found = _kinds(database, relation, names, nulls)
    strings = [name for name, kind in found.items() if kind == "string"]
    wider = (*nulls, *MISSING_AMONG_NUMBERS)
    narrowed = {name: kind for name, kind in _kinds(database, relation, strings, wider).items() if kind != "string"}
    writings = _writings(database, relation, [name for name in strings if name not in narrowed], wider)
    used = _used(database, relation, [*narrowed, *writings], MISSING_AMONG_NUMBERS)
    used = [*_used(database, relation, names, MISSING), *used]
    shown = {name: _without(sql.quote(name), [*BLANK, *used]) for name in names}
    alias = identifiers(names)
    columns, values = [], {}
    for name in names:
        kind = narrowed.get(name, found[name])
        column = _typed_column(name, alias[name], kind)
        values[name] = typed(f"trim({shown[name]})" if kind != "string" else shown[name], kind, "UTC")
        if kind == "string" and name in writings:
            writing = writings[name]
            expression = writing.sql(sql.quote(name)) if writing.is_converted else sql.quote(name)
            column = replace(column, expression=expression, kind=writing.kind, clock=writing.clock, note=writing.note)
            column = replace(column, unread=writing.unread, given=sql.quote(name))
            if not writing.is_converted:
                column = replace(column, declared="float" if writing.kind == "float" else "timestamp")
            values[name] = writing.sql(shown[name])
        columns.append(column)
    settings = dict(origin.settings) | ({"nulls": [*BLANK, *used]} if used else {})
    return columns, replace(origin, settings=settings), values


def _kinds(
    database: duckdb.DuckDBPyConnection, relation: str, names: Sequence[str], missing: Sequence[str]
) -> dict[str, TextKind]:
    """The narrowest kind of each column of texts."""

    def query(columns: Sequence[int], _: bool) -> str:
        cells = ", ".join(f"{sql.quote(names[i])} AS c{i}" for i in columns)
        return f"SELECT {cells}, NULL AS unreadable FROM {relation}"

    return infer(database, Texts(list(names), query, missing)) if names else {}


def _typed_column(source: str, name: str, kind: TextKind) -> Column:
    match kind:
        case "timestamp":
            return Column(name, source, sql.quote(source), "time", "timestamp", "zoned")
        case "date" | "local":
            return Column(name, source, sql.quote(source), "time", "timestamp", kind)
        case "list<float>":
            return Column(name, source, sql.quote(source), "other", None)
        case _:
            return Column(name, source, sql.quote(source), kind, kind)


def _without(column: str, missing: Sequence[str]) -> str:
    return f"CASE WHEN trim({column}) NOT IN ({', '.join(map(sql.literal, missing))}) THEN {column} END"


def _used(database: duckdb.DuckDBPyConnection, relation: str, names: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Which of the texts stand in one of the columns."""
    used: set[str] = set()
    among = ", ".join(map(sql.literal, texts))
    for chunk in in_chunks(names):
        lists = (f"list(DISTINCT {name}) FILTER ({name} IN ({among}))" for name in map(sql.quote, chunk))
        row = database.execute(f"SELECT {', '.join(lists)} FROM {relation}").fetchall()[0]
        used.update(str(text) for found in row for text in found or ())
    return [text for text in texts if text in used]


@dataclass(frozen=True)
class _Writing:
    """How texts are written that are numbers or times, though not as a source would take them by itself."""

    kind: Kind
    sql: Callable[[str], str]
    clock: Clock = ""
    note: str = ""
    is_converted: bool = True
    """in events.sql; else the source reads them, once the type is declared"""
    unread: int = 0
    """texts that are none, and are set aside"""


def _writings(
    database: duckdb.DuckDBPyConnection, relation: str, names: Sequence[str], missing: Sequence[str]
) -> dict[str, _Writing]:
    """Of columns of texts those that are numbers or times in another writing."""
    writings: dict[str, _Writing] = {}
    patterns = (NUMBER, CODE, MONEY, COMMA)
    for chunk in in_chunks(names):
        counts = []
        for name in chunk:
            value = f"trim({_without(sql.quote(name), missing)})"
            matches = ", ".join(f"count_if(regexp_full_match({value}, {sql.literal(p)}))" for p in patterns)
            counts.append(f"[count({value}), count(DISTINCT {value}), {matches}, {', '.join(_iso_counts(value))}]")
        row = database.execute(f"SELECT {', '.join(counts)} FROM {relation}").fetchall()[0]
        for name, (values, distinct, numbers, codes, money, comma, *iso) in zip(chunk, row, strict=True):
            if not values:
                continue
            if codes:
                numbers = money = comma = 0
            if numbers >= READABLE * values and (numbers == values or distinct >= 20):
                note = f"{values - numbers:,} that are no numbers are set aside" if numbers < values else ""
                writings[name] = _Writing(
                    "float", lambda v: f"TRY_CAST(trim({v}) AS DOUBLE)", "", note, False, values - numbers
                )
            elif money == values:
                writings[name] = _Writing("float", _plain_number, "", "a number without its signs")
            elif comma == values:
                writings[name] = _Writing("float", _decimal_comma, "", "1.234,5 is read as 1234.5")
            elif max(iso) >= READABLE * values:
                writings[name] = _iso(values, *iso)
            elif time := _time_format(database, relation, name, missing) or _period(database, relation, name, missing):
                writings[name] = time
    return writings


def _iso_counts(value: str) -> tuple[str, str, str]:
    """SQL: of how many texts a source makes days, times without a zone (days too), and times of any kind."""
    return (
        f"count_if(regexp_full_match({value}, '{DAY}') AND TRY_CAST({value} AS DATE) IS NOT NULL)",
        f"count_if(regexp_full_match({value}, '{LOCAL_TIME}') AND TRY_CAST({value} AS TIMESTAMP) IS NOT NULL)",
        f"count_if(regexp_full_match({value}, '{TIME}') AND TRY_CAST({value} AS TIMESTAMPTZ) IS NOT NULL)",
    )


def _iso(values: int, days: int, locals_: int, times: int) -> _Writing:
    """Of times as a source reads them by itself, some of which are none: the kind that all the others are of."""
    clock: Clock = "date" if days == times else "local" if locals_ == times else "zoned"
    as_type = {"date": "DATE", "local": "TIMESTAMP", "zoned": "TIMESTAMPTZ"}[clock]
    note = f"look: {values - times:,} that are no times are set aside"
    return _Writing("time", lambda v: f"TRY_CAST(trim({v}) AS {as_type})", clock, note, False, values - times)


def _plain_number(value: str) -> str:
    return f"TRY_CAST(regexp_replace({value}, '[^0-9.+-]', '', 'g') AS DOUBLE)"


def _decimal_comma(value: str) -> str:
    return f"TRY_CAST(replace(replace(trim({value}), '.', ''), ',', '.') AS DOUBLE)"


def _time_format(
    database: duckdb.DuckDBPyConnection, relation: str, name: str, missing: Sequence[str]
) -> _Writing | None:
    """The format in which all texts of a column are times; of day and month in doubt, the one that goes on in order."""
    value = f"trim({_without(sql.quote(name), missing)})"
    head = f"(SELECT * FROM {relation} LIMIT {HEAD})"
    digit = database.execute(
        f"SELECT bool_and(regexp_matches({value}, '\\d') AND length({value}) BETWEEN 6 AND 35) FROM {head}"
    ).fetchall()[0][0]
    if not digit:
        return None

    def counted(formats: Sequence[str], rows: str) -> tuple[int, ...]:
        tried = "".join(f", count({_parsed(value, f)})" for f in formats)
        return tuple(database.execute(f"SELECT count({value}){tried} FROM {rows}").fetchall()[0])

    every = [*(day + clock for day in DAYS for clock in CLOCKS), *OTHER_TIMES, *MONTHS]
    few = f"(SELECT * FROM {head} WHERE {value} IS NOT NULL LIMIT {FEW})"
    there = {sign for (text,) in database.execute(f"SELECT {value} FROM {few}").fetchall() for sign in text}
    # To plan a query of them all takes far longer than to parse the few texts.
    possible = [f for f in every if set(re.sub("%.", "", f).replace(" ", "")) <= there]
    _, *fitting = counted(possible, few)
    formats = [f for f, count in zip(possible, fitting, strict=True) if count]
    values, *fitting = counted(formats, head)
    likely = [f for f, count in zip(formats, fitting, strict=True) if count >= READABLE * values]
    fits = []
    for format_ in likely:
        parsed = _parsed(value, format_)
        row = database.execute(
            f"WITH parsed AS (SELECT {value} AS text, {parsed} AS moment FROM {relation}), "
            "beside AS (SELECT text, moment, lag(moment) OVER () AS before FROM parsed) "
            "SELECT count(text), count(moment), coalesce(avg((moment >= before)::INT), 0) FROM beside"
        ).fetchall()[0]
        if row[1] >= READABLE * row[0]:
            fits.append((row[1], row[2], format_, row[0] - row[1]))
    if not fits:
        return None
    read, _, best, unread = max(fits, key=lambda fit: fit[:2])
    fits = [fit for fit in fits if fit[0] == read]
    doubt = f"; {len(fits)} ways to read it fit, look at day and month" if len({fit[2][:5] for fit in fits}) > 1 else ""
    has_clock = "%H" in best or "%I" in best
    as_type = "" if has_clock else "::DATE"
    return _Writing(
        "time",
        lambda v: f"{'try_' if unread else ''}strptime(trim({v}), {sql.literal(best)}){as_type}",
        "local" if has_clock else "date",
        f"written as {best}{doubt}" + (f"; look: {unread:,} that are none are set aside" if unread else ""),
    )


def _parsed(value: str, format_: str) -> str:
    """SQL of a text as a time, null where it is none; where four digits are asked for, DuckDB takes 24 for a year."""
    parsed = f"try_strptime({value}, {sql.literal(format_)})"
    return f"CASE WHEN regexp_matches({value}, '\\d{{4}}') THEN {parsed} END" if "%Y" in format_ else parsed


def _period(database: duckdb.DuckDBPyConnection, relation: str, name: str, missing: Sequence[str]) -> _Writing | None:
    """Quarters (2024Q1, Q1 2024) and weeks (2024-W05), each as its first day."""
    value = f"trim({_without(sql.quote(name), missing)})"
    quarters, weeks, count = database.execute(
        f"SELECT count_if(regexp_full_match({value}, {sql.literal(QUARTER)})), "
        f"count_if(regexp_full_match({value}, '\\d{{4}}-?W\\d\\d')), count({value}) FROM {relation}"
    ).fetchall()[0]
    if quarters == count:

        def first_of_quarter(v: str) -> str:
            year, quarter = f"regexp_extract({v}, '\\d{{4}}')", f"regexp_extract({v}, '[Qq]\\s?([1-4])', 1)"
            return f"make_date(CAST({year} AS BIGINT), 3 * CAST({quarter} AS BIGINT) - 2, 1)"

        return _Writing("time", first_of_quarter, "date", "quarters")
    if weeks == count:
        return _Writing(
            "time",
            lambda v: f"strptime(replace(trim({v}), '-', '') || '1', '%GW%V%u')::DATE",
            "date",
            "weeks, of which the first day is taken",
        )
    return None


def _of_values(database: duckdb.DuckDBPyConnection, relation: str) -> tuple[list[Column], dict[str, str]]:
    """Columns of a source with types of its own."""
    described = [(str(row[0]), str(row[1])) for row in database.execute(f"DESCRIBE {relation}").fetchall()]
    alias = identifiers([name for name, _ in described])
    columns = [_valued_column(name, alias[name], kind) for name, kind in described]
    columns = [_fit(database, relation, column, type_) for column, (_, type_) in zip(columns, described, strict=True)]
    strings = [column.source for column in columns if column.kind == "string"]
    missing = _used(database, relation, strings, (*MISSING, ""))
    wider = (*missing, *BLANK, *MISSING, *MISSING_AMONG_NUMBERS)
    cast = {name: kind for name, kind in _kinds(database, relation, strings, wider).items() if kind in CASTS}
    writings = _writings(database, relation, [name for name in strings if name not in cast], wider)
    for place, column in enumerate(columns):
        writing = writings.get(column.source)
        if (kind := cast.get(column.source)) is not None:
            made = _typed_column(column.source, column.name, kind)
            text = f"trim({_without(column.expression, wider)})"
            columns[place] = replace(
                made, expression=f"CAST({text} AS {CASTS[kind]})", declared="string", note="written as text"
            )
        elif writing is not None and (writing.kind == "time" or not writing.unread):
            given = _without(column.expression, [*missing, *MISSING_AMONG_NUMBERS])
            columns[place] = replace(
                column,
                expression=writing.sql(given),
                unread=writing.unread,
                given=given,
                kind=writing.kind,
                clock=writing.clock,
                note=writing.note,
            )
        elif column.kind == "string" and missing and _used(database, relation, [column.source], missing):
            columns[place] = replace(
                column,
                expression=_without(column.expression, missing),
                note=f"{', '.join(map(repr, missing))}: missing",
            )
    values = {column.source: column.expression for column in columns}
    return columns, values


def _valued_column(source: str, name: str, kind: str) -> Column:
    quoted = sql.quote(source)
    if kind.startswith("DATE"):
        return Column(name, source, quoted, "time", "timestamp", "date")
    if kind.startswith("TIMESTAMP"):
        is_zoned = "TIME ZONE" in kind or kind.startswith("TIMESTAMPTZ")
        return Column(name, source, quoted, "time", "timestamp", "zoned" if is_zoned else "local")
    if re.match(r"(FLOAT|DOUBLE)\[\d*\]$", kind):
        return Column(name, source, quoted, "list", "list<float>")
    if kind.startswith(("DECIMAL", "DOUBLE", "FLOAT", "REAL")):
        return Column(name, source, quoted, "float", "float")
    if re.fullmatch(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?", kind):
        return Column(name, source, quoted, "integer", "integer")
    if kind == "BOOLEAN":
        return Column(name, source, quoted, "boolean", "boolean")
    if kind == "VARCHAR" or kind.startswith("ENUM"):
        return Column(name, source, quoted, "string", "string")
    if kind == "UUID":
        return Column(name, source, f"CAST({quoted} AS VARCHAR)", "string", "string")
    return Column(name, source, quoted, "other", None, note=f"of type {kind.lower()}")


def _fit(database: duckdb.DuckDBPyConnection, relation: str, column: Column, type_: str) -> Column:
    """A column of numbers without those that a source or a feature cannot be: not finite, or too large to be exact."""
    if type_ in ("UBIGINT", "HUGEINT", "UHUGEINT"):
        (high,) = database.execute(f"SELECT max({column.expression}) FROM {relation}").fetchall()[0]
        if high is not None and high > MOST_EXACT:
            return replace(column, kind="other", declared=None, note=f"of type {type_.lower()}")
    elif type_ in ("DOUBLE", "FLOAT"):
        finite = f"isfinite({column.expression})"
        (endless,) = database.execute(f"SELECT count_if(NOT {finite}) FROM {relation}").fetchall()[0]
        if endless:
            shown = f"CASE WHEN {finite} THEN {column.expression} END"
            return replace(column, expression=shown, note=f"{endless:,} that are not finite are missing")
    return column


def _with_times(database: duckdb.DuckDBPyConnection, columns: Sequence[Column]) -> list[Column]:
    """Numbers that are times, by their name and their size."""
    kept = list(columns)
    for place, column in enumerate(columns):
        if column.kind not in ("integer", "float") or not words.of(column.name) & (words.TIMES | words.MONTHS):
            continue
        counted = _counted_time(database, column)
        if counted is None:
            continue
        name = sql.quote(column.name)
        kind = {"zoned": "TIMESTAMPTZ", "local": "TIMESTAMP", "date": "DATE"}[counted.clock]
        database.execute(f"ALTER TABLE {ROWS} ALTER COLUMN {name} TYPE {kind} USING {counted.sql(name)}")
        kept[place] = replace(
            column, expression=counted.sql(column.expression), kind="time", clock=counted.clock, note=counted.note
        )
    return kept


def _counted_time(database: duckdb.DuckDBPyConnection, column: Column) -> _Writing | None:
    """Seconds since 1970 and the like, days as 20240131, months as 202401, days as spreadsheets count them."""
    name, hints = sql.quote(column.name), words.of(column.name)
    low, high = database.execute(f"SELECT min({name}), max({name}) FROM {ROWS}").fetchall()[0]
    if low is None:
        return None
    is_time = bool(hints & words.TIMES)
    unit = next((unit for unit in SINCE_1970 if 6e8 * unit <= low and high <= 4.1e9 * unit), None)
    if is_time and unit is not None:
        return _Writing("time", lambda v: f"to_timestamp({v} / {unit})", "zoned", f"{SINCE_1970[unit]} since 1970")
    for format_, first, last, example in (
        ("%Y%m%d%H%M%S", 19_000_101_000_000, 21_001_231_235_959, "written as 20240131235959"),
        ("%Y%m%d", 19_000_101, 21_001_231, "days, written as 20240131"),
        ("%Y%m", 190_001, 210_012, "months, written as 202401"),
    ):
        if column.kind != "integer" or low < first or high > last or (format_ != "%Y%m" and not is_time):
            continue
        parsed = f"count(try_strptime(CAST({name} AS VARCHAR), '{format_}'))"
        if database.execute(f"SELECT count({name}) = {parsed} FROM {ROWS}").fetchall()[0][0]:
            return _Writing("time", partial(_of_digits, format_), "local" if "%H" in format_ else "date", example)
    if hints & words.DATES and EXCEL[0] <= low and high <= EXCEL[1]:
        if column.kind == "integer":
            return _Writing("time", "DATE '1899-12-30' + CAST({} AS INTEGER)".format, "date", "look: days since 1900")
        clock = "TIMESTAMP '1899-12-30' + to_seconds(CAST(round({} * 86400) AS BIGINT))"
        return _Writing("time", clock.format, "local", "look: days since 1900")
    return None


def _of_digits(format_: str, value: str) -> str:
    return f"strptime(CAST({value} AS VARCHAR), '{format_}'){'' if '%H' in format_ else '::DATE'}"


def _without_sentinels(database: duckdb.DuckDBPyConnection, columns: Sequence[Column]) -> list[Column]:
    """Numbers below all others that stand for a missing value, such as -999, taken out of the rows."""
    kept = list(columns)
    numbers = [(place, c) for place, c in enumerate(columns) if c.kind in ("integer", "float")]
    for chunk in in_chunks(numbers):
        among = ", ".join(map(str, SENTINELS))
        measured = ", ".join(
            f"[min({q})::DOUBLE, (min({q}) FILTER ({q} NOT IN ({among})))::DOUBLE]"
            for q in (sql.quote(c.name) for _, c in chunk)
        )
        row = database.execute(f"SELECT {measured} FROM {ROWS}").fetchall()[0]
        for (place, column), (low, next_low) in zip(chunk, row, strict=True):
            if low in SENTINELS and next_low is not None and next_low >= 0:
                kept[place] = replace(
                    column, expression=f"nullif({column.expression}, {int(low)})", note=f"{int(low)} stands for missing"
                )
                database.execute(
                    f"UPDATE {ROWS} SET {sql.quote(column.name)} = NULL WHERE {sql.quote(column.name)} = {low}"
                )
    return kept


def _offsets(database: duckdb.DuckDBPyConnection, relation: str, name: str) -> dict[str, str]:
    """A moment of each month and offset, as it is written, with that offset."""
    value = f"trim({sql.quote(name)})"
    offset = f"regexp_extract({value}, '(Z|[+-]\\d\\d(:?\\d\\d)?)$', 1)"
    rows = database.execute(
        f"SELECT any_value({value}), o FROM (SELECT *, {offset} AS o FROM {relation}) "
        f"WHERE o <> '' AND TRY_CAST({value} AS TIMESTAMPTZ) IS NOT NULL GROUP BY o, left({value}, 7) LIMIT 2000"
    ).fetchall()
    return {str(text): str(given) for text, given in rows}


def in_chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many as one query takes."""
    for start in range(0, len(items), TOGETHER):
        yield items[start : start + TOGETHER]
