"""A home folder in one file, and back: with the extended attributes that the object store keeps its metadata in.

The file is a tar archive, in which extended attributes are records as GNU tar and bsdtar write them. It is written and
read as a stream, a file at a time. Last in it is the SHA-256 of each file and its attributes, so that damage is known
by its place. A home is backed up while nothing runs that writes to it: databases, tables and the registry then are of
one moment. Secrets are in it: without them nothing of the rest can be read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import IO, NamedTuple

from pipelines.embedded.object_store import refuse_without_attributes
from pipelines.embedded.processes.home import only_supervisor, require_room, supervisor_of
from pipelines.embedded.processes.supervisor import marked
from pipelines.errors import ConfigError, DataError

Tell = Callable[[str], None]

FORMAT = 1
HEAD, INDEX = "evergreen-backup.json", "evergreen-backup.sha256.json"
ATTRIBUTE = "SCHILY.xattr."  # how tar archives name a record that is an extended attribute
# What is made again when it is missing, what is of the one process that runs, and the full stack, whose databases have
# tools of their own for it.
LEFT_OUT = {"object_store/venv", "object_store/etc", "lock", "stack"}
CHUNK = 2**20
CODING, BYTES_AS_THEY_ARE = "utf-8", "surrogateescape"  # attributes are bytes, and records of an archive are texts
MOST_NAMED = 10  # damaged files in a message


class Kept(NamedTuple):
    """What is in a backup."""

    files: int
    bytes: int


def back_up(home: Path, archive: Path, tell: Tell = lambda step: None) -> Kept:
    """Write a home folder to a new file that only its owner can read.

    Raises:
        ConfigError: the services are up, the file exists, there is no room, or the folder is no home.
        DataError: something has changed the folder meanwhile.
    """
    _require_home(home, archive)
    with only_supervisor(home), _new_file(archive) as stream:
        paths = [*_walk(home)]
        sizes = sum(path.lstat().st_size for path in paths if path.is_file())
        require_room(archive.parent, sizes, "what is to be written takes")
        kept = Kept(sum(path.is_file() for path in paths), sizes)
        head = {"format": FORMAT, "made": datetime.now(UTC).isoformat(), "home": str(home), **kept._asdict()}
        hashes: dict[str, str] = {}
        with tarfile.open(
            fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, encoding=CODING, errors=BYTES_AS_THEY_ARE
        ) as tar:
            _add_json(tar, HEAD, head)
            for path in paths:
                name = path.relative_to(home).as_posix()
                tell(name.split("/")[0])
                if path.is_dir():
                    tar.addfile(_member(name, path))
                else:
                    hashes[name] = _add_file(tar, name, path)
            _add_json(tar, INDEX, hashes)
        if [*_walk(home)] != paths:
            raise _changed(home)
    return kept


def restore(archive: Path, home: Path, tell: Tell = lambda step: None) -> Kept:
    """Make a home folder of a backup. It is there whole, every file as it was, or not at all.

    Raises:
        ConfigError: the folder is not empty, there is no room, or it cannot keep extended attributes.
        DataError: the file is no backup, or it is damaged; the message says which files are.
    """
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise ConfigError(
            "there is something in the folder that is to be restored",
            where=str(home),
            cure="set EVERGREEN_HOME to a folder that is empty or not there, or move what is there away",
        )
    home.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=f"{home.name}.restoring-", dir=home.parent))
    try:
        kept = _unpacked(archive, folder, tell)
        refuse_without_attributes(folder)
        folder.replace(home)  # an empty folder gives way
    except OSError as error:
        raise ConfigError(
            f"the folder cannot be restored: {error}",
            where=str(home),
            cure="is its disk full or read-only, does its file system keep extended attributes, is the folder itself a "
            "mount point? Set EVERGREEN_HOME to another folder",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return kept


def _require_home(home: Path, archive: Path) -> None:
    if not (home / "secrets.json").is_file():
        raise ConfigError(
            "there is no home of embedded services here", where=str(home), cure="set EVERGREEN_HOME to the one you mean"
        )
    if supervisor_of(home) is not None or marked(home):
        raise ConfigError(
            "the embedded services are up: what is written meanwhile would be half in the backup",
            where=str(home),
            cure="evergreen down, then this again",
        )
    if archive.exists():
        raise ConfigError("the file exists", where=str(archive), cure="name another one: none is written over")
    if archive.resolve().is_relative_to(home):
        raise ConfigError("the file would be part of itself", where=str(archive), cure=f"name one outside of {home}")
    refuse_without_attributes(home)


@contextmanager
def _new_file(archive: Path) -> Iterator[IO[bytes]]:
    """A file that is there once all is written, and that only its owner can read from the first byte on."""
    draft = archive.with_name(f"{archive.name}.draft")
    try:
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(
            f"the file cannot be written: {error.strerror}", where=str(archive), cure="name one in a folder of yours"
        ) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(archive)
    except OSError as error:
        raise DataError(
            f"the backup was not written: {error}", where=str(archive), cure="is its disk full? Then another one"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _walk(home: Path) -> Iterator[Path]:
    """Folders and files, each folder before what is in it. Links and sockets are of running processes and logs."""
    for path in sorted(home.iterdir()):
        yield from _below(home, path)


def _below(home: Path, path: Path) -> Iterator[Path]:
    mode = path.lstat().st_mode
    if path.relative_to(home).as_posix() in LEFT_OUT:
        return
    if stat.S_ISREG(mode):
        yield path
    elif stat.S_ISDIR(mode):
        yield path
        for inner in sorted(path.iterdir()):
            yield from _below(home, inner)


def _member(name: str, path: Path) -> tarfile.TarInfo:
    about = path.stat()
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = about.st_mode & 0o777, about.st_mtime
    if path.is_dir():
        info.type = tarfile.DIRTYPE
        return info
    info.size = about.st_size
    info.pax_headers = {f"{ATTRIBUTE}{key}": _text(value) for key, value in _attributes(path).items()}
    return info


def _attributes(path: Path) -> dict[str, bytes]:
    """Extended attributes of a file; none where there can be none."""
    if not hasattr(os, "listxattr"):
        return {}
    try:
        return {key: os.getxattr(path, key) for key in sorted(os.listxattr(path)) if key.startswith("user.")}
    except OSError:  # a file system without any
        return {}


def _add_file(tar: tarfile.TarFile, name: str, path: Path) -> str:
    before, attributes = path.stat(), _attributes(path)
    with path.open("rb") as content:
        hashed = _Hashed(content)
        try:
            tar.addfile(_member(name, path), hashed)
        except OSError as error:
            if path.exists() and path.stat().st_size == before.st_size:
                raise
            raise _changed(path) from error
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _changed(path)
    return hashed.with_attributes(attributes)


def _add_json(tar: tarfile.TarFile, name: str, value: object) -> None:
    content = json.dumps(value).encode()
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o600
    tar.addfile(info, BytesIO(content))


def _changed(path: Path) -> DataError:
    return DataError(
        "something has changed the folder while it was read",
        where=str(path),
        cure="end whatever writes to it, such as an `evergreen run` in another terminal; then this again",
    )


class _Hashed:
    """A file that is read once, and hashed on the way."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._content.read(size)
        self._hash.update(chunk)
        return chunk

    def with_attributes(self, attributes: dict[str, bytes]) -> str:
        for key, value in sorted(attributes.items()):
            self._hash.update(f"\0{key}\0{len(value)}\0".encode() + value)
        return self._hash.hexdigest()


