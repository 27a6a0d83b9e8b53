"""JSON Lines files to rows of text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Source
from pipelines.errors import DataError
from pipelines.ingest.sources.columns import check_columns, check_names
from pipelines.ingest.sources.files import File, text_blocks
from pipelines.ingest.sources.lines import MAX_LINE_BYTES, Indices, line_ends, no_text
from pipelines.ingest.sources.typed import Texts
from pipelines.sql import literal

SCHEMA = pa.schema([("file", pa.string()), ("number", pa.int64()), ("line", pa.string()), ("is_text", pa.bool_())])
SHOWN_CHARACTERS = 10_000


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
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, SCHEMA, compression="lz4", use_dictionary=["file"], write_statistics=False) as writer:
        for file in files:
            for batch in _batches(file):
                writer.write_batch(batch)
                if head:
                    break
    lines = f"""
        SELECT *, CASE WHEN is_text AND json_valid(line) AND json_type(line) = 'OBJECT' THEN json_keys(line) END AS keys
        FROM read_parquet({literal(path)}, file_row_number = true)"""
    rows = database.execute(f"""
        SELECT file, list(DISTINCT key) AS keys
        FROM (
            SELECT file, unnest(CASE WHEN len(keys) = 0 THEN [NULL] ELSE keys END) AS key
            FROM ({lines}) WHERE len(keys) = len(list_distinct(keys))
        )
        GROUP BY file
    """).fetchall()
    keys = {str(file): sorted(str(key) for key in names if key is not None) for file, names in rows}
    expected: dict[str, str] = dict(source.columns)
    for file in files:
        if file.name not in keys:  # no line of it could be read
            continue
        names_in_file = dict.fromkeys(keys[file.name], "")
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
    base = "regexp_extract(file, '[^/]*$')"
    where = f"' (' || {base} || ', line ' || number || ')'"
    judged = f"""
        SELECT *, CASE
            WHEN NOT is_text THEN 'not readable: not valid utf-8' || {where}
            WHEN keys IS NULL THEN 'not readable: not a JSON object' || {where}
            WHEN len(keys) <> len(list_distinct(keys)) THEN 'not readable: a key comes twice' || {where}
            END AS unreadable
        FROM ({lines})"""

    def query(columns: Sequence[int], has_row: bool) -> str:
        paths = "[" + ", ".join(literal("/" + names[i].replace("~", "~0").replace("/", "~1")) for i in columns) + "]"
        cells = "".join(f", texts[{place}] AS c{i}" for place, i in enumerate(columns, start=1))
        types = kinds = row = ""
        if not source.columns:
            types = f", CASE WHEN unreadable IS NULL THEN json_type(line, {paths}) END AS types"
            is_text = "types[{place}] IN ('VARCHAR', 'OBJECT', 'ARRAY') AS t{i}"
            kinds = "".join(f", {is_text.format(place=place, i=i)}" for place, i in enumerate(columns, start=1))
        if has_row:
            shown = f"json_object('line', left(line, {SHOWN_CHARACTERS}))"
            row = f", CASE WHEN unreadable IS NULL THEN line ELSE {shown} END AS row"
        return f"""
            WITH judged AS ({judged}),
            cut AS (
                SELECT file_row_number AS place, unreadable, line,
                    CASE WHEN unreadable IS NULL THEN json_extract_string(line, {paths}) END AS texts{types}
                FROM judged
            )
            SELECT place, unreadable{cells}{kinds}{row} FROM cut"""

    return Texts(names, query, is_typed=not source.columns)


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
    if is_text.all():
        offsets = pa.py_buffer(np.append(starts, ends[-1:]).astype(np.int32))
        lines = pa.Array.from_buffers(pa.string(), len(ends), [None, offsets, pa.py_buffer(data)])
    else:
        texts = (data[start:end].decode("utf-8", "backslashreplace") for start, end in zip(starts, ends, strict=True))
        lines = pa.array([text.replace("\0", "\\0") for text in texts], pa.string())
    lines = pc.utf8_trim(lines, "\r\n")
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(ends), np.int32)), [file.name]).cast(pa.string())
    numbers = pa.array(np.arange(number, number + len(ends)))
    batch = pa.record_batch([names, numbers, lines, pa.array(is_text)], schema=SCHEMA)
    return batch.filter(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(lines)), 0))
