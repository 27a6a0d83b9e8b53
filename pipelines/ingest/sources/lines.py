"""Physical lines of a text, whatever ends them."""

from __future__ import annotations

import codecs

import numpy as np
import numpy.typing as npt

from pipelines.ingest.sources.limits import MAX_RECORD_BYTES

TOO_LONG = f"longer than {MAX_RECORD_BYTES >> 20} MB"

Indices = npt.NDArray[np.int64]


def line_ends(data: bytes, *, is_last: bool) -> Indices:
    r"""Places one past each \n, \r\n and lone \r; what follows the last of them is a line of its own.

    A \r at the very end may be half of a \r\n, unless the text `is_last`.

    >>> line_ends(b"a\r\nb\rc\n\nd", is_last=True).tolist()
    [3, 5, 7, 8]
    """
    codes = np.frombuffer(data, np.uint8)
    feeds, returns = np.flatnonzero(codes == 10), np.flatnonzero(codes == 13)
    if not len(returns):
        return feeds + 1
    end = len(codes) - 1
    lone = returns[codes[np.minimum(returns + 1, end)] != 10]
    lone = lone if is_last else lone[lone < end]
    return np.sort(np.concatenate((feeds, lone))) + 1


def no_text(data: bytes, ends: Indices, stop: int) -> Indices:
    r"""A place in each line, of those before `stop`, that holds a NUL or is not UTF-8.

    >>> no_text(b"a\n\xff\nb\0", np.array([2, 4]), 6).tolist()
    [5, 2]
    """
    view = memoryview(data)[:stop]
    undecodable, at = [], 0
    while at < stop:
        try:
            codecs.utf_8_decode(view[at:], "strict", True)
            break
        except UnicodeDecodeError as error:
            undecodable.append(at + error.start)
            index = int(np.searchsorted(ends, at + error.start + 1))
            at = int(ends[index]) if index < len(ends) else stop
    nuls = np.flatnonzero(np.frombuffer(view, np.uint8) == 0)
    return np.concatenate((nuls, np.array(undecodable, np.int64)))