def _unpacked(archive: Path, folder: Path, tell: Tell) -> Kept:
    """Write all that is in an archive below `folder`, and hold it against the archive's own index."""
    hashes: dict[str, str] = {}
    modes: dict[Path, int] = {}
    head, index, name = None, None, ""
    try:
        with (
            archive.open("rb") as stream,
            tarfile.open(fileobj=stream, mode="r|", encoding=CODING, errors=BYTES_AS_THEY_ARE) as tar,
        ):
            for info in tar:
                name = info.name
                content = tar.extractfile(info)
                if head is None:
                    head = _head(archive, folder, name, content)
                elif name == INDEX and content is not None:
                    index = json.load(content)
                elif info.isdir():
                    path = _inside(folder, name, archive)
                    path.mkdir(mode=0o700, exist_ok=True)
                    modes[path] = info.mode & 0o777
                elif content is not None:
                    tell(name.split("/")[0])
                    hashes[name] = _written(_inside(folder, name, archive), info, content)
    except FileNotFoundError as error:
        if not archive.exists():
            raise ConfigError("there is no such file", where=str(archive), cure="name a backup") from error
        raise
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _damaged(archive, f"it cannot be read after {name or 'its beginning'}: {error}") from error
    if head is None:
        raise _no_backup(archive)
    if index is None:
        raise _damaged(archive, f"it ends early, after {name}")
    wrong = sorted(name for name in {*hashes, *index} if hashes.get(name) != index.get(name))
    if wrong:
        more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        raise _damaged(archive, f"{len(wrong)} files are not as they were: {', '.join(wrong[:MOST_NAMED])}{more}")
    for path, mode in modes.items():
        path.chmod(mode)
    return Kept(int(head["files"]), int(head["bytes"]))


def _head(archive: Path, folder: Path, name: str, content: IO[bytes] | None) -> dict[str, int]:
    """What an archive says of itself, which comes first in it."""
    if name != HEAD or content is None:
        raise _no_backup(archive)
    head: dict[str, int] = json.load(content)
    if head.get("format") != FORMAT:
        raise DataError(
            f"the backup has the format {head.get('format')}, and this Evergreen reads {FORMAT}",
            where=str(archive),
            cure="restore it with the Evergreen that has made it, or a newer one",
        )
    require_room(folder, int(head["bytes"]), "what is to be written takes")
    return head


def _written(path: Path, info: tarfile.TarInfo, content: IO[bytes]) -> str:
    hashed = _Hashed(content)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := hashed.read(CHUNK):
            file.write(chunk)
    attributes = {
        key.removeprefix(ATTRIBUTE): _bytes(value)
        for key, value in info.pax_headers.items()
        if key.startswith(f"{ATTRIBUTE}user.")
    }
    for key, value in attributes.items():
        os.setxattr(path, key, value)
    path.chmod(info.mode & 0o777)
    os.utime(path, (info.mtime, info.mtime))
    return hashed.with_attributes(attributes)


def _inside(folder: Path, name: str, archive: Path) -> Path:
    """A path below `folder`; no archive says where else to write."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
        raise _damaged(archive, f"it names {name!r}, which lies outside of the folder")
    return folder.joinpath(*parts)


def _no_backup(archive: Path) -> DataError:
    return DataError("the file is no backup", where=str(archive), cure="name one that `evergreen backup` has made")


def _damaged(archive: Path, how: str) -> DataError:
    return DataError(
        f"the backup is damaged: {how}", where=str(archive), cure="nothing was restored; take another copy of it"
    )


def _text(value: bytes) -> str:
    return value.decode(CODING, BYTES_AS_THEY_ARE)


def _bytes(text: str) -> bytes:
    return text.encode(CODING, BYTES_AS_THEY_ARE)
