"""Copies of what tables on S3 are made of, kept on this machine for the tasks to come.

Neither an object of a log nor a file of rows ever changes. Once a table was deleted and written anew, another ETag says
that an object of its log is another one; the name of a file of rows is never used again. Copies lie in a folder of this
user below the one for temporary files (TMPDIR); where that is not the user's own, none are kept. Nor do they have to be
there: what cannot be kept, since a disk is full or read-only, is fetched again; and they may be deleted at any time.

EVERGREEN_COPIES_MB says how many MB of rows are kept; 0 keeps nothing, of logs neither.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from pipelines.errors import ConfigError
from pipelines.store.objects import Listed
from pipelines.temporary import own_folder

KEPT_MB = 512  # of rows, of all tables together
SWEEPS = 16  # looks for room in the time in which one process adds as much as is kept: each looks at every copy


class LogCopies:
    """What is kept of one table's log: a file each, `<name of the object>@<its ETag>`."""

    def __init__(self, uri: str) -> None:
        self._folder = own_folder("logs", _digest(_place(uri))) if _kept_bytes() else None

    def find(self, name: str, etag: str, size: int) -> bytes | None:
        """The object, of `size` bytes."""
        return _read(self._folder / _log_name(name, etag), size) if self._folder else None

    def add(self, name: str, etag: str, content: bytes) -> None:
        if self._folder:
            _write(self._folder / _log_name(name, etag), content)

    def start(self) -> str:
        """Version of the newest checkpoint that is kept, as in its name: a listing from there on has all that is
        needed. Empty where none is kept."""
        return max((name.split(".")[0] for name in self._names() if ".checkpoint." in name), default="")

    def agree(self, start: str, listed: Iterable[Listed]) -> bool:
        """Whether the checkpoint that `start` named is among what was listed since, unchanged."""
        there = {_log_name(log_name(entry), entry.etag) for entry in listed}
        return not start or any(name in there for name in self._names() if name.startswith(f"{start}.checkpoint."))

    def drop_all_but(self, needed: Iterable[Listed]) -> None:
        """What is older than the newest checkpoint is read seldom: by whoever pins an old version."""
        kept = {_log_name(log_name(entry), entry.etag) for entry in needed}
        self._drop(set(self._names()) - kept)

    def clear(self) -> None:
        self._drop(self._names())

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            assert self._folder is not None
            with suppress(OSError):
                (self._folder / name).unlink()

    def _names(self) -> list[str]:
        try:
            return [path.name for path in self._folder.iterdir()] if self._folder else []
        except OSError:  # it was deleted
            return []


class RowCopies:
    """What is kept of the tables' files of rows; the longest unused go where they are more than EVERGREEN_COPIES_MB."""

    _unswept: ClassVar[int | None] = None  # bytes that this process has added since it last made room

    def __init__(self, uri: str) -> None:
        self._place = _place(uri)
        self._kept_bytes = _kept_bytes()
        self._folder = own_folder("rows") if self._kept_bytes else None

    def find(self, path: str, size: int) -> bytes | None:
        """The file at `path` of the table, of `size` bytes."""
        if self._folder is None:
            return None
        copy = self._folder / self._name(path)
        content = _read(copy, size)
        if content is not None:
            with suppress(OSError):
                os.utime(copy)  # its time of change is when it was last used
        return content

    def add(self, path: str, content: bytes) -> None:
        if not self._folder:
            return
        _write(self._folder / self._name(path), content)
        unswept = None if RowCopies._unswept is None else RowCopies._unswept + len(content)
        if unswept is None or unswept > self._kept_bytes // SWEEPS:
            unswept = 0
            with suppress(OSError):
                self._make_room()
        RowCopies._unswept = unswept

    def _make_room(self) -> None:
        assert self._folder is not None
        ages = []
        for entry in os.scandir(self._folder):
            try:
                about = entry.stat()
            except FileNotFoundError:  # another task has dropped it
                continue
            ages.append((about.st_mtime, about.st_size, entry.path))
        excess = sum(size for _, size, _ in ages) - self._kept_bytes
        for _, size, path in sorted(ages):
            if excess <= 0:
                return
            Path(path).unlink(missing_ok=True)
            excess -= size

    def _name(self, path: str) -> str:
        return _digest(f"{self._place}/{path}")


def _place(uri: str) -> str:
    return f"{os.environ.get('AWS_ENDPOINT_URL', '')} {uri}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def log_name(listed: Listed) -> str:
    """Name of an object of a log, in its folder."""
    return listed.key.rpartition("_delta_log/")[2]


def _log_name(name: str, etag: str) -> str:
    bare = etag.strip('"')  # not every answer has the quotes
    return f"{quote(name, safe='')}@{_digest(bare)}"


def _kept_bytes() -> int:
    amount = os.environ.get("EVERGREEN_COPIES_MB") or str(KEPT_MB)
    if not amount.isdecimal():
        raise ConfigError(
            f"{amount!r} is no number of megabytes", where="EVERGREEN_COPIES_MB", cure="give one such as 512; 0: none"
        )
    return int(amount) * 2**20


def _read(path: Path, size: int) -> bytes | None:
    """None if there is no such copy, or what a crash of the machine has left of one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if len(content) == size else None


def _write(path: Path, content: bytes) -> None:
    """Whole, for other tasks read here, or not at all: where there is no room, the next one fetches it again."""
    try:
        file, unfinished = tempfile.mkstemp(dir=path.parent)
    except OSError:
        return
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
        Path(unfinished).replace(path)
    except BaseException as error:
        Path(unfinished).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
