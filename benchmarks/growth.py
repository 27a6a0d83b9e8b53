"""What one more day costs when there is much past: ingest, score, monitor and train after ever more partitions.

    OMP_NUM_THREADS=1 python -m benchmarks.growth [--partitions 100 1000 5000] [--days 4] [--profile FOLDER]

Days of a hundred rows, made up, with their labels a day later; the past is ingested in bulk, a model trained on all of
it, and the days after it are played one by one, each DAG's stages in this process on a local folder. After the first
of these the tables that scoring and monitoring write are filled with what they wrote of it, once for each day of the
past; on the second, what is kept of such a past between runs is made. Neither is counted. As many days again are played
by the command `evergreen run`. Printed are CPU seconds, those of the commands with their imports: of a day after so
many partitions, and beside them the ratio to a day after the first of these numbers; of the bulk ingest (history) and
the training the ratio is that of their cost per partition. `--profile` keeps a profile of each DAG for
`python -m pstats`.
"""

from __future__ import annotations

import argparse
import cProfile
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from pipelines import ledger, local_run, store
from pipelines.artifacts import TableName
from pipelines.errors import NothingToDo
from pipelines.problem import load_problem

NAME, ROWS = "kettle", 100
BULK = ("history", "train")  # what is done once, for all of the past
UNCOUNTED = 2  # days after it
FIRST = datetime(2010, 1, 1, tzinfo=UTC)
PROBLEM: dict[str, Any] = {
    "description": "Will the kettle boil over?",
    "owner": "kitchen",
    "key": "kettle_id",
    "partitions": {"every": "day", "first": "2010-01-01"},
    "sources": {"kettles": {"path": "kettles.parquet", "time_column": "filled"}},
    "columns": {
        "litres": {"type": "float", "available": "cutoff"},
        "watts": {"type": "float", "available": "cutoff"},
        "shelf": {"type": "string", "available": "cutoff"},
    },
    "features": {
        "columns": ["litres", "watts", "shelf"],
        "history": {"shelf_rate_7d": {"by": ["shelf"], "function": "mean", "window_days": 7}},
    },
    "labels": {"delay_days": 1},
    "training": {"candidates": {"prior": {"model": "prior"}, "xgboost": {"model": "xgboost"}}, "baselines": ["prior"]},
    "gate": {
        "limits": {"auc": {"min": 0.5}},
        "gain_over_baselines": {"auc": 0.0},
        "gain_over_champion": {"auc": 0.0},
    },
    "monitoring": {"report_rows": None},
}


