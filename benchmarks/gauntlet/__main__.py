"""Run the gauntlet: python -m benchmarks.gauntlet [--seeds 10] [--faults a,b] [--workers 2] [--keep folder] [--write].

With --keep the results lie there in results.jsonl, and --resume goes on where an earlier run was stopped.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

# Each worker has one processor.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}

from benchmarks.gauntlet.faults import FAULTS
from benchmarks.gauntlet.page import page, summary
from benchmarks.gauntlet.run import Plan, read, run_seed
from benchmarks.gauntlet.world import empty_mlflow, read_sources
from benchmarks.left_out import draw_nothing
from include import preload
from pipelines.problem import ROOT

ON_SQLITE = (
    "alembic.command",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
)
NOT_IN_CHAIN = ("airflow.", "evidently", "plotly")  # which has no monitoring


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gauntlet")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--faults", default="", help="names, by commas; all without")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder of the results; without, a temporary one")
    parser.add_argument("--resume", action="store_true", help="go on with the results in --keep")
    parser.add_argument("--quick", action="store_true", help="one stretch a seed, its clean update alone, no pictures")
    parser.add_argument("--write", action="store_true", help="write docs/measurements/gauntlet.md")
    given = parser.parse_args()
    names = tuple(given.faults.split(",")) if given.faults else tuple(FAULTS)
    if unknown := [name for name in names if name not in FAULTS]:
        parser.error(f"no such fault: {', '.join(unknown)}; there are: {', '.join(FAULTS)}")
    with tempfile.TemporaryDirectory(prefix="evergreen-gauntlet-") as folder:
        plan = Plan((given.keep or Path(folder)).resolve(), names, given.quick)
        if not given.resume:
            plan.results.unlink(missing_ok=True)
        run(plan, range(1, given.seeds + 1), given.workers)
        rows = read(plan.results)
    print(summary(rows))
    if given.write:
        (ROOT / "docs" / "measurements" / "gauntlet.md").write_text(page(rows))


def run(plan: Plan, seeds: range, workers: int) -> None:
    """All seeds, in processes that share nothing but the sources and the file of results."""
    prepare(plan)
    if plan.is_quick:
        draw_nothing()
    gc.freeze()  # a look for garbage in a fork would copy all that was imported
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        for done in [pool.submit(run_seed, plan, seed) for seed in seeds]:
            done.result()
    gc.unfreeze()


def prepare(plan: Plan) -> None:
    """The sources; and all that a chain imports, so that each run has it from the beginning.

    The sources in a process of their own: whoever forks must not have used DuckDB or Arrow before.
    """
    sources = plan.keep / "sources"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        if not (sources / "planes.parquet").exists():
            pool.submit(read_sources, sources).result()
        if not (sources / "mlflow.db").exists():
            pool.submit(empty_mlflow, sources / "mlflow.db").result()
    for name in (*preload.for_stages(), *preload.FOR_TASKS, *ON_SQLITE):
        if not name.startswith(NOT_IN_CHAIN):
            import_module(name)
    preload.look_up_installed()


if __name__ == "__main__":
    main()
