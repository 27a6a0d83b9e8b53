"""Where a source's files lie: local disk, S3 or an installed package; and how their text is read, block by block."""

from __future__ import annotations

import codecs
import encodings.cp437  # of the names in a zip, imported while its file can be read  # noqa: F401
import gzip
import importlib.metadata
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import quote, unquote

from pipelines.config import Source
from pipelines.errors import AccessError, ConfigError, DataError, EvergreenError, ServiceUnavailable
from pipelines.ingest.sources.limits import MOST_DIRECTORY_BYTES, MOST_TEXT_EXPANSION, UNPACKED_BYTES
from pipelines.problem import Problem

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

BLOCK_BYTES = 512 << 10  # of text, of which each byte may be a mark that takes a hundred
ZIP_END_BYTES = 22  # at least: a comment may follow
SHOWN_CHARACTERS = 300  # of what a library says
SUFFIXES = {"csv": "csv|tsv|txt", "jsonl": "jsonl|ndjson|json", "parquet": "parquet|pq", "avro": "avro"}
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

# What unpacking raises when a file is damaged.
DAMAGED = (
    EOFError,
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ValueError,
    IndexError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)

# Text that cannot be decoded becomes a NUL, which no row may hold: the row is set aside, the others are read.
codecs.register_error("evergreen_nul", lambda error: ("\0", getattr(error, "end", 0)))


@dataclass(frozen=True)
class File:
    """One file: `path` is what its file system calls it, `name` what a person does, `modified` when it was written."""

    system: FileSystem
    path: str
    name: str
    size: int
    modified: str = ""


def place(problem: Problem, name: str) -> str:
    """Where a source is declared, for errors."""
    return f"{problem.folder / 'problem.yaml'}, sources.{name}"


