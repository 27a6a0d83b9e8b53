"""A week of the default problem: where its wall time and its CPU go, and what the same work takes otherwise.

    python -m benchmarks.loop [--weeks 3] [--home FOLDER] [--alone] [--profile] [--write]

Starts the embedded services in a folder of their own, loads the history, trains the first model and plays weeks, as
`evergreen demo` does, and prints each task's seconds, the CPU of each process, and what all of it holds and uses at
rest. Then a plain script does the demo's work on the same services, the same stages run one after another in one
process on a local folder, and other tools do what some of these stages do, each in an environment of its own that is
made the first time (~/.cache/evergreen/peers).

`--home` is kept: a second run goes on with the weeks after those it has. `--alone` leaves Airflow and the script out.
`--profile` tells which functions each stage spends its time in, and nothing else. `--write` makes
docs/measurements/loop.md. An idle machine is wanted.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pyarrow.parquet as pq

from benchmarks.loop import alone, services
from benchmarks.loop.page import MEASURED, page, summary
from benchmarks.loop.peers.compare import compare
from benchmarks.loop.records import Measured
from pipelines.problem import ROOT, load_problem


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=3)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--alone", action="store_true", help="the stages in one process and the other tools only")
    parser.add_argument("--profile", action="store_true", help="the functions of each stage")
    parser.add_argument("--write", action="store_true", help="write docs/measurements/loop.md")
    arguments = parser.parse_args()
    if arguments.write and (arguments.alone or arguments.profile):
        parser.error("--write wants all of it: leave --alone and --profile out")
    problem = load_problem(alone.NAME)
    assert problem.replay is not None
    load, day = os.getloadavg()[1], time.strftime("%Y-%m-%d")
    weeks = services.weeks_after(problem, arguments.weeks, problem.partitions.last_of(problem.replay.history_until))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "alone"
        folder.mkdir()
        if arguments.profile:
            alone.measured(folder, weeks, is_profiled=True)
            return
        through_airflow = None
        if not arguments.alone:
            through_airflow = services.measured(problem, arguments.weeks, arguments.home or Path(scratch) / "home")
            weeks = [week.key for week in through_airflow.weeks]
        stages = alone.measured(folder, weeks)
        measured = Measured(
            machine=f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()}, "
            f"Python {platform.python_version()}",
            load=load,
            day=day,
            command=f"python -m benchmarks.loop --weeks {arguments.weeks} --write",
            rows=pq.read_table(
                folder / "inputs" / "predictions.parquet", filters=[("partition", "=", weeks[-1])]
            ).num_rows,
            services=through_airflow,
            alone=stages,
            peers=compare(folder / "inputs", stages.stages),
        )
    print(summary(measured))
    if arguments.write:
        MEASURED.write_text(measured.model_dump_json(indent=1) + "\n")
        (ROOT / "docs" / "measurements" / "loop.md").write_text(page(measured))


if __name__ == "__main__":
    main()
