"""Sources: files of five formats, Delta tables, databases and topics, each seen as one table under its own name.

Text (CSV, JSON Lines, SQLite) is parsed once and lands as Parquet in a folder of the run, rows that cannot be read as
declared apart from the others. Avro and PostgreSQL land there as they are streamed. Parquet and Delta are scanned where
they lie. Messages of a topic are landed in the problem's store first. Nothing is ever held in memory as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipelines import sql
from pipelines.config import Source
from pipelines.deliveries import Offered, require
from pipelines.errors import DataError
from pipelines.handoffs.ingestion import Delivery, Reach
from pipelines.ingest.sources import delivered, reach
from pipelines.ingest.sources.avro import open_avro
from pipelines.ingest.sources.columnar import lengths
from pipelines.ingest.sources.delimited import read_csv
from pipelines.ingest.sources.files import SHOWN_CHARACTERS, File, expand, files_of, place
from pipelines.ingest.sources.jsonlines import read_jsonl
from pipelines.ingest.sources.limits import READ_MEMORY_MB
from pipelines.ingest.sources.parquet import check_pages, open_delta, open_parquet
from pipelines.ingest.sources.postgres import open_postgres
from pipelines.ingest.sources.reach import Mark
from pipelines.ingest.sources.sqlite import read_sqlite
from pipelines.ingest.sources.topic import read_topic
from pipelines.ingest.sources.typed import FAULTS, ROW, TYPES, Kind, Texts, infer, land
from pipelines.ingest.sources.window import Window, window
from pipelines.problem import Problem
from pipelines.temporary import temporary_folder

BATCH_BYTES = 64 << 20  # of rows that leave DuckDB together
BATCH_ROWS = 16_384  # and at most so many: who scans what is staged reads many batches ahead


@dataclass(frozen=True)
class Count:
    """Rows of a source that a run reads, and how many of them were rejected."""

    rows: int
    rejected: int


@dataclass
class Opened:
    """Sources as a run sees them: `database` has a view for each, by name; `counts` tells their rows, `reach` how far
    those reach at the moments `asked`."""

    database: duckdb.DuckDBPyConnection
    asked: Sequence[Mark] = ()
    counts: dict[str, Count] = field(default_factory=dict)
    reach: dict[str, Reach] = field(default_factory=dict)
    landed: dict[str, str] = field(default_factory=dict)  # SQL of what has landed, rejected rows too, by source
    scanned: list[File] = field(default_factory=list)  # Parquet that is read in place
    row_bytes: int = 1  # of the texts and lists in a row of all sources, at most

    @property
    def batch_rows(self) -> int:
        """How many rows are held at once."""
        return max(1, min(BATCH_ROWS, BATCH_BYTES // self.row_bytes))

    def rejected(self) -> pa.RecordBatchReader:
        """Rows that could not be read as declared: source, row (JSON of the row as it came), rules (the reasons)."""
        nothing = "SELECT '' AS source, '' AS row, CAST([] AS VARCHAR[]) AS rules WHERE false"
        parts = [
            f"SELECT {sql.literal(name)}, {ROW}, {FAULTS} FROM {relation} WHERE len({FAULTS}) > 0"
            for name, relation in self.landed.items()
        ]
        rows = " UNION ALL ".join([nothing, *parts])
        longest = max(1, _number(self.database, f"SELECT coalesce(max(strlen(row)), 0) FROM ({rows})"))
        return self.database.sql(rows).to_arrow_reader(max(1, min(BATCH_ROWS, BATCH_BYTES // longest)))


@contextmanager
def opened(
    problem: Problem,
    first: str,
    last: str,
    deliveries: Mapping[str, Delivery] | None = None,
    asked: Sequence[Mark] = (),
) -> Iterator[Opened]:
    """The problem's sources, for the partitions `first` to `last`; of a problem of deliveries, all that have come.

    asked: moments of which it is told how far the sources reach, the oldest first.

    Of a source with a time column only the rows are read whose time lies there, or further back by its lookback and
    the labels' delay, or is missing. A time without a zone is one of the problem's time zone, which is the database's
    too.

    Raises:
        ConfigError: an environment variable, a package, a table or a bucket is not there.
        AccessError: a server refused the credentials.
        ServiceUnavailable: it does not answer.
        SchemaError: columns differ from the declared ones.
        DataError: a file is missing, empty, truncated or corrupt.
    """
    zone = problem.partitions.timezone
    with (
        temporary_folder() as folder,
        _database(zone) as database,
    ):
        sources = Opened(database, asked)
        with _blaming_files(sources):
            for name, source in problem.sources.items():
                rows = window(problem, name, source, first, last)
                if problem.partitions.by_delivery and name == problem.delivered:
                    keys = problem.partitions.between(first, last)
                    _open_deliveries(problem, keys, dict(deliveries or {}), rows, Path(folder), sources)
                else:
                    _open(problem, name, source, rows, Path(folder), sources, head=False)
            yield sources


def offered(problem: Problem) -> Offered:
    """The deliveries that the source of a problem of deliveries holds. Raises what `opened` would raise."""
    return delivered.offered(problem, lambda: _values(problem))


def _values(problem: Problem) -> list[tuple[str, str]]:
    """The values of `partitions.column`: for them all rows are read."""
    name, first = problem.delivered, problem.partitions.first_key
    source = problem.sources[name]
    with (
        temporary_folder() as folder,
        _database(problem.partitions.timezone) as database,
    ):
        sources = Opened(database)
        with _blaming_files(sources):
            _open(problem, name, source, window(problem, name, source, first, first), Path(folder), sources, head=False)
            return delivered.values_of(database, problem, name)


@contextmanager
def described(problem: Problem) -> Iterator[duckdb.DuckDBPyConnection]:
    """The same views, with their columns and types, without their rows: what is read are headers and schemas.

    Where a text format has no declared columns, types are guessed from its first rows: those of a run, which looks at
    all rows, may be wider. Raises what `opened` would raise about what was read.
    """
    first = problem.partitions.first_key
    zone = problem.partitions.timezone
    with (
        temporary_folder() as folder,
        _database(zone) as database,
    ):
        sources = Opened(database)
        with _blaming_files(sources):
            for name, source in problem.sources.items():
                rows = window(problem, name, source, first, first)
                _open(problem, name, source, rows, Path(folder), sources, head=True)
                if problem.partitions.by_delivery and name == problem.delivered:
                    whole = _aside(database, problem, first)
                    if problem.partitions.column is not None:
                        delivered.column_of(database, problem, whole.view)
                    delivered.create_view(database, problem, [whole])
            yield database


@contextmanager
def _database(zone: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database for the sources alone, which does not believe what the footers of files say of their values.

    DuckDB would leave out a check that no value fails which a file's statistics admit; in a damaged file some do.
    """
    with sql.connection({}, zone, is_private=True) as database:
        database.execute("SET disabled_optimizers = 'statistics_propagation'")
        yield database