def kettles(days: int) -> pa.Table:
    """`days` days of ROWS rows each, from FIRST on."""
    random, count = np.random.default_rng(7), days * ROWS
    litres, watts, shelf = random.normal(size=count), random.normal(size=count), random.choice(["top", "low"], count)
    boils = litres + watts**2 + 2 * (shelf == "top") + random.normal(size=count) > 2
    minutes = np.arange(count) * (24 * 60 // ROWS)
    first = np.datetime64(FIRST.replace(tzinfo=None), "us")
    day = np.arange(count) // ROWS
    filled = first + day.astype("timedelta64[D]") + (minutes % (24 * 60)).astype("timedelta64[m]")
    return pa.table(
        {
            "kettle_id": np.char.add("k", np.arange(count).astype(str)),
            "filled": pa.array(filled, pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
            "litres": litres,
            "watts": watts,
            "shelf": shelf,
            "label": boils.astype(np.int8),
        }
    )


def lay_out(folder: Path, days: int) -> None:
    """The problem's folder, its rows, and the environment that names them."""
    problem = folder / "problems" / NAME
    problem.mkdir(parents=True)
    (problem / "problem.yaml").write_text(yaml.safe_dump(PROBLEM))
    (problem / "events.sql").write_text("SELECT kettle_id, filled AS event_time, litres, watts, shelf FROM kettles")
    (problem / "labels.sql").write_text(
        "SELECT kettle_id, filled AS event_time, filled AS known_time, label FROM kettles"
    )
    pq.write_table(kettles(days), problem / "kettles.parquet")
    os.environ |= {
        "EVERGREEN_PROBLEMS": str(problem.parent),
        "EVERGREEN_STORE_URI": (folder / "store").as_uri(),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }


def fill_past(day: str, keys: list[str]) -> None:
    """What scoring and monitoring have written of `day` is written of each of `keys` too, its estimates as measured."""
    config = load_problem(NAME)
    tables: tuple[TableName, ...] = ("predictions", "profiles", "estimates")
    for name in tables:
        of_day = store.dataset(config, name).to_table(filter=pc.field("partition") == day)
        if name == "estimates":
            of_day = of_day.drop_columns(["realised", "realised_rows"])
            of_day = of_day.append_column("realised", of_day["value"]).append_column("realised_rows", of_day["rows"])
        store.write_table(config, name, pa.concat_tables(moved(of_day, day, key) for key in keys), keys)
    decided = ledger.decisions(config, "monitoring")[-1]
    ledger.record_all(config, [decided | {"decision": f"monitoring:{key}", "partition": key} for key in keys])


def moved(rows: pa.Table, day: str, key: str) -> pa.Table:
    """The rows of `day` as rows of the partition `key`."""
    rows = rows.set_column(rows.schema.get_field_index("partition"), "partition", pa.array([key] * rows.num_rows))
    if "event_time" not in rows.column_names:
        return rows
    earlier = pa.scalar(datetime.fromisoformat(day) - datetime.fromisoformat(key), pa.duration("us"))
    times = pc.subtract(rows["event_time"], earlier)
    return rows.set_column(rows.schema.get_field_index("event_time"), "event_time", times)


def used_by_children() -> float:
    """CPU seconds of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def key(day: int) -> str:
    return (FIRST + timedelta(days=day)).date().isoformat()


def costs(partitions: int, days: int, profiles: Path | None) -> dict[str, float]:
    """CPU seconds by DAG: of `history` and `train` for each partition, of the others the mean of `days` days."""
    spent: dict[str, list[float]] = {}

    def timed(name: str, run: Callable[[], Any]) -> None:
        profile = cProfile.Profile(time.process_time) if profiles else None
        start = time.process_time()
        try:
            if profile:
                profile.runcall(run)
            else:
                run()
        except NothingToDo:
            pass
        spent.setdefault(name, []).append(time.process_time() - start)
        if profile and profiles:
            profile.dump_stats(profiles / f"{name}_{partitions}.pstats")

    def run_command(dag: str, day: str) -> None:
        range_of = ["--first", day, "--last", day] if dag == "ingest" else ["--partition", day]
        command = [sys.executable, "-m", "pipelines.cli.app", "run", dag, NAME, *range_of]
        start = used_by_children()
        subprocess.run(command, check=True, capture_output=True)
        spent.setdefault(f"evergreen run {dag}", []).append(used_by_children() - start)

    with TemporaryDirectory() as folder:
        lay_out(Path(folder), partitions + UNCOUNTED + 2 * days)
        timed("history", lambda: local_run.ingest(NAME, key(0), key(partitions - 1)))
        timed("train", lambda: local_run.train(NAME, key(partitions - 1)))
        after = [key(partitions + n) for n in range(UNCOUNTED + 2 * days)]
        for place, day in enumerate(after[: UNCOUNTED + days]):
            if place == 1:
                fill_past(after[0], [key(n) for n in range(partitions)])
            if place == UNCOUNTED:
                spent = {name: spent[name] for name in BULK}
            timed("ingest", lambda day=day: local_run.ingest(NAME, day, day))
            timed("score", lambda day=day: local_run.score(NAME, day))
            timed("monitor", lambda day=day: local_run.monitor(NAME, day))
        for day in after[UNCOUNTED + days :]:
            for dag in ("ingest", "score", "monitor"):
                run_command(dag, day)
    means = {name: sum(seconds) / len(seconds) for name, seconds in spent.items()}
    return means | {name: means[name] / partitions for name in BULK}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--profile", type=Path)
    arguments = parser.parse_args()
    if arguments.profile:
        arguments.profile.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(format="%(message)s")
        logging.getLogger("pipelines.local_run").setLevel(logging.INFO)
    costs(10, 1, None)  # imports, and what is made once
    first: dict[str, float] = {}
    for partitions in arguments.partitions:
        found = costs(partitions, arguments.days, arguments.profile)
        first = first or found
        shown = ", ".join(f"{name} {cost:.3g} ({cost / first[name]:.2f})" for name, cost in found.items())
        print(f"{partitions} partitions: {shown}", flush=True)


if __name__ == "__main__":
    main()
