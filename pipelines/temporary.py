"""Folders for what is there for a while: of this user alone, and gone with the process that made them.

They hold rows of people. Whoever uses a folder holds a lock on it, which the system drops with the process: what a
process that was killed has left is removed by the next one that makes a folder. Where folders cannot be locked, as on
some network drives, none is ever taken for left behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pipelines.errors import ConfigError

LOCKED_WITHIN_S = 60.0  # a folder that is older, and not locked, is nobody's


class Held(NamedTuple):
    """A folder of this process."""

    folder: Path
    lock: int
    process: int

    def remove(self) -> None:
        if os.getpid() == self.process:  # a process that forked leaves it to the one that goes on using it
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock)


def hold(kind: str) -> Held:
    """An empty folder, beside others of its kind; those that killed processes have left are removed.

    Raises:
        ConfigError: no folder for temporary files can be written to.
    """
    root = own_folder(kind)
    if root:
        _sweep(root)
    try:
        folder = Path(tempfile.mkdtemp(prefix="evergreen-", dir=root))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise ConfigError(
            f"there is no folder for temporary files: {error}",
            where="TMPDIR",
            cure="set it to a folder on a disk of this machine that can be written to",
        ) from error
    lock = os.open(folder, os.O_RDONLY)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    return Held(folder, lock, os.getpid())


@contextmanager
def temporary_folder() -> Iterator[str]:
    """An empty folder, gone at the end."""
    held = hold("temporary")
    try:
        yield str(held.folder)
    finally:
        held.remove()


def own_folder(*names: str) -> Path | None:
    """A folder that outlives its processes, made if need be; None where there is none that nobody else can write to."""
    try:
        root = Path(tempfile.gettempdir(), f"evergreen-copies-{os.geteuid()}")
        root.mkdir(mode=0o700, exist_ok=True)
        about = root.lstat()
        if root.is_symlink() or about.st_uid != os.geteuid() or about.st_mode & 0o077:
            return None
        folder = root.joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        try:
            if time.time() - folder.stat().st_mtime < LOCKED_WITHIN_S:
                continue
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # somebody else has removed it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # it is in use
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
