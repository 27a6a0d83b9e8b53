"""What the quotes of a CSV do to its delimiters and line ends, for whole blocks of text at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.ingest.sources.lines import Indices, line_ends


class Marks:
    """Places of quotes, delimiters and line ends in a text, and what they mean from a given start."""

    def __init__(self, data: bytes, delimiter: str, is_last: bool) -> None:
        self.data, self.is_last = data, is_last
        self.lacks_line_end = is_last and data[-1] not in (10, 13)
        self.codes = codes = np.frombuffer(data, np.uint8)
        end = len(codes) - 1
        self.line_ends = line_ends(data, is_last=is_last)
        self.delimiters: Indices = np.flatnonzero(codes == ord(delimiter))
        self.quotes: Indices = np.flatnonzero(codes == 34)
        self.quotes_before_line_end = np.searchsorted(self.quotes, self.line_ends)
        self.quotes_before_delimiter = np.searchsorted(self.quotes, self.delimiters)
        before, after = codes[np.maximum(self.quotes - 1, 0)], codes[np.minimum(self.quotes + 1, end)]
        beside_opening = np.isin(before, (ord(delimiter), 10, 13, 34))
        beside_closing = np.isin(after, (ord(delimiter), 10, 13, 34))
        is_even = np.arange(len(self.quotes)) % 2 == 0
        # Quotes that break the grammar, if the first of an even (odd) index opens a value.
        self.wrong = (
            np.flatnonzero(~np.where(is_even, beside_opening, beside_closing)),
            np.flatnonzero(~np.where(is_even, beside_closing, beside_opening)),
        )

    def quotes_before(self, at: int) -> int:
        return int(np.searchsorted(self.quotes, at))

    def damage_after(self, at: int) -> tuple[int, bool]:
        """Place of the first quote that breaks the grammar (or the end), and whether there is one."""
        first = self.quotes_before(at)
        wrong = self.wrong[first % 2]
        index = int(np.searchsorted(wrong, first))
        return (int(self.quotes[wrong[index]]), True) if index < len(wrong) else (len(self.data), False)

    def record_ends(self, at: int, limit: int) -> Indices:
        """Line ends outside quotes, for a record that begins at `at`."""
        first, last = np.searchsorted(self.line_ends, [at + 1, limit + 1])
        is_outside = (self.quotes_before_line_end[first:last] - self.quotes_before(at)) % 2 == 0
        ends: Indices = self.line_ends[first:last][is_outside]
        return ends

    def fields(self, at: int, starts: Indices, ends: Indices) -> Indices:
        first, last = np.searchsorted(self.delimiters, [at, int(ends[-1])])
        is_outside = (self.quotes_before_delimiter[first:last] - self.quotes_before(at)) % 2 == 0
        separating = self.delimiters[first:last][is_outside]
        fields: Indices = np.searchsorted(separating, ends) - np.searchsorted(separating, starts) + 1
        return fields

    def is_open(self, at: int) -> bool:
        """Whether the text ends within quotes, for a record that begins at `at`."""
        return (len(self.quotes) - self.quotes_before(at)) % 2 == 1

    def line_end(self, at: int) -> int | None:
        """One past the physical line that begins at a place; None where more of it may come."""
        index = int(np.searchsorted(self.line_ends, at + 1))
        if index < len(self.line_ends):
            return int(self.line_ends[index])
        return len(self.data) if self.is_last else None

    def lines_before(self, at: Any) -> Any:
        """How many lines end at or before a place; the end of the text is the end of a line."""
        is_end = np.equal(at, len(self.data)) & self.lacks_line_end
        return np.searchsorted(self.line_ends, at, "right") + is_end
