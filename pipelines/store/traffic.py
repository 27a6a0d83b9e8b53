"""What this process has asked the store for so far: a meter of tasks looks before and after."""

from __future__ import annotations

import threading
from typing import NamedTuple


class Traffic(NamedTuple):
    """Requests to an S3 server, and the bytes that came and went with them; of a store in a folder nothing."""

    requests: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


_lock = threading.Lock()  # objects are fetched by several threads
_so_far = Traffic()


def so_far() -> Traffic:
    """Since this process began, or since it was forked from one that had counted already: that one's, too."""
    return _so_far


def count(requests: int = 0, bytes_read: int = 0, bytes_written: int = 0) -> None:
    """Add what was just asked for."""
    global _so_far
    with _lock:
        before = _so_far
        _so_far = Traffic(
            before.requests + requests, before.bytes_read + bytes_read, before.bytes_written + bytes_written
        )