def _open_deliveries(
    problem: Problem, keys: list[str], deliveries: dict[str, Delivery], rows: Window, folder: Path, sources: Opened
) -> None:
    """Make the view of the delivered source, with the deliveries `keys`, and note its counts."""
    name, database = problem.delivered, sources.database
    source = problem.sources[name]
    require(problem, deliveries, keys)
    match delivered.kind_of(problem):
        case "column":
            _open(problem, name, source, rows, folder, sources, head=False)
            whole = _aside(database, problem, keys[0])
            wanted = [deliveries[key] for key in keys]
            delivered.create_view_by_column(database, problem, whole.view, wanted)
        case "file" | "table":
            key = delivered.the_only(problem, keys, deliveries)
            _open(problem, name, source, rows, folder, sources, head=False)
            delivered.create_view(database, problem, [_aside(database, problem, key)])
        case "files":
            there, parts, counts, reaches, landed = delivered.files(problem), [], [], [], []
            for key in keys:
                file = there[delivered.still_there(problem, deliveries[key], [*there])]
                one_file = source.model_copy(update={"path": file.name, "format": source.kind})
                (folder / key).mkdir()
                _open(problem, name, one_file, rows, folder / key, sources, head=False)
                parts.append(_aside(database, problem, key))
                counts.append(sources.counts.pop(name))
                reaches.append(sources.reach.pop(name))
                if relation := sources.landed.pop(name, None):
                    landed.append(f"SELECT {ROW}, {FAULTS} FROM {relation}")
            delivered.create_view(database, problem, parts)
            sources.counts[name] = Count(sum(count.rows for count in counts), sum(count.rejected for count in counts))
            sources.reach[name] = reach.together(reaches)
            if landed:
                sources.landed[name] = f"({' UNION ALL '.join(landed)})"


def _aside(database: duckdb.DuckDBPyConnection, problem: Problem, key: str) -> delivered.Part:
    """The source's view under another name, so that one with the rows' deliveries can have its own."""
    name = problem.delivered
    delivered.check_names(database, problem, name)
    part = delivered.Part(f"{name} {key}", key)
    database.execute(f"ALTER VIEW {sql.quote(name)} RENAME TO {sql.quote(part.view)}")
    return part


def _open(
    problem: Problem, name: str, source: Source, rows: Window, folder: Path, sources: Opened, *, head: bool
) -> None:
    """Make the view of one source, and note its counts."""
    where = place(problem, name)
    with _within_memory(sources.database, f"{source.path} ({where})" if source.path else where):
        _make_view(problem, name, source, rows, folder, sources, head=head)
        if not head and source.kind not in ("parquet", "delta"):  # what lies elsewhere is not read twice
            lengths_of = lengths(sources.database, sql.quote(name))
            sources.row_bytes += sum(length.longest for length in lengths_of.values())


