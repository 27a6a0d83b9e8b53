"""Where a table lies, as a source of problem.yaml says it: a file, a folder, a glob, a database."""

from __future__ import annotations

import csv
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pipelines.config import RESERVED_COLUMNS
from pipelines.errors import ConfigError, DataError
from pipelines.ingest.sources.files import SUFFIXES, files_of, text_blocks
from pipelines.ingest.sources.records import header
from pipelines.problem import ROOT, Problem, parse_problem

DATABASES = re.compile(r"(postgres(ql)?|sqlite)://|\$\{")
DELIMITERS = ",;\t|"
LOOKED_AT = 100_000  # characters of a text file, by which its delimiter is told
SPELT: dict[int, str] = {
    ord(sign): word for sign, word in zip("äöüß%", ("ae", "oe", "ue", "ss", " percent "), strict=True)
}
OWN_NAMES = ("events", "labels")
PSEUDO_COLUMNS = ("rowid",)  # of each table in DuckDB


@dataclass(frozen=True)
class Origin:
    """A source's name and its settings, as problem.yaml has them; of a CSV the names of its columns."""

    name: str
    settings: Mapping[str, Any]
    names: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    """What a person should know of how it is read."""

    def problem(self, folder: Path, columns: Mapping[str, str] | None = None) -> Problem:
        """A problem with this source and next to nothing else, to read the source by."""
        column = {"column": {"type": "string"}}
        source = dict(self.settings) | ({"columns": dict(columns)} if columns else {})
        return parse_problem(
            {
                "description": "a table that is looked at",
                "owner": "nobody",
                "key": "key",
                "partitions": {"every": "day", "first": "2000-01-01"},
                "sources": {self.name: source},
                "columns": column,
                "features": {"columns": list(column)},
            },
            folder,
        )


def origin(place: str, table: str | None, folder: Path) -> Origin:
    """The source for what `--from` names; paths within this project are relative to `folder`, the problem's.

    Raises:
        ConfigError: it is nothing that can be read.
        DataError: a file has no header, or is no text.
    """
    if DATABASES.match(place):
        if table is None:
            raise ConfigError(
                "which table of the database?", where=f"--from {shown(place)}", cure="name it: --table public.orders"
            )
        uri, variable = _without_password(place, folder.name)
        note = f"look: set {variable} to the password, which is written nowhere: evergreen reads it from there"
        return Origin(
            identifier(table.rpartition(".")[2]),
            {"database": uri, "table": table},
            notes=(note,) if variable else (),
        )
    if table is not None:
        raise ConfigError(
            "--table is for databases",
            where=f"--from {place}",
            cure="leave it out, or give a postgresql:// or sqlite:// URI",
        )
    settings = {"path": _path(place, folder), **_format(place)}
    name = identifier(re.split(r"[.*?\[]", Path(place.rstrip("/")).name)[0] or Path(place).parent.name)
    if name in OWN_NAMES:
        name = f"{name}_source"
    found = Origin(name, settings)
    return _with_header(found, folder) if _kind(found, folder) == "csv" else found


def _without_password(uri: str, problem: str) -> tuple[str, str | None]:
    """A URI that names an environment variable where a password stood, and the variable, which this process has then.

    `${NAME}` stays as it is. A password at the end, in the query, is taken as it is written: nothing decodes it.
    """
    match = re.search(r"://[^:/@]*:(.+)@", uri) or re.search(r"[?&]password=([^&]+)", uri)
    if match is None or "${" in match[1]:
        return uri, None
    variable = f"{problem.upper()}_PASSWORD"
    os.environ[variable] = unquote(match[1]) if match[0].endswith("@") else match[1]
    return f"{uri[: match.start(1)]}${{{variable}}}{uri[match.end(1) :]}", variable


def identifier(text: str) -> str:
    """A name for a column or a table, out of whatever it is called.

    >>> [identifier(name) for name in ("Order ID", "unitPrice", "2nd %", "Größe", "event_time")]
    ['order_id', 'unit_price', 'c_2nd_percent', 'groesse', 'event_time_value']
    """
    words = text.translate(SPELT)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", words)
    name = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:50] or "column"
    if not name[0].isalpha():
        name = f"c_{name}"
    return f"{name}_value" if name in RESERVED_COLUMNS or name in PSEUDO_COLUMNS else name


def identifiers(names: list[str]) -> dict[str, str]:
    """Source column -> name in events: each of its own.

    >>> identifiers(["Price", "price ", "price"])
    {'Price': 'price_2', 'price ': 'price_3', 'price': 'price'}
    """
    taken = {name for name in names if identifier(name) == name}
    given: dict[str, str] = {}
    for name in names:
        wanted = identifier(name)
        if wanted != name:
            number, free = 2, wanted
            while free in taken:
                free, number = f"{wanted}_{number}", number + 1
            wanted = free
        taken.add(wanted)
        given[name] = wanted
    return given


