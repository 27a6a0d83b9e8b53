"""The source of a problem of deliveries: what it holds of each, and its rows with the delivery that they came with.

Which of three kinds it is follows from how it is declared:

- a folder or a glob: each file is a delivery, by its name below the folder; numbers in names count as numbers;
- `partitions.column`: each value of that column is one, in the values' order;
- one file, or a table: what it holds is one. A file with other content is the next.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC
from functools import cache, partial
from typing import Literal, NamedTuple

import duckdb

from pipelines import sql
from pipelines.config import DELIVERED
from pipelines.deliveries import Offer, Offered
from pipelines.errors import ConfigError, DataError, SchemaError
from pipelines.handoffs.ingestion import Delivery
from pipelines.ingest.sources.files import BLOCK_BYTES, File, expand, files_of, locate, place, reading
from pipelines.problem import Problem

Kind = Literal["files", "column", "file", "table"]
Values = Callable[[], list[tuple[str, str]]]


class Part(NamedTuple):
    """A view that holds the rows of one delivery."""

    view: str
    key: str


def kind_of(problem: Problem) -> Kind:
    """What a delivery is: a file, a value of a column, what the one file holds, or the table."""
    if problem.partitions.column is not None:
        return "column"
    source = problem.sources[problem.delivered]
    if source.kind in ("delta", "database"):
        return "table"
    return "file" if source.path is None or _folder(problem, source.path) is None else "files"


def offered(problem: Problem, values: Values) -> Offered:
    """What the source holds, in the order in which it would be numbered.

    values: gives the values of `partitions.column`, each with a hash of its rows; asked only where there is one.
    """
    kind, name = kind_of(problem), problem.delivered
    match kind:
        case "column":
            offers = [Offer(value, content, partial(str, content)) for value, content in values()]
        case "table":
            offers = [Offer(name, "", lambda: "")]
        case "file":
            (file,) = files_of(problem, name, problem.sources[name])
            offers = [_offer(file, file.path.rpartition("/")[2])]
        case "files":
            offers = [_offer(file, name) for name, file in files(problem).items()]
    return Offered(sorted(offers, key=lambda offer: order(offer.name)), kind in ("file", "table"))


def files(problem: Problem) -> dict[str, File]:
    """The files of a folder, by what each delivery is called: its path below the folder."""
    name = problem.delivered
    source = problem.sources[name]
    folder = _folder(problem, source.path or "")
    assert folder is not None
    return {file.path[len(folder) + 1 :]: file for file in files_of(problem, name, source)}


def still_there(problem: Problem, delivery: Delivery, there: Sequence[str]) -> str:
    """The delivery's name; `there` are those that the source holds.

    Raises:
        DataError: it is none of them.
    """
    if delivery.name in there:
        return delivery.name
    raise DataError(
        f"the delivery {delivery.key} ({delivery.name}) is not there any more",
        where=place(problem, problem.delivered),
        cure="put it there again; what was ingested of it stays as it is",
    )


def the_only(problem: Problem, keys: Sequence[str], deliveries: dict[str, Delivery]) -> str:
    """The key of the delivery that a source holds which has one at a time: the newest.

    Raises:
        DataError: another one is asked for.
    """
    newest = max(deliveries)
    if [*keys] != [newest]:
        older = next(key for key in keys if key != newest)
        raise DataError(
            f"the delivery {older} is not there any more: {newest}, which came later, stands in its place",
            where=place(problem, problem.delivered),
            cure=f"ingest {newest}; if deliveries are to be read again, let each be a file of its own, in a folder",
        )
    return newest


def create_view(database: duckdb.DuckDBPyConnection, problem: Problem, parts: Sequence[Part]) -> None:
    """The source's view: the rows of all parts, each with the moment of its delivery; that is null where the columns
    alone are looked at."""
    selected = " UNION ALL BY NAME ".join(
        f"SELECT *, {_moment(problem, part.key)} AS {DELIVERED} FROM {sql.quote(part.view)}" for part in parts
    )
    database.execute(f"CREATE TEMP VIEW {sql.quote(problem.delivered)} AS {selected}")


def create_view_by_column(
    database: duckdb.DuckDBPyConnection, problem: Problem, view: str, deliveries: Sequence[Delivery]
) -> None:
    """As `create_view`, where a column says which delivery a row came with. A row without one belongs to none."""
    column = sql.quote(column_of(database, problem, view))
    wanted = ", ".join(f"({sql.literal(delivery.name)}, {_moment(problem, delivery.key)})" for delivery in deliveries)
    # A table that is empty, or joins nothing, has columns and types all the same.
    rows = f"(VALUES (NULL::VARCHAR, NULL::TIMESTAMPTZ){', ' + wanted if wanted else ''}) AS wanted(name, came)"
    database.execute(f"""
        CREATE TEMP VIEW {sql.quote(problem.delivered)} AS
        SELECT rows.*, wanted.came AS {DELIVERED} FROM {sql.quote(view)} AS rows
        LEFT JOIN {rows} ON wanted.name = rows.{column}::VARCHAR
        WHERE wanted.name IS NOT NULL OR rows.{column} IS NULL
    """)


def column_of(database: duckdb.DuckDBPyConnection, problem: Problem, view: str) -> str:
    """`partitions.column`, where the source has it.

    Raises:
        SchemaError: it has not.
    """
    names = [str(row[0]) for row in database.sql(f"DESCRIBE {sql.quote(view)}").fetchall()]
    if (column := problem.partitions.column) not in names:
        raise SchemaError(
            f"partitions.column: there is no column {column!r}",
            where=place(problem, problem.delivered),
            cure=f"name one of {', '.join(names)}",
        )
    return str(column)


def values_of(database: duckdb.DuckDBPyConnection, problem: Problem, view: str) -> list[tuple[str, str]]:
    """The values of `partitions.column`, each with a hash of its rows, whatever their order."""
    column = sql.quote(column_of(database, problem, view))
    groups: list[tuple[str, str]] = database.sql(
        f"""SELECT {column}::VARCHAR, concat(count(*), ' rows, ', sum(md5_number_lower(rows::VARCHAR)::HUGEINT))
            FROM {sql.quote(view)} AS rows WHERE {column} IS NOT NULL GROUP BY 1"""
    ).fetchall()
    return groups


def check_names(database: duckdb.DuckDBPyConnection, problem: Problem, view: str) -> None:
    """Raises ConfigError where the source has a column of the name that Evergreen gives."""
    if DELIVERED in [str(row[0]) for row in database.sql(f"DESCRIBE {sql.quote(view)}").fetchall()]:
        raise ConfigError(
            f"the source has a column {DELIVERED!r}, a name that Evergreen gives itself",
            where=place(problem, problem.delivered),
            cure="rename it; if it says when a row came, name it as partitions.column under its new name",
        )


def order(name: str) -> tuple[tuple[int, int | str], ...]:
    """By this names are sorted: a number in a name counts as a number.

    >>> sorted(["b_10.csv", "b_9.csv", "a_11.csv"], key=order)
    ['a_11.csv', 'b_9.csv', 'b_10.csv']
    """
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def _folder(problem: Problem, path: str) -> str | None:
    """The folder whose files are deliveries, as its file system calls it; None where the path is one file."""
    from pyarrow.fs import FileType

    system, root, prefix = locate(expand(path, place(problem, problem.delivered)), problem.folder)
    with reading(prefix + root):
        info = system.get_file_info(root)
    if info.type == FileType.Directory:
        return root
    if info.type != FileType.File and re.search(r"[*?\[]", root):
        return re.split(r"[*?\[]", root)[0].rpartition("/")[0]
    return None


def _moment(problem: Problem, key: str) -> str:
    at = problem.partitions.start(key).astimezone(UTC)
    return f"TIMESTAMPTZ '{at:%Y-%m-%d %H:%M:%S}+00'"


def _offer(file: File, name: str) -> Offer:
    return Offer(name, f"{file.size} bytes of {file.modified}", cache(lambda: _hash_of(file)))


def _hash_of(file: File) -> str:
    digest = hashlib.sha256()
    with reading(file.name), file.system.open_input_stream(file.path, compression=None) as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
