"""Copies of what tables on S3 are made of, kept on this machine for the tasks to come.

Neither an object of a log nor a file of rows ever changes. Once a table was deleted and written anew, another ETag says
that an object of its log is another one; the name of a file of rows is never used again. Copies lie in a folder of this
user below the one for temporary files (TMPDIR); where that is not the user's own, none are kept.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pipelines.store.objects import Listed

KEPT_BYTES = 512 * 2**20  # of rows, of all tables together


class LogCopies:
    """What is kept of one table's log: a file each, `<name of the object>@<its ETag>`."""

    def __init__(self, uri: str) -> None:
        self._folder = own_folder("logs", _digest(_place(uri)))

    def find(self, name: str, etag: str) -> bytes | None:
        return _read(self._folder / _log_name(name, etag)) if self._folder else None

    def add(self, name: str, etag: str, content: bytes) -> None:
        if self._folder:
            _write(self._folder / _log_name(name, etag), content)

    def start(self) -> str:
        """Version of the newest checkpoint that is kept, as in its name: a listing from there on has all that is
        needed. Empty where none is kept."""
        return max((name.split(".")[0] for name in self._names() if ".checkpoint." in name), default="")

    def agree(self, checkpoints: Iterable[Listed]) -> bool:
        """Whether the checkpoint that `start` names is among these, unchanged."""
        start = self.start()
        listed = {_log_name(one.key.rpartition("/")[2], one.etag) for one in checkpoints}
        return not start or any(name in listed for name in self._names() if name.startswith(f"{start}.checkpoint."))

    def drop_all_but(self, needed: Iterable[Listed]) -> None:
        """What is older than the newest checkpoint is read seldom: by whoever pins an old version."""
        kept = {_log_name(one.key.rpartition("/")[2], one.etag) for one in needed}
        self._drop(set(self._names()) - kept)

    def clear(self) -> None:
        self._drop(self._names())

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            assert self._folder is not None
            (self._folder / name).unlink(missing_ok=True)

    def _names(self) -> list[str]:
        return [path.name for path in self._folder.iterdir()] if self._folder else []


class RowCopies:
    """What is kept of the tables' files of rows; the longest unused go where they are more than KEPT_BYTES."""

    def __init__(self, uri: str) -> None:
        self._place = _place(uri)
        self._folder = own_folder("rows")

    def find(self, path: str, size: int) -> bytes | None:
        """The file at `path` of the table, of `size` bytes."""
        if self._folder is None:
            return None
        copy = self._folder / self._name(path)
        content = _read(copy)
        if content is None or len(content) != size:
            return None
        copy.touch()  # its time of change is when it was last used
        return content

    def add(self, path: str, content: bytes) -> None:
        if self._folder:
            _write(self._folder / self._name(path), content)
            self._make_room()

    def _make_room(self) -> None:
        assert self._folder is not None
        ages = []
        for entry in os.scandir(self._folder):
            try:
                about = entry.stat()
            except FileNotFoundError:  # another task has dropped it
                continue
            ages.append((about.st_mtime, about.st_size, entry.path))
        excess = sum(size for _, size, _ in ages) - KEPT_BYTES
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


def _log_name(name: str, etag: str) -> str:
    bare = etag.strip('"')  # not every answer has the quotes
    return f"{name}@{_digest(bare)}"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: other tasks read here."""
    file, unfinished = tempfile.mkstemp(dir=path.parents[1])
    with os.fdopen(file, "wb") as stream:
        stream.write(content)
    Path(unfinished).replace(path)


def own_folder(*names: str) -> Path | None:
    """A folder for copies, made if need be; None where there is none that nobody else can write to."""
    root = Path(tempfile.gettempdir(), f"evergreen-copies-{os.geteuid()}")
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        about = root.lstat()
        if root.is_symlink() or about.st_uid != os.geteuid() or about.st_mode & 0o077:
            return None
        folder = root.joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder
