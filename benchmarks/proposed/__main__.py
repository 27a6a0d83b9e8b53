"""Ten real tables through `evergreen new --yes` and on: what it chooses, and whether the rest runs as it stands.

python -m benchmarks.proposed [--write] [--only NAME,NAME]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.proposed.catalogue import TABLES
from benchmarks.proposed.page import page
from benchmarks.proposed.play import play
from pipelines.problem import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proposed")
    parser.add_argument("--only", default="", help=f"tables, by commas; all without: {', '.join(TABLES)}")
    parser.add_argument("--write", action="store_true", help="write docs/measurements/new.md")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(TABLES)
    if unknown := [name for name in names if name not in TABLES]:
        parser.error(f"no such table: {', '.join(unknown)}; there are: {', '.join(TABLES)}")
    results = []
    with TemporaryDirectory(prefix="evergreen-new-") as folder:
        for name in names:
            print(name, flush=True)
            results.append(play(name, TABLES[name], Path(folder) / name))
    text = page(results)
    if arguments.write:
        (ROOT / "docs" / "measurements" / "new.md").write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
