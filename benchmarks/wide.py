"""What a training of very many rows takes, stage by stage: CPU, wall and memory, and how they grow with the rows.

    python -m benchmarks.wide [--rows 500000 1000000] [--memory-limit-mb 16] [--folder FOLDER] [--write FILE]

Rows of 24 numbers and 6 categories lie in the tables `events` and `labels` of a folder, 24 days of them; two features
look back on the days before. A training runs over them without Airflow, each of its stages in a process of its own, and
so does each share of `featurize`. `training.memory_limit_mb` is far below the matrix, so that the trees are boosted out
of core. `bare` is the reference: it reads the same features into memory, makes a float32 matrix of them and calls
`xgboost.train`, as many rounds of the same depth.

Printed are, of each stage and number of rows, CPU seconds of the process and those that it starts, wall seconds, and
the most memory that the process held; of a stage of several tasks the sums, and the memory of the largest. Beneath are
the slopes between two numbers of rows that follow each other: bytes of memory, and CPU microseconds, that one more row
takes. `--folder` is where the tables lie meanwhile, some 2 kB a row; `--write FILE` puts the figures into a file, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

NAME, PARTITIONS, NUMBERS, CATEGORIES = "wide", 24, 24, 6
FIRST = "2024-01-01"
THREADS = 2
TREES = {"n_estimators": 20, "max_depth": 6, "learning_rate": 0.1}
COLUMNS = [f"number_{place}" for place in range(NUMBERS)] + [f"category_{place}" for place in range(CATEGORIES)]
SHOWN = ("label", "sample", "featurize", "check", "train", "evaluate", "refit", "bare")


class Used(NamedTuple):
    """What a process, or several of a stage, took."""

    cpu_s: float
    wall_s: float
    peak_bytes: int
    """Of the largest of several."""
    tasks: int = 1

    def __add__(self, other: object) -> Used:
        assert isinstance(other, Used)
        peak_bytes = max(self.peak_bytes, other.peak_bytes)
        return Used(self.cpu_s + other.cpu_s, self.wall_s + other.wall_s, peak_bytes, self.tasks + other.tasks)


def settings(memory_limit_mb: float) -> dict[str, Any]:
    return {
        "description": "made for a benchmark",
        "owner": "evergreen",
        "key": "id",
        "partitions": {"every": "day", "first": FIRST},
        "sources": {"rows": {"path": "rows.parquet"}},
        "columns": {
            name: {"type": "float" if name.startswith("number") else "string", "available": "cutoff"}
            for name in COLUMNS
        },
        "features": {
            "columns": COLUMNS,
            "history": {
                "rate_7d": {"by": ["category_0"], "function": "mean", "window_days": 7},
                "count_2d": {"by": ["category_1"], "of": "number_0", "function": "count", "window_days": 2},
            },
        },
        "training": {
            "baselines": ["prior"],
            "candidates": {"prior": {"model": "prior"}, "trees": {"model": "xgboost", "parameters": TREES}},
            "threads": THREADS,
            "device": "cpu",
            "memory_limit_mb": memory_limit_mb,
        },
        "gate": {"limits": {"auc": {"min": 0.5}}, "gain_over_baselines": {"auc": 0}, "gain_over_champion": {"auc": 0}},
    }


def lay_out(folder: Path, rows: int, memory_limit_mb: float) -> None:
    """The problem, and its tables `events` and `labels`, a partition at a time."""
    import yaml

    from pipelines import store
    from pipelines.problem import load_problem

    problem_folder = folder / "problems" / NAME
    problem_folder.mkdir(parents=True)
    (problem_folder / "problem.yaml").write_text(yaml.safe_dump(settings(memory_limit_mb)))
    for name in ("events", "labels"):
        (problem_folder / f"{name}.sql").write_text("SELECT * FROM rows")
    problem = load_problem(NAME)
    for day in range(PARTITIONS):
        count = rows // PARTITIONS
        events, labels = made(day, count)
        store.write_table(problem, "events", events, [events["partition"][0].as_py()])
        store.write_table(problem, "labels", labels, sorted(labels["partition"].unique().to_pylist()))


def made(day: int, count: int) -> tuple[Any, Any]:
    """Events and labels of a day; labels are known an hour later."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(day)
    columns: dict[str, Any] = {}
    margin = np.zeros(count)
    for name in COLUMNS:
        if name.startswith("number"):
            values = random.normal(size=count)
            margin += values * 0.3
            columns[name] = pa.array(values, mask=random.random(count) < 0.02)
        else:
            codes = random.integers(0, 50, count)
            margin += np.abs(codes - 25) / 50 - 0.25
            columns[name] = pa.array([f"value {code}" for code in range(50)]).take(pa.array(codes))
    label = (random.random(count) < 1 / (1 + np.exp(-margin))).astype(np.int8)
    start = np.datetime64(FIRST, "us") + np.timedelta64(day, "D")
    times = start + np.sort(random.integers(0, 23 * 3_600_000, count)).astype("timedelta64[ms]")
    time_of = pa.array(times, pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    known = pa.array(times + np.timedelta64(1, "h"), pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    key = pa.array(np.char.add(f"{day:02}-", np.arange(count).astype(str)))
    never = pa.nulls(count, pa.timestamp("us", "UTC"))
    partition = pa.array([str(start)[:10]]).take(pa.array(np.zeros(count, np.int64)))
    shared = {"id": key, "partition": partition, "event_time": time_of}
    ends = {"superseded_time": never, "withdrawn_time": never}
    events = {"known_time": time_of, "cutoff_time": time_of, "statement": np.zeros(count, np.int64)} | ends | columns
    said = {"source": ["natural"], "labeler": ["outcome"]}
    named = {name: pa.array(value).take(pa.array(np.zeros(count, np.int64))) for name, value in said.items()}
    labels = {"known_time": known, "label": label, "confidence": np.ones(count)} | named | ends
    return pa.table(shared | events), pa.table(shared | labels)


def bare(checked: dict[str, Any]) -> None:
    """What XGBoost needs of the training split, and no more."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import xgboost

    from pipelines import sql, store
    from pipelines.problem import load_problem

    problem = load_problem(NAME)
    names = problem.feature_names
    set_of = store.dataset(problem, "training_sets", checked["training_set_version"])
    of_set = set_of.filter((pc.field("training_set") == checked["training_set"]) & (pc.field("split") == "train"))
    features = store.dataset(problem, "features", checked["features_version"])
    chosen = ", ".join(f"f.{name}" for name in names)
    query = f"SELECT {chosen}, s.label FROM f JOIN s USING (id, partition)"
    count = of_set.count_rows()
    matrix, label, start = np.empty((count, len(names)), np.float32), np.empty(count, np.float32), 0
    categories = pa.array([f"value {code}" for code in range(50)])
    for batch in sql.stream(query, {"f": features, "s": of_set}):
        end = start + batch.num_rows
        for place, name in enumerate(names):
            values = batch[name]
            if name in problem.categorical_features:
                values = pc.index_in(values, categories)
            matrix[start:end, place] = values.cast(pa.float32()).to_numpy(zero_copy_only=False)
        label[start:end] = batch["label"].to_numpy()
        start = end
    kinds = ["c" if name in problem.categorical_features else "q" for name in names]
    rows = xgboost.QuantileDMatrix(matrix, label, feature_types=kinds, enable_categorical=True, nthread=THREADS)
    del matrix
    told = {name: value for name, value in TREES.items() if name != "n_estimators"}
    xgboost.train(told | {"objective": "binary:logistic", "nthread": THREADS}, rows, TREES["n_estimators"])


def run_one(name: str, folder: Path, place: str) -> None:
    """A stage in this process: what it was given, and gives, and used lies in files of `folder`."""
    from pipelines.usage import machine

    start = time.monotonic()
    asked = json.loads((folder / f"{place}.given.json").read_text())
    result: Any = None
    if name == "tables":
        lay_out(folder, *asked)
    elif name == "bare":
        bare(*asked)
    else:
        from pipelines import stages, store
        from pipelines.handoffs.base import to_json

        with store.task():
            result = to_json(stages.stage(name)(NAME, *asked))
    reading = machine.reading()
    used = Used(reading.cpu_s + reading.children_cpu_s, time.monotonic() - start, reading.most_bytes)
    (folder / f"{place}.json").write_text(json.dumps([result, used]))


class Runs:
    """Stages of one training, each in a process of its own; what each used is noted by stage."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.used = folder, dict[str, Used]()
        self._places = itertools.count()
        self._environment = os.environ | {
            "EVERGREEN_PROBLEMS": str(folder / "problems"),
            "EVERGREEN_STORE_URI": (folder / "store").as_uri(),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "OMP_WAIT_POLICY": "PASSIVE",
            "TMPDIR": str(folder),
        }

    def run(self, name: str, *given: Any) -> Any:
        place = f"{next(self._places)}-{name}"
        (self.folder / f"{place}.given.json").write_text(json.dumps(given))
        command = [sys.executable, "-m", "benchmarks.wide", "--one", name, str(self.folder), place]
        subprocess.run(command, check=True, env=self._environment)
        result, used = json.loads((self.folder / f"{place}.json").read_text())
        stage = name.rpartition(".")[2]
        self.used[stage] = self.used[stage] + Used(*used) if stage in self.used else Used(*used)
        return result


def training(rows: int, memory_limit_mb: float, within: Path | None) -> dict[str, Used]:
    """What each stage of a training of so many rows used, and the reference."""
    with tempfile.TemporaryDirectory(prefix="evergreen-wide-", dir=within) as folder:
        runs = Runs(Path(folder))
        runs.run("tables", rows, memory_limit_mb)
        labelled = runs.run("train.label")
        shares = runs.run("train.sample", labelled)
        checked = runs.run("train.check", [runs.run("train.featurize", share) for share in shares])
        prior = runs.run("train.train", checked, "prior")
        del runs.used["train"]  # a baseline: what is shown is the trees'
        evaluated = runs.run("train.evaluate", checked, [prior, runs.run("train.train", checked, "trees")])
        runs.run("train.refit", runs.run("train.gate", evaluated))
        runs.run("bare", checked)
        return runs.used


def report(measured: dict[int, dict[str, Used]], memory_limit_mb: float) -> str:
    return "\n".join(_lines(measured, memory_limit_mb))


def _lines(measured: dict[int, dict[str, Used]], memory_limit_mb: float) -> Iterator[str]:
    yield (
        f"{PARTITIONS} partitions, {len(COLUMNS)} columns, 2 features of the past, training.memory_limit_mb "
        f"{memory_limit_mb:g}, {TREES['n_estimators']} trees of depth {TREES['max_depth']}, {THREADS} threads"
    )
    for rows, used in measured.items():
        yield f"{rows:,} rows"
        for stage in SHOWN:
            took = used[stage]
            tasks = f", {took.tasks} tasks" if took.tasks > 1 else ""
            yield (
                f"  {stage:<10} {took.cpu_s:7.1f} CPU s {took.wall_s:7.1f} s, peak "
                f"{took.peak_bytes / 2**20:6.0f} MB{tasks}"
            )
    for before, after in itertools.pairwise(measured):
        yield f"one more row, between {before:,} and {after:,}"
        for stage in SHOWN:
            few, many, more = measured[before][stage], measured[after][stage], after - before
            yield (
                f"  {stage:<10} {(many.peak_bytes - few.peak_bytes) / more:7.0f} bytes, "
                f"{(many.cpu_s - few.cpu_s) / more * 1e6:6.1f} CPU us"
            )


def main(sizes: list[int], memory_limit_mb: float, within: Path | None, written_to: Path | None) -> None:
    measured: dict[int, dict[str, Used]] = {}
    for rows in sorted(sizes):
        measured[rows] = training(rows, memory_limit_mb, within)
        print(report({rows: measured[rows]}, memory_limit_mb), flush=True)
    text = report(measured, memory_limit_mb)
    print(text)
    if written_to:
        written_to.write_text(f"{text}\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--one", name, folder, place]:
            run_one(name, Path(folder), place)
        case _:
            options = argparse.ArgumentParser(prog="python -m benchmarks.wide")
            options.add_argument("--rows", type=int, nargs="+", default=[500_000, 1_000_000])
            options.add_argument("--memory-limit-mb", type=float, default=16)
            options.add_argument("--folder", type=Path, help="an existing one, with room; default: that of TMPDIR")
            options.add_argument("--write", type=Path, help="file that the figures go to")
            asked = options.parse_args()
            main(asked.rows, asked.memory_limit_mb, asked.folder, asked.write)
