"""Bytes that come in pieces, read like a file."""

from __future__ import annotations

import sys


class Chunks:
    """A file of what `_next` gives."""

    def __init__(self) -> None:
        self._rest = b""

    def _next(self) -> bytes:
        """The next piece, waited for; b"" when there is no more."""
        raise NotImplementedError

    def read(self, size: int | None = None) -> bytes:
        """`size` bytes, or all; fewer at the end only."""
        pieces, wanted = [], sys.maxsize if size is None or size < 0 else size
        while wanted and (piece := self._rest or self._next()):
            pieces.append(piece[:wanted])
            self._rest = piece[wanted:]
            wanted -= len(pieces[-1])
        return b"".join(pieces)

    def readline(self, size: int | None = None) -> bytes:
        """Up to and with the next newline, `size` bytes at most."""
        pieces, wanted = [], sys.maxsize if size is None or size < 0 else size
        while wanted and (piece := self._rest or self._next()):
            end = min(wanted, piece.find(b"\n") + 1 or len(piece))
            pieces.append(piece[:end])
            self._rest = piece[end:]
            wanted -= end
            if pieces[-1].endswith(b"\n"):
                break
        return b"".join(pieces)