def expand(text: str, where: str) -> str:
    """`text` with each `${NAME}` replaced by that environment variable.

    In the part of a URI before its `@` the value is percent-encoded: a password may hold any character.

    Raises:
        ConfigError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        if (given := os.environ.get(match[1])) is None:
            raise ConfigError(
                f"the environment variable {match[1]} is not set", where=where, cure=f"set {match[1]}, then run again"
            )
        in_credentials = "://" in text[: match.start()] and "@" in text[match.end() :]
        return quote(given, safe="") if in_credentials else given

    return re.sub(r"\$\{(\w+)\}", value, text)


def files_of(problem: Problem, name: str, source: Source) -> list[File]:
    """The files of a source, sorted by path: at least one, and none of them empty.

    Raises:
        ConfigError: a package or an environment variable is missing.
        DataError: nothing is there, or a file has no content.
    """
    path = _packaged(problem, name, source) if source.package else expand(source.path or "", place(problem, name))
    system, path, prefix = locate(path, problem.folder)
    with reading(prefix + path):
        listed = _list(system, path, source.kind)
    if not listed:
        raise DataError(
            f"no {source.kind} file matches",
            where=f"{prefix}{path} ({place(problem, name)})",
            cure=f"correct sources.{name}.path (a relative one starts at the problem's folder), or put the file there; "
            f"in a folder the names end as "
            f"{SUFFIXES[source.kind].replace('|', ', ')} (.gz and .zip too for text): a glob takes others",
        )
    files = [
        File(system, info.path, prefix + info.path, info.size, f"{info.mtime:%Y-%m-%d %H:%M:%S.%f}")
        for info in sorted(listed, key=lambda i: i.path)
    ]
    for file in files:
        if file.size == 0:
            raise DataError("the file is empty: 0 bytes", where=file.name, cure="write it again, or take it away")
    return files


def _packaged(problem: Problem, name: str, source: Source) -> str:
    assert source.package and source.file
    where = place(problem, name)
    try:
        package = importlib.metadata.distribution(source.package)
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"package {source.package!r} is not installed",
            where=where,
            cure=f"add it to pyproject.toml, or correct sources.{name}.package",
        ) from error
    path = Path(str(package.locate_file(source.file)))
    if not path.is_file():
        raise ConfigError(
            f"package {source.package!r} carries no file {source.file!r}",
            where=where,
            cure=f"correct sources.{name}.file",
        )
    return str(path)


def locate(path: str, folder: Path) -> tuple[FileSystem, str, str]:
    """File system, the path as that system wants it, and what a person puts before it."""
    from pyarrow.fs import LocalFileSystem

    if path.startswith("s3://"):
        return object_store(), path.removeprefix("s3://").rstrip("/"), "s3://"
    if path.startswith("file://"):
        path = unquote(path.removeprefix("file://"))
    return LocalFileSystem(), os.path.normpath(folder / path), ""


def object_store() -> FileSystem:
    """S3 as the standard AWS_* variables say."""
    from pyarrow.fs import S3FileSystem

    scheme, _, endpoint = os.environ.get("AWS_ENDPOINT_URL", "").rpartition("://")
    return S3FileSystem(
        endpoint_override=endpoint or None,
        scheme=scheme or "https",
        region=os.environ.get("AWS_REGION", "us-east-1"),
        connect_timeout=10,
    )


def _list(system: FileSystem, path: str, kind: str) -> list[Any]:
    from pyarrow.fs import FileSelector, FileType

    info = system.get_file_info(path)
    if info.type == FileType.File:
        return [info]
    if info.type == FileType.Directory:
        base, wanted = path, re.compile(rf".*\.({SUFFIXES[kind]})(\.gz|\.zip)?", re.IGNORECASE | re.DOTALL)
    elif re.search(r"[*?\[]", path):
        base = re.split(r"[*?\[]", path)[0].rpartition("/")[0]
        wanted = re.compile(_glob(path), re.DOTALL)
    else:
        return []
    selector = FileSelector(base, recursive=True, allow_not_found=True)
    below = len(base) + 1
    return [
        info
        for info in system.get_file_info(selector)
        if info.type == FileType.File
        and wanted.fullmatch(info.path)
        and not re.search(r"(^|/)[._]", info.path[below:])  # _SUCCESS, .part, _delta_log/...: not data
    ]


def _glob(pattern: str) -> str:
    """A glob as a regular expression.

    >>> bool(re.fullmatch(_glob("a/**/*.csv"), "a/b/c/d.csv")), bool(re.fullmatch(_glob("a/*.csv"), "a/b/d.csv"))
    (True, False)
    """
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def word(match: re.Match[str]) -> str:
        text = match[0]
        if len(text) > 2 and text[0] == "[":
            return "[" + ("^" if text[1] in "!^" else "") + re.sub(r"([\\\[])", r"\\\1", text[1:-1].lstrip("!^")) + "]"
        return words.get(text) or re.escape(text)

    return re.sub(r"\*\*/|\*\*|\*|\?|\[[!^]?[^\]/]+\]|.", word, pattern, flags=re.DOTALL)


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn what file systems and decompressors raise into an error that names the file."""
    try:
        yield
    except EvergreenError:
        raise
    except FileNotFoundError as error:
        raise DataError(
            "there is no such file", where=where, cure="put it there, or correct the source's path"
        ) from error
    except PermissionError as error:
        raise AccessError("reading is not allowed", where=where, cure="give this user the right to read it") from error
    except MemoryError as error:
        raise too_large(where) from error
    except DAMAGED as error:
        raise DataError(
            f"truncated or corrupt: {str(error)[:SHOWN_CHARACTERS] or type(error).__name__}",
            where=where,
            cure="copy the file again from where it comes",
        ) from error
    except OSError as error:
        raise store_fault(str(error), where) from error


def too_large(where: str) -> DataError:
    """What is said of a file that claims, or takes, more memory than there is."""
    return DataError(
        "it takes more memory than there is to read it",
        where=where,
        cure="copy the file again from where it comes; if it is whole, write it in smaller records, blocks or pages",
    )


def store_fault(text: str, where: str) -> EvergreenError:
    """What a storage library's complaint means."""
    if re.search(
        r"ACCESS_DENIED|AccessDenied|SignatureDoesNotMatch|InvalidAccessKey|HTTP (response )?code:? 40[13]", text
    ):
        return AccessError(
            "the store refused the credentials", where=where, cure="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if re.search(r"NoSuchBucket|NO_SUCH_BUCKET|bucket does not exist", text):
        return ConfigError("the bucket does not exist", where=where, cure="correct the source's path")
    if re.search(r"NETWORK_CONNECTION|onnect|timed out|[Tt]imeout|SLOW_DOWN|SlowDown", text):
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "AWS")
        return ServiceUnavailable("the store does not answer", where=f"{where} at {endpoint}", cure="is it running?")
    return DataError(
        f"not readable: {text.splitlines()[0][:SHOWN_CHARACTERS] if text else 'no reason given'}",
        where=where,
        cure="look whether the file is complete, and copy it again",
    )


