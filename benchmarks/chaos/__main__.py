"""Run the loop under faults: python -m benchmarks.chaos [--lives 8] [--keep folder] [--write].

With --keep the results lie there, and the same command goes on where an earlier one was stopped.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

# Stages run one at a time, beside the services.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}

from benchmarks.chaos import database, orchestrated, stages, together
from benchmarks.chaos.orchestrated import Played
from benchmarks.chaos.page import page
from benchmarks.chaos.together import Outcome
from pipelines.problem import ROOT

SHORT_SEED = 3
PARTS = ("stages", "pairs", "hosts", "database", "airflow")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # with the services that it has started
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("--lives", type=int, default=8, help="loops without Airflow, each of another seed")
    parser.add_argument("--seeds", default="", help="these seeds instead, by commas")
    parser.add_argument("--partitions", type=int, default=8, help="of the loop with Airflow")
    parser.add_argument("--parts", default=",".join(PARTS), help="by commas; all without")
    parser.add_argument("--short", action="store_true", help="one loop without Airflow, to its first predictions")
    parser.add_argument("--keep", type=Path, help="folder of the results; without, a temporary one")
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")] if given.seeds else list(range(1, given.lives + 1))
    parts = given.parts.split(",")
    if given.short:
        seeds, parts = [SHORT_SEED], ["stages"]
    with tempfile.TemporaryDirectory(prefix="evergreen-chaos-") as folder:
        keep = (given.keep or Path(folder)).resolve()
        keep.mkdir(parents=True, exist_ok=True)
        played = keep / "airflow.jsonl"
        if set(parts) - {"airflow"}:
            asked_for = seeds if "stages" in parts else []
            with stages.ready(keep) as proxy:
                stages.lives(proxy, keep, asked_for, tell, is_short=given.short)
                plays: dict[str, Callable[..., list[Outcome]]] = {
                    "pairs": together.play,
                    "hosts": partial(together.play_on_two_hosts, ports=[*proxy.ports.values()]),
                    "database": database.play,
                }
                for part, play in plays.items():
                    if part in parts and not (results := keep / f"{part}.jsonl").exists():
                        rows = [outcome.model_dump_json() for outcome in play(keep, tell)]
                        results.write_text("".join(f"{row}\n" for row in rows))
        if "airflow" in parts:
            if not played.exists():
                played.write_text(orchestrated.play(keep, seeds[0], given.partitions).model_dump_json() + "\n")
            done = Played.model_validate_json(lines(played)[-1])
            try:
                orchestrated.then(keep, done)
            finally:
                played.write_text(done.model_dump_json() + "\n")
        outcomes = {
            part: [Outcome.model_validate_json(line) for line in lines(keep / f"{part}.jsonl")]
            for part in ("pairs", "hosts", "database")
        }
        text = page(stages.read(keep), [Played.model_validate_json(line) for line in lines(played)], **outcomes)
        if given.write:
            (ROOT / "docs" / "reliability.md").write_text(text)
        else:
            print(text)


def tell(line: str) -> None:
    print(line, flush=True)


def lines(results: Path) -> list[str]:
    return results.read_text().splitlines() if results.exists() else []


if __name__ == "__main__":
    main()
