"""Files of a table that no version of it needs any more."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from urllib.parse import unquote

from deltalake import DeltaTable, PostCommitHookProperties
from deltalake.exceptions import TableNotFoundError

from pipelines.store.address import storage_options
from pipelines.store.explained import explained
from pipelines.store.files import Stored, listing

# The log stays as it is: a version that is pinned is read through it, however old it is.
HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def unneeded(uri: str, pinned: Collection[int], retention: timedelta) -> list[Stored]:
    """The files that `vacuum` would delete."""
    with explained(uri):
        table = _opened(uri)
        if table is None:
            return []
        paths = {unquote(path) for path in _vacuumed(table, pinned, retention, is_dry=True)}
    return [file for file in listing(uri) if unquote(file.uri.removeprefix(f"{uri}/")) in paths] if paths else []


def vacuum(uri: str, pinned: Collection[int], retention: timedelta) -> None:
    """Delete the files of a table that its newest version has replaced longer than `retention` ago, and those that old
    that no version knows, as a writer that was killed leaves them. The files of the versions `pinned` stay.

    A writer that is at work has younger files, and whoever reads a version that was the newest within `retention`
    finds all of it.
    """
    with explained(uri):
        table = _opened(uri)
        if table is not None:
            _vacuumed(table, pinned, retention, is_dry=False)


def _opened(uri: str) -> DeltaTable | None:
    try:
        return DeltaTable(uri, storage_options=storage_options())
    except TableNotFoundError:
        return None


def _vacuumed(table: DeltaTable, pinned: Collection[int], retention: timedelta, *, is_dry: bool) -> list[str]:
    paths: list[str] = table.vacuum(
        retention_hours=int(retention.total_seconds() // 3600),
        dry_run=is_dry,
        enforce_retention_duration=False,  # the caller's is the one that counts
        full=True,
        keep_versions=sorted(version for version in pinned if version <= table.version()),
        post_commithook_properties=HOOKS,
    )
    return paths
