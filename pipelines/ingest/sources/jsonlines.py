"""JSON Lines files to rows of text."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Source
from pipelines.errors import DataError
from pipelines.ingest.sources.columns import check_columns, check_count, check_names
from pipelines.ingest.sources.files import File, text_blocks
from pipelines.ingest.sources.limits import (
    MAX_JSON_LEVELS,
    MAX_KEY_CHARACTERS,
    MAX_KEYS,
    MAX_LINE_BYTES,
    MAX_RECORD_BYTES,
)
from pipelines.ingest.sources.lines import TOO_LONG, Indices, line_ends, no_text
from pipelines.ingest.sources.typed import Landing, Texts
from pipelines.sql import literal

SCHEMA = pa.schema([("file", pa.string()), ("number", pa.int64()), ("line", pa.string()), ("fault", pa.string())])
SHOWN_CHARACTERS = 10_000
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


@dataclass(frozen=True)
class Lines:
    """Lines of JSON, each with its file and number, and what is said of those that cannot be read.

    `relation` is SQL of them, with the columns of SCHEMA.
    """

    relation: str
    group_rows: int
    counted: str = "line"
    """what a number counts"""
    row: str = f"CASE WHEN unreadable IS NULL THEN line ELSE json_object('line', left(line, {SHOWN_CHARACTERS})) END"
    """SQL: a line that is set aside"""
    beside: Mapping[str, str] = field(default_factory=dict)
    """what a line has beside its keys: SQL of the text, by name"""

    @property
    def with_keys(self) -> str:
        """SQL: the lines with their places, and the keys of those that are objects."""
        return f"""
            SELECT *, CASE WHEN fault IS NULL AND json_valid(line) AND json_type(line) = 'OBJECT'
                THEN json_keys(line) END AS keys
            FROM {self.relation}"""

    def texts(self, names: list[str], *, is_typed: bool) -> Texts:
        """How columns are read from them."""
        where = f"' (' || regexp_extract(file, '[^/]*$') || ', {self.counted} ' || number || ')'"
        judged = f"""
            SELECT *, CASE
                WHEN fault IS NOT NULL THEN 'not readable: ' || fault || {where}
                WHEN keys IS NULL THEN 'not readable: not a JSON object' || {where}
                WHEN len(keys) <> len(list_distinct(keys)) THEN 'not readable: a key comes twice' || {where}
                END AS unreadable
            FROM ({self.with_keys})"""

        def query(columns: Sequence[int], has_row: bool) -> str:
            of_keys = [i for i in columns if names[i] not in self.beside]
            pointers = (literal("/" + names[i].replace("~", "~0").replace("/", "~1")) for i in of_keys)
            paths = f"[{', '.join(pointers)}]::VARCHAR[]"
            cells = "".join(f", texts[{place}] AS c{i}" for place, i in enumerate(of_keys, start=1))
            cells += "".join(f", {self.beside[names[i]]} AS c{i}" for i in columns if i not in of_keys)
            types = kinds = row = ""
            if is_typed:
                types = f", CASE WHEN unreadable IS NULL THEN json_type(line, {paths}) END AS types"
                is_text = "types[{place}] IN ('VARCHAR', 'OBJECT', 'ARRAY') AS t{i}"
                kinds = "".join(f", {is_text.format(place=place, i=i)}" for place, i in enumerate(of_keys, start=1))
            if has_row:
                row = f", {self.row} AS row"
            return f"""
                WITH judged AS ({judged}),
                cut AS (
                    SELECT *, file_row_number AS place,
                        CASE WHEN unreadable IS NULL THEN json_extract_string(line, {paths}) END AS texts{types}
                    FROM judged
                )
                SELECT place, unreadable{cells}{kinds}{row} FROM cut"""

        return Texts(names, query, is_typed=is_typed, group_rows=self.group_rows)


def read_jsonl(
    database: duckdb.DuckDBPyConnection, name: str, source: Source, files: list[File], path: str, *, head: bool
) -> Texts:
    """Land a source's lines in a Parquet file, and say how its columns are read from them.

    A column is there when any line of a file has it; one that a line lacks is null in it. Numbers in quotes are taken
    for numbers where those are declared; objects and arrays are their JSON. With `head` only the first block of each
    file is read.

    Raises:
        DataError: a file is truncated, or no JSON Lines.
        SchemaError: the keys of a file differ from the declared columns, or from the first file's.
    """
    with closing(Landing(path, SCHEMA)) as writer:
        for file in files:
            for batch in _batches(file):
                writer.write(batch)
                if head:
                    break
    lines = Lines(f"read_parquet({literal(path)}, file_row_number = true)", writer.fewest)
    keys = keys_of(database, source, lines)
    expected: dict[str, str] = dict(source.columns)
    for file in files:
        if file.name not in keys:  # no line of it could be read
            continue
        names_in_file = dict.fromkeys(keys[file.name], "")
        check_count([*names_in_file], source, file.name)
        expected = expected or names_in_file
        check_columns(name, source, expected, names_in_file, file.name, may_lack=head)
        check_names([column for column in names_in_file if column in expected], file.name)
    names = list(expected)
    if not names:
        raise DataError(
            "no line of it is a JSON object with a column",
            where=files[0].name,
            cure="write one JSON object on each line, or declare the source's format",
        )
    return lines.texts(names, is_typed=not source.columns)


def keys_of(database: duckdb.DuckDBPyConnection, source: Source, lines: Lines) -> dict[str, list[str]]:
    """The keys of each file, of the lines that can be read; of a source that ignores others, the declared ones.

    Raises:
        DataError: there are more than any table has columns.
    """
    wanted = "true"
    if source.columns and source.extra_columns == "ignore":
        wanted = f"(key IS NULL OR key IN ({', '.join(map(literal, source.columns))}))"
    # No WHERE before the lines are left out: of what a filter lets through DuckDB gathers thousands of rows.
    rows = database.execute(f"""
        SELECT DISTINCT file, left(key, {MAX_KEY_CHARACTERS}) FROM (
            SELECT file, unnest(CASE WHEN len(keys) = len(list_distinct(keys)) THEN list_append(keys, NULL) END) AS key
            FROM ({lines.with_keys})
        ) WHERE {wanted} LIMIT {10 * MAX_KEYS + 1}
    """).fetchall()
    keys: dict[str, list[str]] = defaultdict(list)
    for file, key in rows:
        keys[str(file)] += [] if key is None else [str(key)]
    for file, names in keys.items():
        if len(names) > MAX_KEYS or len(rows) > 10 * MAX_KEYS:
            raise DataError(
                f"{len(names):,} different keys, and at most {MAX_KEYS:,} are columns",
                where=file,
                cure="write what differs from line to line as values, or declare the source's columns, with "
                "extra_columns: ignore",
            )
    return {file: sorted(names) for file, names in keys.items()}


def _batches(file: File) -> Iterator[pa.RecordBatch]:
    """Lines that are not blank, with their numbers; bytes that are no text are shown as escapes, and marked."""
    pending, number = b"", 1
    for block in itertools.chain(text_blocks(file), [None]):
        data = pending + (block or b"")
        if number == 1 and data.lstrip()[:1] == b"[":
            raise DataError(
                "a JSON array where JSON Lines was expected", where=file.name, cure="write one object on each line"
            )
        ends = line_ends(data, is_last=block is None)
        if block is None and data and ends[-1:].tolist() != [len(data)]:
            ends = np.append(ends, len(data))
        if len(ends):
            yield _batch(file, data, ends, number)
            number += len(ends)
        pending = data[int(ends[-1]) if len(ends) else 0 :]
        if len(pending) > MAX_LINE_BYTES:
            raise DataError(
                f"line {number} is longer than {MAX_LINE_BYTES >> 20} MB",
                where=file.name,
                cure="write one JSON object on each line, or declare the source's format",
            )


def _batch(file: File, data: bytes, ends: Indices, number: int) -> pa.RecordBatch:
    starts = np.concatenate(([0], ends[:-1]))
    is_text = np.ones(len(ends), bool)
    is_text[np.searchsorted(ends, no_text(data, ends, int(ends[-1])), "right")] = False
    is_short = ends - starts <= MAX_RECORD_BYTES
    is_deep = are_deep(data, starts, ends, is_short & is_text)
    if is_text.all() and is_short.all():
        offsets = pa.py_buffer(np.append(starts, ends[-1:]).astype(np.int32))
        lines = pa.Array.from_buffers(pa.string(), len(ends), [None, offsets, pa.py_buffer(data)])
    else:
        shown = np.where(is_short, ends, starts + SHOWN_CHARACTERS)
        texts = (data[start:end].decode("utf-8", "backslashreplace") for start, end in zip(starts, shown, strict=True))
        lines = pa.array([text.replace("\0", "\\0") for text in texts], pa.string())
    lines = pc.utf8_trim(lines, "\r\n")
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(ends), np.int32)), [file.name]).cast(pa.string())
    numbers = pa.array(np.arange(number, number + len(ends)))
    faults = np.select(
        [~is_short, ~is_text, is_deep], [TOO_LONG, "not valid utf-8", f"deeper than {MAX_JSON_LEVELS} levels"], ""
    )
    faults = pc.if_else(pa.array(faults == ""), pa.scalar(None, pa.string()), pa.array(faults, pa.string()))
    batch = pa.record_batch([names, numbers, lines, faults], schema=SCHEMA)
    return batch.filter(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(lines)), 0))


def are_deep(data: bytes, starts: Indices, ends: Indices, is_asked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which lines hold more than MAX_JSON_LEVELS objects and arrays in one another: a parser would go as deep."""
    codes = np.frombuffer(data, np.uint8)
    openings = np.flatnonzero((codes | 0x20) == ord("{"))  # [ and { differ by that bit
    counts = np.searchsorted(openings, ends) - np.searchsorted(openings, starts)
    is_deep = np.zeros(len(ends), bool)
    for index in np.flatnonzero((counts > MAX_JSON_LEVELS) & is_asked):
        marks = np.frombuffer(STRING.sub(b"", data[starts[index] : ends[index]]), np.uint8) | 0x20
        levels = np.cumsum((marks == ord("{")).astype(np.int32) - (marks == ord("}")))
        is_deep[index] = levels.max(initial=0) > MAX_JSON_LEVELS
    return is_deep
