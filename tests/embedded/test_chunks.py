"""Bytes that come in pieces are read like a file, however they are cut."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from pipelines.embedded.object_store.chunks import Chunks


class Pieces(Chunks):
    """Chunks of a list."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self.left = list(pieces)

    def _next(self) -> bytes:
        return self.left.pop(0) if self.left else b""


STEPS = st.lists(st.tuples(st.sampled_from(["read", "readline"]), st.none() | st.integers(-1, 9)), max_size=12)
PIECES = st.lists(st.text("ab\n", min_size=1, max_size=6).map(str.encode), max_size=6)


@given(PIECES, STEPS)
def test_it_reads_as_a_file_does(pieces: list[bytes], steps: list[tuple[str, int | None]]) -> None:
    chunks, file = Pieces(pieces), io.BytesIO(b"".join(pieces))
    for method, size in [*steps, ("read", None), ("read", 1)]:
        assert getattr(chunks, method)(size) == getattr(file, method)(size)


def test_it_waits_for_no_piece_that_was_not_asked_for() -> None:
    chunks = Pieces([b"abc", b"def"])
    assert chunks.read(3) == b"abc"
    assert chunks.left == [b"def"]
    assert chunks.read(0) == b""
    assert chunks.left == [b"def"]
