"""Folders in which a table on S3 is worked on, and those that killed tasks have left."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import time
import weakref
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from pipelines.errors import ConfigError
from pipelines.store.copies import own_folder

UNREADABLE = re.compile(r"[\[\]\\|^]|%[0-9A-Fa-f]{2}")
LOCKED_WITHIN_S = 60.0  # a folder that is older, and not locked, is nobody's


def working_folder(owner: object) -> Path:
    """An empty folder that is there as long as `owner` is; what tasks that were killed have left is removed.

    Whoever uses a folder holds a lock on it, which the system drops with the process. Where folders cannot be locked,
    as on some network drives, none is ever taken for left behind.

    Raises:
        ConfigError: no folder for temporary files can be written to, or it has a name that Delta cannot read.
    """
    root = own_folder("work")
    if root:
        _sweep(root)
    try:
        folder = Path(mkdtemp(prefix="evergreen-table-", dir=root))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise ConfigError(
            f"there is no folder for temporary files: {error}",
            where="TMPDIR",
            cure="set it to a folder on a disk of this machine that can be written to",
        ) from error
    if odd := UNREADABLE.search(str(folder)):
        folder.rmdir()
        raise ConfigError(
            f"Delta cannot work in a folder whose name has {odd.group()!r} in it",
            where=f"TMPDIR, {folder.parent}",
            cure="set it to another folder",
        )
    lock = os.open(folder, os.O_RDONLY)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    weakref.finalize(owner, _remove, folder, lock, os.getpid())
    return folder


def _remove(folder: Path, lock: int, process: int) -> None:
    if os.getpid() == process:  # a process that forked leaves it to the one that goes on using it
        shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


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