def text_blocks(file: File, encoding: str = "utf-8") -> Iterator[bytes]:
    """The file's text as UTF-8, unpacked (.gz; .zip with one member), without a byte order mark.

    Raises:
        DataError: truncated, corrupt, or UTF-16 that was not declared.
    """
    with reading(file.name), ExitStack() as stack:
        stream = _unpacked(file, stack)
        block = stream.read(BLOCK_BYTES)
        if encoding == "utf-8" and (block.startswith(UTF_16_MARKS) or 4 * block[:64].count(0) > len(block[:64])):
            raise DataError(
                "not utf-8: this is utf-16, or no text at all",
                where=file.name,
                cure="declare the source's encoding (encoding: utf-16) or format",
            )
        if encoding == "utf-16" and not block.startswith(UTF_16_MARKS):
            encoding = "utf-16-be" if block.startswith(b"\0") else "utf-16-le"
        decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("evergreen_nul")
        is_first = True
        while block:
            text = block if decoder is None else decoder.decode(block).encode()
            yield text.removeprefix(codecs.BOM_UTF8) if is_first else text
            is_first = False
            block = stream.read(BLOCK_BYTES)
        if decoder is not None and (rest := decoder.decode(b"", final=True)):
            yield rest.encode()


def _unpacked(file: File, stack: ExitStack) -> IO[bytes]:
    stream: IO[bytes] = stack.enter_context(file.system.open_input_file(file.path))
    if file.path.lower().endswith(".gz"):
        packed = stack.enter_context(gzip.GzipFile(fileobj=stream))
        return cast(IO[bytes], _Bounded(cast(IO[bytes], packed), file))
    if file.path.lower().endswith(".zip"):
        _check_directory(file, stream)
        archive = stack.enter_context(zipfile.ZipFile(stream))
        members = [
            member
            for member in archive.infolist()
            if not member.is_dir() and not member.filename.startswith("__MACOSX/")
        ]
        if len(members) != 1:
            names = ", ".join(member.filename[:SHOWN_CHARACTERS] for member in members[:5]) or "none"
            raise DataError(
                f"{len(members)} files where the zip has to hold one: {names}",
                where=file.name,
                cure="pack each file on its own, or unpack them into a folder",
            )
        if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # What other methods make of a few bytes comes at once, however much it is.
            raise DataError(
                f"packed by method {members[0].compress_type}, which is not read",
                where=file.name,
                cure="pack it again by the usual method (deflate), or as .gz",
            )
        bounded = _Bounded(stack.enter_context(archive.open(members[0])), file)
        bounded.require(members[0].file_size)  # that it says itself is known before it is unpacked
        return cast(IO[bytes], bounded)
    return stream


class _Bounded:
    """What a packed file becomes, as far as its size lets one believe it."""

    def __init__(self, stream: IO[bytes], file: File) -> None:
        self._stream, self._file = stream, file
        self._left = max(UNPACKED_BYTES, MOST_TEXT_EXPANSION * file.size)

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.require(len(data))
        self._left -= len(data)
        return data

    def require(self, size: int) -> None:
        """Raise DataError where so much more is too much."""
        if size > self._left:
            raise DataError(
                f"{self._file.size:,} bytes unpack to over {UNPACKED_BYTES >> 20} MB, and to over "
                f"{MOST_TEXT_EXPANSION} times as much",
                where=self._file.name,
                cure="copy the file again from where it comes; if it is whole, unpack it, or pack it in parts",
            )


def _check_directory(file: File, stream: IO[bytes]) -> None:
    """Raise DataError where a zip's directory is of more files than anybody packs with one that is meant."""
    stream.seek(max(0, file.size - ZIP_END_BYTES - 0xFFFF))
    tail = stream.read()
    stream.seek(0)
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) - end < ZIP_END_BYTES:
        return  # no zip: the library says so
    size = struct.unpack_from("<I", tail, end + 12)[0]
    large = tail.rfind(b"PK\6\6", 0, end)
    if size == 0xFFFFFFFF and 0 <= large <= len(tail) - 48:
        size = struct.unpack_from("<Q", tail, large + 40)[0]
    if size > MOST_DIRECTORY_BYTES:
        raise DataError(
            f"a directory of {size:,} bytes where the zip has to hold one file",
            where=file.name,
            cure="pack each file on its own, or unpack them into a folder",
        )
