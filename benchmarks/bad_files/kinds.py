"""What a kind of bad file is, and the good rows that all of them begin with."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COLUMNS = {"id": "string", "litres": "float", "age": "integer", "is_hot": "boolean", "at": "timestamp"}
ROWS = 200
AT = "2024-01-01T12:00:00Z"

# By how the names of kinds begin.
FORMATS = {
    "CSV": r"(k\.)?csv\b",
    "JSON Lines": r"(k\.)?jsonl\b(?!: a (pipe|link))",
    "Avro": r"avro\b(?!: a (pipe|link))",
    "Parquet": r"parquet\b(?!: a (pipe|link))",
    "Delta": "delta",
}
Write = Callable[[Path], None]


@dataclass(frozen=True)
class Kind:
    """One kind of bad file.

    write: puts it, or them, into the source's folder.
    source: settings beside the columns, such as a path below that folder.
    declares: whether the source declares its columns.
    """

    name: str
    write: Write
    source: Mapping[str, Any] = field(default_factory=dict)
    declares: bool = True

    @property
    def format(self) -> str:
        """CSV, JSON Lines, Avro, Parquet, Delta, or a place where no file of a format is."""
        return next((name for name in FORMATS if re.match(FORMATS[name], self.name)), "places")


def rows(count: int = ROWS) -> list[dict[str, Any]]:
    """Rows that nothing is wrong with."""
    return [{"id": f"k{n}", "litres": 1.5, "age": n % 50, "is_hot": n % 3 == 0, "at": AT} for n in range(count)]


def csv_text(count: int = ROWS) -> str:
    lines = [
        f"{row['id']},{row['litres']},{row['age']},{str(row['is_hot']).lower()},{row['at']}" for row in rows(count)
    ]
    return "\n".join([",".join(COLUMNS), *lines]) + "\n"


def jsonl_text(count: int = ROWS) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows(count))


def in_file(name: str, content: bytes | Callable[[], bytes]) -> Write:
    """Writes one file; large content is made when it is asked for."""

    def write(folder: Path) -> None:
        (folder / name).write_bytes(content() if callable(content) else content)

    return write


def zipped(member: str, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        archive.writestr(member, content)
    return sink.getvalue()


def packed(how: str, name: str, content: bytes) -> tuple[str, bytes]:
    """A file's name and content, packed: "", gz, zip, or what the name does not promise (bz2 and others)."""
    match how:
        case "gz":
            return f"{name}.gz", gzip.compress(content, mtime=0)
        case "zip":
            return f"{name}.zip", zipped(name, content)
        case "bz2":
            return f"{name}.bz2", bz2.compress(content)
        case _:
            return name, content
