"""Folders in which a table on S3 is worked on."""

from __future__ import annotations

import re
import weakref
from pathlib import Path

from pipelines.errors import ConfigError
from pipelines.temporary import hold

UNREADABLE = re.compile(r"[\[\]\\|^]|%[0-9A-Fa-f]{2}")


def working_folder(owner: object) -> Path:
    """An empty folder that is there as long as `owner` is.

    Raises:
        ConfigError: no folder for temporary files can be written to, or it has a name that Delta cannot read.
    """
    held = hold("work")
    if odd := UNREADABLE.search(str(held.folder)):
        held.remove()
        raise ConfigError(
            f"Delta cannot work in a folder whose name has {odd.group()!r} in it",
            where=f"TMPDIR, {held.folder.parent}",
            cure="set it to another folder",
        )
    weakref.finalize(owner, held.remove)
    return held.folder
