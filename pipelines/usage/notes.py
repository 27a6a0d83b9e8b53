"""Tries are noted on the machine that they run on: a small file each, until they are rows of `runs`.

A note is there from the first moment of a try on, and is brought up to date each second. Whoever makes it holds a lock
on it, which the system drops with the process: a note that has no end, and that nobody holds, is of a try that was
killed. The notes of a problem and a store lie in a folder of this user below the one for temporary files (TMPDIR).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from pipelines import store
from pipelines.temporary import own_folder
from pipelines.usage import machine
from pipelines.usage.tries import Try

SUFFIX = ".json"
KILLED = "killed"
OUT_OF_MEMORY = "killed, while the machine was out of memory"


class Note(BaseModel):
    """A file: a try as it was last heard of, and what tells how it came to its end."""

    attempt: Try
    """Its outcome is `killed` until it has ended: should nobody write another one, it was."""
    has_ended: bool = False
    oom_kills: int = 0
    """Of the machine, when it began."""


class Ended(NamedTuple):
    """A note that nobody writes any more."""

    path: Path
    attempt: Try


class Open:
    """The note of a try that runs here."""

    def __init__(self, folder: Path, note: Note) -> None:
        draft = folder / f"{note.attempt.id}.draft"
        self._file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._process = os.getpid()
        with suppress(OSError):  # where files cannot be locked none is ever taken for one of a killed try
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self.write(note)
        draft.rename(folder / f"{note.attempt.id}{SUFFIX}")  # whoever sees it, finds it locked

    def write(self, note: Note) -> None:
        if os.getpid() == self._process:
            _write(self._file, note)

    def close(self) -> None:
        os.close(self._file)


def folder_of(problem_name: str) -> Path | None:
    """Where the notes of a problem lie; None: there is no place that nobody else can write to."""
    place = f"{os.environ.get('AWS_ENDPOINT_URL', '')} {store.store_uri()}"
    return own_folder("usage", hashlib.sha256(place.encode()).hexdigest()[:32], problem_name)


def ended(folder: Path) -> list[Ended]:
    """The tries that have ended, those that were killed among them, the oldest first."""
    return sorted(_ended(folder), key=lambda note: note.attempt.started_time)


def forget(note: Ended) -> None:
    note.path.unlink(missing_ok=True)


@contextmanager
def turn(folder: Path) -> Iterator[bool]:
    """Whether this process alone now writes the folder's notes to the table."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Where files cannot be locked two may write the same rows, of which the table takes each once.
            yield error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
        else:
            yield True
    finally:
        os.close(lock)


def _ended(folder: Path) -> Iterator[Ended]:
    for path in folder.iterdir():
        if path.suffix != SUFFIX:
            continue
        note = _read(path)
        if note is None:
            continue
        if note.has_ended:
            yield Ended(path, note.attempt)
        elif _is_nobodys(path):
            # Between the two looks it may have ended well.
            last = _read(path) or note
            yield Ended(path, last.attempt if last.has_ended else _killed(last))


def _killed(note: Note) -> Try:
    is_full = machine.out_of_memory_kills() > note.oom_kills
    return note.attempt.model_copy(update={"reason": OUT_OF_MEMORY if is_full else KILLED})


def _is_nobodys(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # somebody else has written it to the table
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(lock)


def _read(path: Path) -> Note | None:
    try:
        return Note.model_validate_json(path.read_bytes().partition(b"\n")[0])
    except (OSError, ValidationError):  # gone, or of another version of this code
        return None


def _write(file: int, note: Note) -> None:
    """The first line is the note: what an older, longer one leaves behind it counts for nothing."""
    content = note.model_dump_json().encode() + b"\n"
    os.pwrite(file, content, 0)
    os.ftruncate(file, len(content))
