"""Ten real tables through `evergreen new --yes` and on: what it chooses, and whether the rest runs as it stands.

python -m benchmarks.proposed [folder] [--write] [--only NAME,NAME]

With a folder, tables that were played there are not played again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.proposed.catalogue import TABLES
from benchmarks.proposed.page import page
from benchmarks.proposed.play import play, result_of
from pipelines.problem import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proposed")
    parser.add_argument("folder", nargs="?", type=Path, help="keeps what was played; else temporary")
    parser.add_argument("--only", default="", help=f"tables, by commas; all without: {', '.join(TABLES)}")
    parser.add_argument("--write", action="store_true", help="write docs/measurements/new.md")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(TABLES)
    if unknown := [name for name in names if name not in TABLES]:
        parser.error(f"no such table: {', '.join(unknown)}; there are: {', '.join(TABLES)}")
    results = []
    with TemporaryDirectory(prefix="evergreen-new-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        for name in names:
            print(name, flush=True)
            path = folder / f"{name}.json"
            if not path.exists():
                played = play(name, TABLES[name], folder / name)
                path.write_text(json.dumps(played))
            results.append(result_of(json.loads(path.read_text())))
    text = page(results)
    if arguments.write:
        (ROOT / "docs" / "measurements" / "new.md").write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
