"""What the pages of a Parquet file say they unpack to: a footer may say less.

A page begins with a header in Thrift's compact protocol (parquet-format, parquet.thrift: PageHeader), of which two
numbers are wanted: how large the page is, unpacked and packed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

UNPACKED, PACKED = 2, 3  # fields of PageHeader
READ_BYTES = 512  # of a page, at first: most headers are shorter
MAX_HEADER_BYTES = 4 << 20  # it may hold two values of its page
BOOLEANS, BYTE, NUMBERS, DOUBLE, TEXT, LISTS, MAP, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 11, 12
MAX_LEVELS = 8  # of structures in one another


class Page(NamedTuple):
    """A page, in bytes."""

    header: int
    packed: int
    unpacked: int


def pages(stream: Any, start: int, end: int) -> Iterator[Page]:
    """The pages of a column between two places of a file.

    Raises:
        ValueError: there is no such page.
    """
    at = start
    while at < end:
        page = _page(stream, at, end)
        if page.packed < 0 or page.unpacked < 0 or at + page.header + page.packed > end:
            raise ValueError(f"a page of {page.packed:,} bytes at {at:,}, where its column has {end - at:,}")
        yield page
        at += page.header + page.packed


def _page(stream: Any, at: int, end: int) -> Page:
    size = READ_BYTES
    while True:
        stream.seek(at)
        data = bytes(stream.read(min(size, end - at)))
        try:
            fields = _Fields(data)
            sizes = fields.structure()
            return Page(fields.at, sizes[PACKED], sizes[UNPACKED])
        except KeyError as error:
            raise ValueError(f"no page begins at {at:,}") from error
        except IndexError as error:
            if size >= min(MAX_HEADER_BYTES, end - at):
                raise ValueError(f"no page begins at {at:,}") from error
            size *= 16


class _Fields:
    """Thrift's compact protocol, as far as it takes to pass over a structure; raises IndexError where it ends early."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def structure(self, level: int = 0) -> dict[int, int]:
        """The numbers of a structure by their fields; what else is there is passed over."""
        if level > MAX_LEVELS:
            raise ValueError("structures in one another without end")
        numbers: dict[int, int] = {}
        field = 0
        while first := self._byte():
            kind, step = first & 0x0F, first >> 4
            field = field + step if step else self._number()
            if kind in NUMBERS:
                numbers[field] = self._number()
            elif kind not in BOOLEANS:  # whose value is their kind
                self._pass(kind, level)
        return numbers

    def _pass(self, kind: int, level: int) -> None:
        if kind in (*BOOLEANS, BYTE):  # in a list
            self._skip(1)
        elif kind in NUMBERS:
            self._number()
        elif kind == DOUBLE:
            self._skip(8)
        elif kind == TEXT:
            self._skip(self._whole())
        elif kind in LISTS:
            first = self._byte()
            count = first >> 4 if first >> 4 < 15 else self._whole()
            for _ in range(count):
                self._pass(first & 0x0F, level + 1)
        elif kind == STRUCT:
            self.structure(level + 1)
        else:
            raise ValueError(f"a value of kind {kind}, which no page's header has")

    def _byte(self) -> int:
        byte = self._data[self.at]
        self.at += 1
        return byte

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise IndexError(self.at)

    def _whole(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _number(self) -> int:
        value = self._whole()
        return (value >> 1) ^ -(value & 1)
