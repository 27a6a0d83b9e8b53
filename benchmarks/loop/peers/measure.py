"""Runs in a peer's environment: `python measure.py MODULE INPUTS` imports a module beside it and calls its `work`.

Prints the seconds of both, and what the work came to, as one line of JSON. Nothing of Evergreen's is imported.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path


def now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def cost(before: tuple[float, float]) -> dict[str, float]:
    wall, cpu = now()
    return {"wall": wall - before[0], "cpu": cpu - before[1]}


def main() -> None:
    began = now()
    work = import_module(sys.argv[1]).work
    imports = cost(began)
    began = now()
    result = work(Path(sys.argv[2]))
    print(json.dumps({"imports": imports, "work": cost(began), "found": result}))


if __name__ == "__main__":
    main()
