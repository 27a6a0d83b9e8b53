"""What stands where a file should: folders, links, pipes, and files that nobody may read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.bad_files.kinds import Kind, csv_text


def kinds() -> Iterator[Kind]:
    def dangling(folder: Path) -> None:
        (folder / "k.csv").symlink_to(folder / "nowhere.csv")

    def itself(folder: Path) -> None:
        (folder / "k.csv").symlink_to(folder / "k.csv")

    def ring(folder: Path) -> None:
        (folder / "below").mkdir()
        (folder / "below" / "again").symlink_to(folder)
        (folder / "k.csv").write_text(csv_text())

    def unreadable(folder: Path) -> None:
        (folder / "k.csv").write_text(csv_text())
        (folder / "k.csv").chmod(0)

    def closed_folder(folder: Path) -> None:
        (folder / "below").mkdir()
        (folder / "below" / "k.csv").write_text(csv_text())
        (folder / "below").chmod(0)

    def listening(folder: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / "k.csv"))

    def odd_names(folder: Path) -> None:
        for name in ("a b.csv", "ü.csv", "'\".csv", "[x].csv", "*.csv", "new\nline.csv", "${HOME}.csv", "\x1b[2J.csv"):
            (folder / name).write_text(csv_text(1))

    def no_utf_8(folder: Path) -> None:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.csv")).write_text(csv_text())

    def many(folder: Path) -> None:
        for number in range(1_000):
            (folder / f"{number}.csv").write_text(csv_text(1))

    def mixed(folder: Path) -> None:
        (folder / "a.csv").write_text(csv_text())
        (folder / "b.csv").write_text(csv_text().replace("age", "years", 1))

    def link_to(target: str) -> Callable[[Path], None]:
        return lambda folder: (folder / "k.csv").symlink_to(target)

    places: dict[str, Callable[[Path], None]] = {
        "an empty folder": lambda folder: None,
        "a folder named like a file": lambda folder: (folder / "k.csv").mkdir(),
        "a dangling link": dangling,
        "a link to itself": itself,
        "a folder within itself": ring,
        "a pipe": lambda folder: os.mkfifo(folder / "k.csv"),
        "a socket": listening,
        "a link to /dev/zero": link_to("/dev/zero"),
        "a link to /dev/full": link_to("/dev/full"),
        "a link to /proc/self/mem": link_to("/proc/self/mem"),
        "a file that may not be read": unreadable,
        "a folder that may not be read": closed_folder,
        "odd names": odd_names,
        "a name that is no utf-8": no_utf_8,
        "1,000 files": many,
        "files that differ": mixed,
    }
    for name, write in places.items():
        yield Kind(f"folder: {name}", write, {"path": ".", "format": "csv"})
        if name not in ("an empty folder", "odd names", "1,000 files", "files that differ", "a name that is no utf-8"):
            yield Kind(f"by name: {name}", write, {"path": "k.csv", "format": "csv"})
    for format_ in ("jsonl", "parquet", "avro"):
        name = f"k.{format_}"
        yield Kind(f"{format_}: a pipe", partial(_pipe, name), {"path": name})
        yield Kind(f"{format_}: a link to /dev/zero", partial(_zero, name), {"path": name})


def _pipe(name: str, folder: Path) -> None:
    os.mkfifo(folder / name)


def _zero(name: str, folder: Path) -> None:
    (folder / name).symlink_to("/dev/zero")