def _path(place: str, folder: Path) -> str:
    """A local path as problem.yaml should have it: relative to the problem where both move together."""
    if "://" in place:
        return place
    path = Path(place).expanduser().absolute()
    if not re.search(r"[*?\[]", place) and not path.exists():
        raise ConfigError(
            "there is nothing there", where=f"--from {place}", cure="name a file, a folder, or a glob in quotes"
        )
    if any(path.is_relative_to(root) and folder.is_relative_to(root) for root in (ROOT, folder.parent)):
        return os.path.relpath(path, folder)
    return str(path)


def _format(place: str) -> dict[str, str]:
    """What a folder or an archive holds, which its name does not tell."""
    path = Path(place).expanduser()
    if path.is_file() and _kind_of(path.name) is None:
        packed = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
        if (kind := next(filter(None, map(_kind_of, packed)), None)) in ("csv", "jsonl"):
            return {"format": str(kind)}
        raise ConfigError(
            "its name does not tell what kind of file it is",
            where=f"--from {place}",
            cure="let it end in .csv, .tsv, .jsonl, .parquet or .avro; a spreadsheet has to be saved as CSV",
        )
    if not path.is_dir():
        return {}
    if (path / "_delta_log").is_dir():
        return {"format": "delta"}
    kinds = Counter(kind for file in path.rglob("*") if file.is_file() for kind in [_kind_of(file.name)] if kind)
    if not kinds:
        raise ConfigError(
            "there is no file of a known kind",
            where=f"--from {place}",
            cure="put .csv, .jsonl, .parquet or .avro files there, or a Delta table",
        )
    return {"format": kinds.most_common(1)[0][0]}


def _kind_of(name: str) -> str | None:
    plain = re.sub(r"\.(gz|zip)$", "", name.lower())
    return next((kind for kind, suffixes in SUFFIXES.items() if re.search(rf"\.({suffixes})$", plain)), None)


def _kind(found: Origin, folder: Path) -> str:
    return found.problem(folder).sources[found.name].kind


def _with_header(found: Origin, folder: Path) -> Origin:
    """How a CSV is written, and its columns: those that have a name of their own."""
    delimiter, encoding, names = _written(found, folder)
    settings = dict(found.settings)
    if delimiter != ",":
        settings["delimiter"] = delimiter
    if encoding != "utf-8":
        settings["encoding"] = encoding
    counted = Counter(name.lower() for name in names)
    known = [name for name in names if name.strip() and counted[name.lower()] == 1]
    notes = []
    if nameless := sum(not name.strip() for name in names):
        notes.append(f"{nameless} column without a name is not read, such as an index that was written along")
    if twice := [name for name, count in counted.items() if count > 1 and name.strip()]:
        notes.append(f"not read, since two columns have the same name: {', '.join(twice)}")
    if len(known) < len(names):
        settings["extra_columns"] = "ignore"
    return Origin(found.name, settings, known, tuple(notes))


def _written(found: Origin, folder: Path) -> tuple[str, str, list[str]]:
    problem = found.problem(folder)
    source = problem.sources[found.name]
    file = files_of(problem, found.name, source)[0]
    fault: Exception | None = None
    for encoding in ("utf-8", "utf-16", "latin-1"):
        try:
            blocks = _decoded(file, encoding)
            delimiter = _delimiter(next(blocks, ""))
            for _ in blocks:
                pass  # a byte that is no UTF-8 may come late
            return delimiter, encoding, header(text_blocks(file, encoding), delimiter, file.name)[0]
        except (UnicodeError, DataError) as error:
            fault = fault or error
    raise DataError(f"no readable text: {fault}", where=file.name, cure="write it again, as UTF-8")


def _decoded(file: Any, encoding: str) -> Iterator[str]:
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")()
    for block in text_blocks(file, encoding):
        yield decoder.decode(block)


def _delimiter(text: str) -> str:
    """What stands between values: what `csv.Sniffer` sees, or what the first line has most of."""
    lines = text[:LOOKED_AT]
    if "\n" in lines:
        lines = lines[: lines.rindex("\n") + 1]
    first = lines.split("\n", 1)[0]
    if 2 * lines.count('"') > len(lines):  # by quotes the sniffer goes on for minutes
        return max(DELIMITERS, key=first.count)
    try:
        sniffed = csv.Sniffer().sniff(lines, DELIMITERS).delimiter
        if sniffed in first:
            return sniffed
    except csv.Error:
        pass
    return max(DELIMITERS, key=first.count)


def shown(uri: str) -> str:
    """Without its password."""
    return re.sub(r"([?&]password=)[^&]+", r"\1***", re.sub(r"(://[^:/@]*):.*@", r"\1:***@", uri))