@contextmanager
def _within_memory(database: duckdb.DuckDBPyConnection, where: str) -> Iterator[None]:
    """Let queries take READ_MEMORY_MB; one that needs more fails by the source's name, and so does one that cannot run.

    What the problem's own SQL takes is decided by who wrote it.
    """
    is_set = bool(os.environ.get("EVERGREEN_DUCKDB_MEMORY"))
    usual = str(database.execute("SELECT current_setting('memory_limit')").fetchall()[0][0])
    limit = usual if is_set else f"{READ_MEMORY_MB}MB"
    try:
        database.execute(f"SET memory_limit = {sql.literal(limit)}")
        yield
    except (MemoryError, duckdb.OutOfMemoryException) as error:
        raise DataError(
            f"its rows take more memory than reading them may ({limit})",
            where=where,
            cure="copy its files again from where they come; if they are whole, write smaller rows, or let reading "
            "take more: EVERGREEN_DUCKDB_MEMORY=2GB",
        ) from error
    except duckdb.Error as error:
        raise DataError(
            f"not readable: {str(error).splitlines()[0][:SHOWN_CHARACTERS]}",
            where=where,
            cure="look whether its files are whole, and copy them again from where they come",
        ) from error
    finally:
        database.execute(f"SET memory_limit = {sql.literal(usual)}")


def _make_view(
    problem: Problem, name: str, source: Source, rows: Window, folder: Path, sources: Opened, *, head: bool
) -> None:
    database, path = sources.database, folder / f"{name}.parquet"
    texts: Texts | None = None
    count: int | None = None
    files: list[File] = []
    footers: Sequence[Any] = ()
    if source.kind in ("csv", "jsonl", "parquet", "avro"):
        files = files_of(problem, name, source)
    came = None if source.package else reach.arrived(files)
    match source.kind:
        case "csv":
            texts = read_csv(problem, name, source, files, str(path), head=head)
        case "jsonl":
            texts = read_jsonl(database, name, source, files, str(path), head=head)
        case "parquet":
            sources.scanned += files
            count, row_bytes, footers = open_parquet(database, name, source, files, rows, folder, head=head)
            sources.row_bytes += row_bytes
        case "delta":
            count, files, footers = open_delta(database, problem, name, source, rows, head=head)
            sources.scanned += files
        case "avro":
            open_avro(database, name, source, files, rows, folder, head=head)
        case "topic":
            texts, came = read_topic(database, problem, name, source, rows, str(path), head=head)
        case _ if expand(source.database or "", place(problem, name)).startswith("sqlite:"):
            texts = read_sqlite(problem, name, source, rows, str(path), head=head)
        case _:
            sources.landed[name] = open_postgres(database, problem, name, source, rows, path, head=head)
    if texts is not None:
        sources.landed[name] = _land(database, name, source, texts, rows, path)
    if not head:
        if count is None:
            count, told = reach.read(database, name, source, rows.zone, sources.asked)
        else:
            told = reach.from_footers(source, footers, rows.zone, sources.asked)
        sources.counts[name] = _count(sources, name, count)
        sources.reach[name] = told._replace(arrived=came)


def _land(
    database: duckdb.DuckDBPyConnection, name: str, source: Source, texts: Texts, rows: Window, path: Path
) -> str:
    types: dict[str, Kind] = {**source.columns} if source.columns else infer(database, texts)
    within = "true"
    if rows.column is not None:
        rows.check_name(texts.names)
        within = rows.condition(TYPES[types[rows.column]])
    landed = land(database, texts, types, within, rows.zone, str(path.with_suffix(".typed.parquet")))
    path.unlink()
    database.execute(
        f"CREATE TEMP VIEW {sql.quote(name)} AS SELECT * EXCLUDE ({FAULTS}, {ROW}) FROM {landed} WHERE {FAULTS} IS NULL"
    )
    return landed


def _count(sources: Opened, name: str, served: int) -> Count:
    rejected = 0
    if name in sources.landed:
        counted = f"SELECT count(*) FROM {sources.landed[name]} WHERE len({FAULTS}) > 0"
        rejected = _number(sources.database, counted)
    return Count(served + rejected, rejected)


def _number(database: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(database.execute(query).fetchall()[0][0])


@contextmanager
def _blaming_files(sources: Opened) -> Iterator[None]:
    """Where a scan fails, look first whether a file that it reads is corrupt: the error then names that file."""
    try:
        yield
    except Exception as error:
        if _is_about_reading(error):
            check_pages(sources.scanned)
        raise


def _is_about_reading(error: BaseException | None) -> bool:
    """Whether DuckDB or Arrow stand behind an error: then it may be a file's fault, whatever it says."""
    while error is not None:
        if isinstance(error, (duckdb.Error, pa.ArrowException, OSError)):
            return True
        error = error.__cause__ or error.__context__
    return False
