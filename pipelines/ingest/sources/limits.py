"""What a file may hold, claim or become: the readers keep to it, and docs/sources.md lists it.

A file does not decide how much memory it takes. Beyond a limit a row is set aside, or the file is refused by name.
"""

from __future__ import annotations

from typing import NamedTuple

# Text -----------------------------------------------------------------------------------------------------
MAX_RECORD_BYTES = 1 << 20  # a row, or a text of any format
MAX_LINE_BYTES = 4 << 20
MAX_HEADER_COLUMNS = 100_000  # of a CSV
MAX_HEADER_LINES = 10
MAX_RESCANS = 1_000  # records of a block that are looked at again, as quotes have broken them: each costs as thousands
MAX_DAMAGED_LINES = 5_000  # of a block, until it is read line by line
MAX_JSON_LEVELS = 100  # of objects and arrays in one another
MAX_KEYS = 100_000  # different ones of a file of JSON Lines, and of all files ten times as many
MAX_KEY_CHARACTERS = 1_000
MOST_GUESSED = 2_000  # columns whose types are found by looking at all rows; 1,000 take 7 CPU s

# Packed files ---------------------------------------------------------------------------------------------
UNPACKED_BYTES = 64 << 20  # what a file may become, and beyond it so many times its own size
MOST_TEXT_EXPANSION = 100
MOST_EXPANSION = 200  # of columns, which pack better
MOST_DIRECTORY_BYTES = 1 << 20  # of a zip, which has to hold one file

# Columns that know their types ----------------------------------------------------------------------------
MAX_DIGITS = 38  # of a decimal
MAX_LEVELS = 16  # of lists and structures in one another: what a query of them costs doubles with each
LONG_ROW_BYTES = 128 << 10  # of texts and lists: where two thousand rows are too many at once
MANY_GROUPS, SMALL_GROUP_ROWS = 1_000, 64  # each query of a Parquet file of so many groups of so few rows costs seconds

# Avro -----------------------------------------------------------------------------------------------------
MAX_AVRO_HEADER_BYTES = 8 << 20
MAX_BLOCK_BYTES = 64 << 20  # of records, unpacked
MAX_OBJECT_BYTES = 256 << 20  # that the arrays and maps of a block can become
MAX_XZ_BYTES = 64 << 20  # that unpacking takes
AVRO_UNPACKED_BYTES = 16 << 20  # as UNPACKED_BYTES
AVRO_VALUES_TOGETHER = 500_000  # of records that are held at once
MAX_RECORD_VALUES = 100_000  # of one record without its arrays and maps

# Topics ---------------------------------------------------------------------------------------------------
MAX_MESSAGE_BYTES = 64 << 20  # that brokers may send together, and so of one message

# Queries --------------------------------------------------------------------------------------------------
# What a query may take that reads a source, beside the text that is parsed: of it a file decides, and not who uses it.
# EVERGREEN_DUCKDB_MEMORY changes this too.
READ_MEMORY_MB = 256


class Limit(NamedTuple):
    """A limit in words."""

    within: str
    beyond: str


def limits() -> list[Limit]:
    """Those that somebody who writes files may meet."""
    return [
        Limit(f"{_mb(MAX_RECORD_BYTES)} a row of text, {MAX_JSON_LEVELS} levels of JSON", "the row is set aside"),
        Limit(f"{_mb(MAX_LINE_BYTES)} a line", "the file is refused: it is none of rows"),
        Limit(f"{MAX_HEADER_COLUMNS:,} columns of CSV, {MAX_KEYS:,} keys of JSON Lines", "write them as values"),
        Limit(f"{MOST_GUESSED:,} columns whose types are guessed", "declare those that are needed"),
        Limit(
            f"{_mb(UNPACKED_BYTES)} out of a packed file ({AVRO_UNPACKED_BYTES >> 20} of Avro), and then "
            f"{MOST_TEXT_EXPANSION} times its size ({MOST_EXPANSION} of Avro and Parquet)",
            "unpack it, or pack it in parts",
        ),
        Limit(
            f"{_mb(MOST_DIRECTORY_BYTES)} of names in a zip, which has to hold one file", "pack each file on its own"
        ),
        Limit(
            f"{_mb(MAX_BLOCK_BYTES)} a block of Avro, less where arrays could make more of it", "write smaller blocks"
        ),
        Limit(f"{_mb(MAX_AVRO_HEADER_BYTES)} of schema and metadata in Avro", "write the file without them"),
        Limit(f"{MAX_RECORD_VALUES:,} values in a record of Avro, beside its arrays and maps", "write it flat"),
        Limit(
            f"{MAX_LEVELS} levels of lists and structures in Avro, Parquet and Delta",
            "write it flat, or leave the column out",
        ),
        Limit(f"{MAX_DIGITS} digits of a decimal", "declare a float, or write it as text"),
        Limit(f"{_mb(MAX_RECORD_BYTES)} a text of Avro or Parquet", "leave the column out, or write it in parts"),
        Limit(f"{_mb(MAX_MESSAGE_BYTES)} a message of a topic", "the run fails: send smaller ones"),
        Limit(f"{READ_MEMORY_MB} MB a query that reads", "`EVERGREEN_DUCKDB_MEMORY`"),
    ]


def table() -> str:
    """The limits, in Markdown."""
    rows = [f"| {limit.within} | {limit.beyond} |" for limit in limits()]
    return "\n".join(["| limit | beyond it |", "|---|---|", *rows])


def _mb(size: int) -> str:
    return f"{size >> 20} MB"
