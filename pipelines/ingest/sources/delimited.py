"""CSV files to rows of text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

from pipelines.config import Source
from pipelines.errors import ConfigError, DataError
from pipelines.ingest.sources.columns import check_columns, check_count, check_names
from pipelines.ingest.sources.files import SHOWN_CHARACTERS, File, place, text_blocks
from pipelines.ingest.sources.records import Bad, Dialect, cuts, header
from pipelines.ingest.sources.typed import ISO_8601, MAX_GROUP_ROWS, Landing, Texts
from pipelines.problem import Problem
from pipelines.sql import literal, quote

# What a value of a type looks like: to tell a row from a line of somebody's prose.
LOOKS = {
    "integer": r"[+-]?\d+(\.0*)?",
    "float": r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?",
    "timestamp": ISO_8601,
    "list<float>": r"\[.*\]",
    "boolean": r"true|false|t|f|yes|no|y|n|1|0",
}
MIN_FIELDS_OF_PROSE = 4  # a line of prose seldom has as many commas as a row
SHOWN_BYTES = 10_000


def read_csv(problem: Problem, name: str, source: Source, files: list[File], path: str, *, head: bool) -> Texts:
    """Land a source's rows as text in a Parquet file: one column for each that is wanted.

    With `head` no more is read than the headers, or, where types have to be guessed, the first file's first block.

    Raises:
        DataError: a file is truncated, or its records and lines do not add up.
        SchemaError: a header differs from the declared columns, or from the first file's.
    """
    if not source.delimiter.isascii():
        raise ConfigError(
            f"{source.delimiter!r} cannot be a delimiter", where=place(problem, name), cure="choose an ASCII character"
        )
    expected: dict[str, str] = dict(source.columns)
    writer = None
    try:
        for file in files:
            blocks = text_blocks(file, source.encoding)
            names_in_file, rest, line = header(blocks, source.delimiter, file.name)
            expected = expected or dict.fromkeys(names_in_file, "")
            check_count(names_in_file, source, file.name)
            check_columns(name, source, expected, dict.fromkeys(names_in_file, ""), file.name)
            check_names([column for column in names_in_file if column in expected], file.name)
            if writer is None:
                schema = pa.schema(
                    [(f"c{i}", pa.string()) for i in range(len(expected))]
                    + [("unreadable", pa.string()), ("line", pa.string())]
                )
                writer = Landing(path, schema)
            if head and (source.columns or file is not files[0]):
                continue
            dialect = _dialect(source, names_in_file)
            for batch in _batches(
                file, blocks, rest, line, dialect, [names_in_file.index(column) for column in expected]
            ):
                writer.write(batch)
                if head:
                    break
    finally:
        if writer is not None:
            writer.close()
    names = list(expected)

    def query(columns: Sequence[int], has_row: bool) -> str:
        row = ""
        if has_row:
            values = ", ".join(f"{quote(column)} := c{i}" for i, column in enumerate(names))
            as_it_came = f"to_json(struct_pack({values}))"
            row = f", CASE WHEN unreadable IS NULL THEN {as_it_came} ELSE json_object('line', line) END AS row"
        cells = ", ".join(f"c{i}" for i in columns)
        rows = f"read_parquet({literal(path)}, file_row_number = true)"
        return f"SELECT file_row_number AS place, unreadable, {cells}{row} FROM {rows}"

    return Texts(names, query, tuple(source.nulls), group_rows=writer.fewest if writer else MAX_GROUP_ROWS)


def _dialect(source: Source, names: list[str]) -> Dialect:
    kinds = {
        i: source.columns[column] for i, column in enumerate(names) if source.columns.get(column, "string") != "string"
    }
    tests = {i: re.compile(LOOKS[kind], re.IGNORECASE) for i, kind in kinds.items()}

    def looks_like_row(values: list[str]) -> bool:
        if not tests:
            return len(values) >= MIN_FIELDS_OF_PROSE
        given = [(values[i].strip(), test) for i, test in tests.items() if values[i].strip()]
        return bool(given) and all(test.fullmatch(value) for value, test in given)

    return Dialect(source.delimiter, len(names), tuple(tests), looks_like_row)


def _batches(
    file: File, blocks: Iterator[bytes], rest: bytes, line: int, dialect: Dialect, wanted: list[int]
) -> Iterator[pa.RecordBatch]:
    for cut in cuts(blocks, rest, line, dialect, file.name):
        if cut.count:
            yield from _parsed(file, b"".join(cut.good), cut.count, dialect, wanted)
        if cut.bad:
            yield _rejected(file, cut.bad, len(wanted))


def _parsed(file: File, text: bytes, count: int, dialect: Dialect, wanted: list[int]) -> Iterator[pa.RecordBatch]:
    import pyarrow.csv as csv

    columns = [f"f{i}" for i in range(dialect.fields)]
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(column_names=columns, block_size=len(text) + 1),
            parse_options=csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                include_columns=[columns[i] for i in wanted],
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowException as error:
        raise DataError(
            f"not readable: {str(error)[:SHOWN_CHARACTERS]}", where=file.name, cure="look at the file's quotes"
        ) from error
    if table.num_rows != count:
        raise DataError(
            f"{count} records became {table.num_rows} rows", where=file.name, cure="look at the file's quotes"
        )
    nothing = pa.nulls(count, pa.string())
    cells = [column.combine_chunks() for column in table.columns]
    names = [*(f"c{i}" for i in range(len(wanted))), "unreadable", "line"]
    yield from pa.table([*cells, nothing, nothing], names=names).to_batches()


def _rejected(file: File, bad: list[Bad], columns: int) -> pa.RecordBatch:
    base = file.name.rpartition("/")[2]
    reasons = [f"not readable: {rejected.reason} ({base}, line {rejected.line})" for rejected in bad]
    lines = [rejected.text[:SHOWN_BYTES].rstrip(b"\r\n").decode("utf-8", "backslashreplace") for rejected in bad]
    names = [*(f"c{i}" for i in range(columns)), "unreadable", "line"]
    return pa.record_batch(
        [*[pa.nulls(len(bad), pa.string())] * columns, pa.array(reasons), pa.array(lines)], names=names
    )
