"""CSV text cut into records, block by block: those that can be parsed, and those that cannot, with the reason.

The grammar is RFC 4180 with line ends of any kind (CR LF, LF, CR). Where a quote breaks it, the physical line in which
the trouble begins is set aside and reading goes on with the next one: a quote that is never closed costs one row, not
the rest of the file. Every line that is no blank line ends up in exactly one record, good or bad.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataError
from pipelines.ingest.sources.limits import (
    MAX_DAMAGED_LINES,
    MAX_HEADER_COLUMNS,
    MAX_HEADER_LINES,
    MAX_LINE_BYTES,
    MAX_RECORD_BYTES,
    MAX_RESCANS,
)
from pipelines.ingest.sources.lines import TOO_LONG, Indices, no_text
from pipelines.ingest.sources.marks import Marks

MAX_DEPTH = 4  # of records within records that quotes have broken
UNCLOSED = "a quote that is not closed, or text beside a quoted value"
SWALLOWED = "a quoted value over several lines: is a quote not closed?"
NO_TEXT = "not valid text in the declared encoding"

Flags = npt.NDArray[np.bool_]
LooksLikeRow = Callable[[list[str]], bool]


@dataclass(frozen=True)
class Dialect:
    """How records look: the delimiter, how many fields, which of them are no texts, and what a row is like."""

    delimiter: str
    fields: int
    no_texts: tuple[int, ...]
    looks_like_row: LooksLikeRow


class Bad(NamedTuple):
    """A record that cannot be parsed: its physical line (counted from 1), why, and its bytes."""

    line: int
    reason: str
    text: bytes


@dataclass
class Cut:
    """What a piece of text holds: `good` is CSV of `count` records, each `fields` values long."""

    good: list[bytes | memoryview] = field(default_factory=list)
    count: int = 0
    bad: list[Bad] = field(default_factory=list)
    taken: int = 0  # bytes, and the lines they hold
    lines: int = 0


def header(blocks: Iterator[bytes], delimiter: str, where: str) -> tuple[list[str], bytes, int]:
    """A file's first record, the text that was read beyond it, and the number of the line where that begins.

    Raises:
        DataError: there is none, or it cannot be parsed.
    """
    text = bytearray()
    for block in blocks:
        text += block
        if b"\n" in text.lstrip() or b"\r" in text.lstrip()[:-1] or len(text) > MAX_RECORD_BYTES:
            break
    lines = bytes(text[:MAX_RECORD_BYTES]).splitlines(keepends=True)
    blank = next((index for index, line in enumerate(lines) if line.strip(b"\r\n")), None)
    if blank is None:
        raise DataError("there is no header: the file has blank lines only", where=where, cure="write it again")
    fault: Exception | None = None
    for last in range(blank, min(blank + MAX_HEADER_LINES, len(lines))):
        first = b"".join(lines[blank : last + 1])
        try:
            names = _parse(first, delimiter)
        except (csv.Error, UnicodeDecodeError) as error:
            fault = error
            continue
        if len(names) > MAX_HEADER_COLUMNS:
            raise DataError(
                f"{len(names):,} columns, and at most {MAX_HEADER_COLUMNS:,} are read",
                where=where,
                cure="is this a CSV file? Write fewer columns, or correct the source's format and delimiter",
            )
        return names, bytes(text[sum(map(len, lines[: last + 1])) :]), last + 2
    raise DataError(
        f"the header cannot be read: {fault}",
        where=where,
        cure="write a first line with the columns' names, or correct the source's format, delimiter and encoding",
    )


def cuts(blocks: Iterator[bytes], rest: bytes, line: int, dialect: Dialect, where: str) -> Iterator[Cut]:
    """The records below the header; `line` is the number of the first line of `rest`.

    Raises:
        DataError: a line is longer than any row could be.
    """
    block = next(blocks, None)
    pending = rest
    while True:
        upcoming = next(blocks, None) if block is not None else None
        data = pending + block if block is not None else pending
        is_last = upcoming is None
        if data.endswith(b"\n") and not data.strip(b"\r\n"):  # blank lines, of which a file may hold any number
            line += data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
            pending, block = b"", upcoming
            if is_last:
                return
            continue
        cut = cut_text(data, line, dialect, is_last=is_last)
        yield cut
        line += cut.lines
        pending = data[cut.taken :]
        if len(pending) > MAX_LINE_BYTES:
            raise DataError(
                f"line {line} is longer than {MAX_LINE_BYTES >> 20} MB",
                where=where,
                cure="is this a CSV file? Declare the source's format and encoding",
            )
        if is_last:
            return
        block = upcoming


def cut_text(
    data: bytes, line: int, dialect: Dialect, *, is_last: bool, depth: int = 0, rescans: Iterator[int] | None = None
) -> Cut:
    """Cut text that begins with a record; unless it is the last, an unfinished record at its end is left.

    rescans: those that are left for the block of which this text is a part.
    """
    cut = Cut()
    if not data:
        return cut
    rescans = iter(range(MAX_RESCANS)) if rescans is None else rescans
    marks = Marks(data, dialect.delimiter, is_last)
    pieces: list[tuple[Indices, Indices, Indices]] = []  # where records start and end, and their fields
    mended: list[bytes] = []
    at = damaged = 0
    while at < len(data):
        if damaged == MAX_DAMAGED_LINES:
            at = _line_by_line(cut, marks, at, line, dialect, mended)
            break
        limit, is_damaged = marks.damage_after(at)
        ends = marks.record_ends(at, limit)
        if not is_damaged and marks.lacks_line_end and not marks.is_open(at):
            ends = np.append(ends, len(data))  # the last line has no line end
        if len(ends):
            starts = np.concatenate(([at], ends[:-1]))
            pieces.append((starts, ends, marks.fields(at, starts, ends)))
            at = int(ends[-1])
        is_open = marks.is_open(at) and (is_last or len(data) - at > MAX_RECORD_BYTES)
        stop = marks.line_end(at) if is_damaged or is_open else None
        if stop is None:
            break
        row = _mended(data[at:stop], dialect) if stop - at <= MAX_RECORD_BYTES else None
        if row is None:
            cut.bad.append(Bad(line + int(marks.lines_before(at)), UNCLOSED, data[at:stop][:MAX_RECORD_BYTES]))
        else:
            mended.append(row)
        at, damaged = stop, damaged + 1
    cut.taken, cut.lines = at, int(marks.lines_before(at))
    if pieces:
        starts, ends, fields = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        _sort_out(cut, marks, line, dialect, (depth, rescans), starts, ends, fields)
    cut.good += mended
    cut.count += len(mended)
    return cut


def _sort_out(
    cut: Cut,
    marks: Marks,
    line: int,
    dialect: Dialect,
    closer_look: tuple[int, Iterator[int]],
    starts: Indices,
    ends: Indices,
    fields: Indices,
) -> None:
    """Add records to `cut`, each as good or as bad.

    closer_look: how deep in records this is, and the rescans that are left.
    """
    data, (depth, rescans) = marks.data, closer_look
    is_blank = np.isin(marks.codes[starts], (10, 13))
    is_ragged = (fields != dialect.fields) & ~is_blank
    is_text = np.ones(len(starts), bool)
    places = no_text(data, marks.line_ends, cut.taken)
    holders = np.searchsorted(starts, places, "right") - 1
    is_text[holders[(holders >= 0) & (places < ends[holders])]] = False
    line_counts = marks.lines_before(ends) - marks.lines_before(starts)
    swallowing = _swallowing(marks, dialect, starts, ends, is_ragged | ~is_text, line_counts)
    is_long = ends - starts > MAX_RECORD_BYTES
    is_good = ~is_ragged & is_text & ~is_long
    is_good[swallowing] = False
    cut.count += int(np.count_nonzero(is_good & ~is_blank))
    cut.good += _runs(data, starts, ends, is_good)
    for index in np.flatnonzero(~is_good):
        text, first = data[starts[index] : ends[index]], line + int(marks.lines_before(starts[index]))
        reason = f"{fields[index]} fields where {dialect.fields} were expected" if is_text[index] else NO_TEXT
        if is_long[index]:
            cut.bad.append(Bad(first, TOO_LONG, text[:MAX_RECORD_BYTES]))
            continue
        if line_counts[index] == 1:
            cut.bad.append(Bad(first, reason, text))
            continue
        head, *tail = text.splitlines(keepends=True)
        if is_ragged[index] and depth < MAX_DEPTH and next(rescans, None) is not None:
            cut.bad.append(Bad(first, UNCLOSED, head))
            text = b"".join(tail)
            rest = cut_text(text, first + 1, dialect, is_last=True, depth=depth + 1, rescans=rescans)
            cut.good += rest.good
            cut.count += rest.count
            cut.bad += rest.bad
        elif is_text[index]:
            cut.bad += [Bad(first + n, SWALLOWED, text) for n, text in enumerate([head, *tail]) if text.strip(b"\r\n")]
        else:
            cut.bad.append(Bad(first, reason, text))


def _line_by_line(cut: Cut, marks: Marks, at: int, line: int, dialect: Dialect, mended: list[bytes]) -> int:
    """Read each line from `at` on by itself, where quotes are wrong all over a text; gives the place after the last."""
    data = marks.data
    ends = marks.line_ends[int(np.searchsorted(marks.line_ends, at + 1)) :]
    if marks.lacks_line_end and at < len(data):
        ends = np.append(ends, len(data))
    number = line + int(marks.lines_before(at))
    for end in ends.tolist():
        text, at = data[at:end], end
        number += 1
        if not text.strip(b"\r\n"):
            continue
        row = _mended(text, dialect) if len(text) <= MAX_RECORD_BYTES else None
        if row is None:
            cut.bad.append(Bad(number - 1, UNCLOSED, text[:MAX_RECORD_BYTES]))
        else:
            mended.append(row)
    return at


def _swallowing(
    marks: Marks, dialect: Dialect, starts: Indices, ends: Indices, is_bad: Flags, line_counts: Indices
) -> Indices:
    """Records in which a quote that was not closed has swallowed lines.

    A value over several lines stands in a column that is no text, or a line within it looks like a row. The last line
    counts only where all of them have as many fields as a row: it holds the columns after the value too.
    """
    is_long = (line_counts > 1) & ~is_bad
    if dialect.fields < 2 or not is_long.any():
        return np.zeros(0, np.int64)
    quotes = np.searchsorted(marks.quotes, starts)
    of = np.searchsorted(starts, marks.delimiters, "right") - 1
    separating = marks.delimiters[(marks.quotes_before_delimiter - quotes[of]) % 2 == 0]
    of = np.searchsorted(starts, marks.line_ends - 1, "right") - 1
    breaks, of = (places[(of >= 0) & (marks.line_ends < ends[of])] for places in (marks.line_ends, of))
    columns = np.searchsorted(separating, breaks) - np.searchsorted(separating, starts[of])
    is_swallowing = np.zeros(len(starts), bool)
    is_swallowing[of[np.isin(columns, dialect.no_texts)]] = True

    bounds = np.concatenate(([0], marks.line_ends, [len(marks.data)]))
    fits = np.diff(np.searchsorted(marks.delimiters, bounds)) == dialect.fields - 1
    fitting = np.concatenate(([0], np.cumsum(fits)))
    first = marks.lines_before(starts)
    all_fit = fitting[first + line_counts] - fitting[first] == line_counts
    inner_fit = fitting[first + line_counts - 1] - fitting[np.minimum(first + 1, first + line_counts - 1)]
    is_suspect = all_fit | ((inner_fit > 0) & bool(dialect.no_texts))
    for index in np.flatnonzero(is_suspect & is_long & ~is_swallowing):
        lines = marks.data[starts[index] : ends[index]].splitlines()[1 : None if all_fit[index] else -1]
        rows = [line.decode("utf-8", "replace").split(dialect.delimiter) for line in lines]
        is_swallowing[index] = any(
            len(row) == dialect.fields and dialect.looks_like_row([value.strip('"') for value in row]) for row in rows
        )
    swallowing: Indices = np.flatnonzero(is_swallowing & is_long)
    return swallowing


def _runs(data: bytes, starts: Indices, ends: Indices, is_good: Flags) -> list[bytes | memoryview]:
    """Text of good records, neighbours in one piece."""
    chosen = np.flatnonzero(is_good)
    if not len(chosen):
        return []
    breaks = np.flatnonzero(starts[chosen[1:]] != ends[chosen[:-1]]) + 1
    firsts, lasts = starts[chosen[np.append(0, breaks)]], ends[chosen[np.append(breaks, len(chosen)) - 1]]
    pieces: list[bytes | memoryview] = []
    for first, last in zip(firsts, lasts, strict=True):
        pieces.append(memoryview(data)[first:last])
        if data[last - 1] not in (10, 13):
            pieces.append(b"\n")
    return pieces


def _parse(text: bytes, delimiter: str) -> list[str]:
    if b"\0" in text:
        raise csv.Error("it holds NUL bytes")
    rows = list(csv.reader(io.StringIO(text.decode(), newline=""), delimiter=delimiter, strict=True))
    if len(rows) != 1:
        raise csv.Error(f"{len(rows)} lines where one was expected")
    return rows[0]


def _mended(text: bytes, dialect: Dialect) -> bytes | None:
    """A line whose quotes are no more than characters within its values (5" pipe), quoted; None where it is not."""
    try:
        values = _parse(text, dialect.delimiter)
    except (csv.Error, UnicodeDecodeError):
        return None
    if len(values) != dialect.fields:
        return None
    row = io.StringIO(newline="")
    csv.writer(row, delimiter=dialect.delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(values)
    return row.getvalue().encode()
