"""Whether the object store's files still have the extended attributes in which Swift keeps what it knows of them."""

from __future__ import annotations

import errno
import os
import sys
from itertools import islice
from pathlib import Path

from pipelines.errors import ConfigError

METADATA = "user.swift.metadata"
LOOKED_AT = 64  # files in each of the 16 partitions


def refuse_without_attributes(home: Path) -> None:
    """Look at a sample of the objects. Swift takes a file without attributes for a damaged one and moves it away.

    Raises:
        ConfigError: some have none, so they were copied by something that does not copy extended attributes.
    """
    if sys.platform != "linux":
        return  # there is no object store then
    objects = home / "object_store" / "devices" / "d1" / "objects"
    partitions = sorted(objects.iterdir()) if objects.is_dir() else []
    files = [path for partition in partitions for path in islice(partition.glob("*/*/*.data"), LOOKED_AT)]
    bare = [path for path in files if _lacks_metadata(path)]
    if bare:
        raise ConfigError(
            f"the object store's files lost their extended attributes: {len(bare)} of {len(files)} looked at have no "
            f"{METADATA}; they were copied by something that leaves it behind, as `cp -r` and plain `tar` do",
            where=str(bare[0]),
            cure=f"nothing was touched; remove {home}, and make it again from the original, whose services are down, "
            "with `cp -a`, `rsync -aX` or `tar --xattrs --xattrs-include='user.*'` (to pack and to unpack)",
        )


def _lacks_metadata(path: Path) -> bool:
    try:
        os.getxattr(path, METADATA)
    except FileNotFoundError:  # removed since
        return False
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return True
        raise
    return False
