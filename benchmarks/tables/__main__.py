"""Real tables with nothing but the required settings: does anything stop, cry wolf, or lose to a plain model?

    python -m benchmarks.tables [folder] [--write] [--only NAME,NAME]

Each table goes through the real stages in this process: its history is ingested in one bulk run, a champion is trained,
then ten partitions with rows are ingested, scored and monitored one by one. With a folder, tables that were played
there are not played again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.tables.catalogue import TABLES
from benchmarks.tables.page import page, shown
from benchmarks.tables.play import play
from benchmarks.tables.played import kept
from pipelines.problem import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables")
    parser.add_argument("folder", nargs="?", type=Path, help="keeps what was played; else temporary")
    parser.add_argument("--only", default="", help=f"tables, by commas; all without: {', '.join(TABLES)}")
    parser.add_argument("--write", action="store_true", help="write docs/measurements/tables.md")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(TABLES)
    if unknown := [name for name in names if name not in TABLES]:
        parser.error(f"no such table: {', '.join(unknown)}; there are: {', '.join(TABLES)}")
    all_played = []
    with TemporaryDirectory(prefix="evergreen-tables-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        for name in names:
            path = folder / f"{name}.json"
            played = kept(path)
            if played is None:
                played = play(name, folder / name)
                path.write_text(played.model_dump_json(indent=1))
            all_played.append(played)
            print(shown(played), flush=True)
    if arguments.write:
        (ROOT / "docs" / "measurements" / "tables.md").write_text(page(all_played))


if __name__ == "__main__":
    main()
