"""Small files of the store, each read and written whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.errors import DataError
from pipelines.store import objects
from pipelines.store.address import is_far
from pipelines.store.explained import explained
from pipelines.store.scope import Kept, current


class Stored(NamedTuple):
    """A file of the store."""

    uri: str
    size: int
    """bytes"""
    modified: float
    """when it was written, in Unix seconds by the store's clock"""
    stamp: str
    """another one whenever the content is"""


def read_bytes(uri: str) -> bytes:
    """Raises DataError when nothing is there."""
    content = find_bytes(uri)
    if content is None:
        raise DataError("there is nothing at this address", where=uri, cure="run the stage that writes it")
    return content


def find_bytes(uri: str) -> bytes | None:
    """What is there, if anything is."""
    with explained(uri):
        return kept().get(uri, lambda: _fetch(uri)) if is_far(uri) else _fetch(uri)


def write_bytes(uri: str, content: bytes) -> str:
    """Whole or not at all on S3; gives the URI back."""
    with explained(uri):
        if is_far(uri):
            objects.write(uri, content)
            kept().put(uri, content)
        else:
            path = local(uri)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return uri


def read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


def find_json(uri: str) -> Any:
    """What is there; None if nothing is."""
    content = find_bytes(uri)
    return None if content is None else json.loads(content)


def write_json(uri: str, value: Any) -> str:
    return write_bytes(uri, json.dumps(value, indent=1, sort_keys=True).encode())


def exists(uri: str) -> bool:
    """Whether a file is there. Who is going to read it asks `find_bytes`."""
    with explained(uri):
        return objects.is_there(uri) if is_far(uri) else local(uri).is_file()


def delete(uri: str) -> None:
    """Delete a file; nothing there is fine."""
    with explained(uri):
        if is_far(uri):
            objects.delete(uri)
            kept().put(uri, None)
        else:
            local(uri).unlink(missing_ok=True)


def delete_folder(uri: str, *beside: str) -> None:
    """Delete a folder with all that is in it, and the files whose names are the folder's with `beside` at their end."""
    with explained(uri):
        if is_far(uri):
            key = uri.removeprefix(f"s3://{objects.bucket_of(uri)}/")
            doomed = {f"{key}{ending}" for ending in beside}
            keys = [
                entry.key for entry in objects.listing(uri) if entry.key.startswith(f"{key}/") or entry.key in doomed
            ]
            if keys:
                objects.delete_all(objects.bucket_of(uri), keys)
            kept().forget(uri)
        else:
            path = local(uri)
            if path.is_dir():
                shutil.rmtree(path)
            for ending in beside:
                local(f"{uri}{ending}").unlink(missing_ok=True)


def has_folder(uri: str) -> bool:
    """Whether anything lies in a folder."""
    with explained(uri):
        if is_far(uri):
            return next(objects.listing(f"{uri}/", most=1), None) is not None
        return local(uri).is_dir()


def folders(uri: str) -> list[str]:
    """Names of the folders in a folder, sorted; none where there is no such folder. What lies in them is not listed."""
    with explained(uri):
        if is_far(uri):
            return objects.folders(f"{uri}/")
        return sorted(path.name for path in local(uri).glob("*/"))


def listing(uri: str) -> Iterator[Stored]:
    """All files in a folder and in the folders within; none where there is no such folder."""
    with explained(uri):
        if is_far(uri):
            bucket = objects.bucket_of(uri)
            for entry in objects.listing(f"{uri}/"):
                yield Stored(f"s3://{bucket}/{entry.key}", entry.size, entry.modified, entry.etag)
            return
        for path in sorted(local(uri).rglob("*")):
            if path.is_file():
                about = path.stat()
                stamp = f"{about.st_mtime_ns}:{about.st_ino}:{about.st_size}"
                yield Stored(f"file://{path}", about.st_size, about.st_mtime, stamp)


def kept() -> Kept:
    """What the running task has read; without one, nothing is kept for longer than whoever asks keeps it."""
    task = current()
    return task.objects if task else Kept()


def local(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def _fetch(uri: str) -> bytes | None:
    try:
        return objects.read(uri) if is_far(uri) else local(uri).read_bytes()
    except FileNotFoundError:
        return None
