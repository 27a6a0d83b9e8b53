"""What a training costs beside its trees: the stage `train`, whole, against bare `xgboost.train` on a ready matrix.

    python -m benchmarks.overhead [rows]

A made problem: 22 numbers with gaps and 3 categories, so many training rows, and a tenth as many again in each of the
other two splits; its tables are Delta tables in a folder, MLflow is a SQLite file. Ours is all that
`pipelines.stages.train.train.train` does: looking for an earlier try, reading the three splits by a join, preparing the
matrix, boosting, scores and metrics on training and validation rows, fingerprints of all rows, logging the run with its
model, and the import of MLflow. The reference finds the same float32 matrix in memory, makes a `QuantileDMatrix` of it
and calls `xgboost.train` with the same parameters, and no more. Each has a process of its own and two threads; XGBoost,
scikit-learn, Arrow and the modules of ours that are timed are imported before the clock starts. CPU seconds are of all
threads, without those in which one only waits for another; the peak is the process's. `boost` is the whole fit call,
its `QuantileDMatrix` too; a part is counted without those that it calls. Both give the same trees: it is checked.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.arguments import one_number

PROBLEM, CANDIDATE = "made", "xgboost"
FLOATS, INTEGERS, CATEGORIES = 18, 4, 3
THREADS, ROUNDS = 2, 100
# All that has another default here than in XGBoost is written down, so that both give the same trees.
TREES = {
    "max_depth": 6,
    "learning_rate": 0.1,
    "reg_lambda": 1.0,
    "subsample": 1.0,
    "colsample_bynode": 1.0,
    "min_child_weight": 1.0,
}
FIRST, DAYS = date(2024, 1, 1), {"train": 20, "validation": 2, "test": 2}
GAPS = 0.05


def columns() -> dict[str, str]:
    """Type of each feature."""
    kinds = {"float": FLOATS, "integer": INTEGERS, "string": CATEGORIES}
    return {f"{kind}_{number}": kind for kind, count in kinds.items() for number in range(count)}


def write_problem(folder: Path) -> None:
    raw = {
        "description": "made for a benchmark",
        "owner": "evergreen",
        "key": "id",
        "partitions": {"every": "day", "first": FIRST.isoformat()},
        "sources": {"rows": {"path": "rows.parquet"}},
        "columns": {name: {"type": kind, "available": "cutoff"} for name, kind in columns().items()},
        "features": {"columns": list(columns())},
        "training": {
            "baselines": ["prior"],
            "candidates": {
                "prior": {"model": "prior"},
                CANDIDATE: {"model": "xgboost", "parameters": {"n_estimators": ROUNDS, **TREES}},
            },
            "threads": THREADS,
            "device": "cpu",
        },
        "gate": {"limits": {"auc": {"min": 0.5}}, "gain_over_baselines": {"auc": 0}, "gain_over_champion": {"auc": 0}},
    }
    home = folder / "problems" / PROBLEM
    home.mkdir(parents=True)
    (home / "problem.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    for name in ("events", "labels"):
        (home / f"{name}.sql").write_text("SELECT * FROM rows\n")


def write_tables(folder: Path, rows: int) -> None:
    """What the stages before `train` leave, as far as it is read: two tables, three files, the pins."""
    import pyarrow as pa

    from pipelines import store, tracking
    from pipelines.artifacts import TableName, table_schema
    from pipelines.paths import datasheet_uri, facts_uri, feature_schema_uri
    from pipelines.problem import load_problem

    write_problem(folder)
    problem, training_set = load_problem(PROBLEM), "made"
    days = [(split, number) for split, count in DAYS.items() for number in range(count)]
    of_split = {"train": rows, "validation": rows // 10, "test": rows // 10}
    keys = [(FIRST + timedelta(days=number)).isoformat() for number in range(len(days))]
    partitions: dict[TableName, list[str]] = {"features": keys, "training_sets": [training_set]}
    schemas = {name: table_schema(problem, name) for name in partitions}

    def day(number: int, name: TableName) -> pa.RecordBatch:
        split, within = days[number]
        count = of_split[split] * (within + 1) // DAYS[split] - of_split[split] * within // DAYS[split]
        random = np.random.default_rng(number)
        start = datetime.combine(date.fromisoformat(keys[number]), datetime.min.time(), UTC)
        seconds = np.sort(random.integers(0, 86_400, count))
        made: dict[str, Any] = {
            "id": pa.array(np.char.add(f"{number:02}-", random.permutation(count).astype(str))),
            "partition": pa.array([keys[number]] * count),
            "event_time": pa.array(np.datetime64(start.replace(tzinfo=None), "us") + seconds * np.timedelta64(1, "s")),
        }
        margin = np.zeros(count)
        for place, (column, kind) in enumerate(columns().items()):
            values: Any
            if kind == "float":
                values = random.normal(size=count)
                margin += values * (0.8 if place < 4 else 0.1)
            else:
                values = random.integers(0, 50, count)
                margin += values / 25 - 1 if place % 2 else np.abs(values - 25) / 25 - 0.5
            gaps = random.random(count) < GAPS
            texts = np.char.add("value ", values.astype(str)) if kind == "string" else values
            made[column] = pa.array(texts, mask=gaps)
        made["label"] = pa.array((random.random(count) < 1 / (1 + np.exp(-margin))).astype(np.int8))
        same = {
            "training_set": training_set,
            "split": split,
            "source": "natural",
            "confidence": 1.0,
            "probability": 1.0,
            "weight": 1.0,
        }
        made |= {one: pa.array([value] * count) for one, value in same.items()}
        schema = schemas[name]
        return pa.record_batch([made[one].cast(schema.field(one).type) for one in schema.names], schema=schema)

    versions = {}
    for name in partitions:
        batches = (day(number, name) for number in range(len(days)))
        reader = pa.RecordBatchReader.from_batches(schemas[name], batches)
        versions[name] = store.write_table(problem, name, reader, partitions[name])
    sheet = datasheet_uri(problem, training_set)
    for uri in (sheet, sheet.replace(".html", ".md"), facts_uri(problem, training_set)):
        store.write_bytes(uri, b"{}")
    store.write_json(feature_schema_uri(problem), [])
    pins = {
        "partition": keys[-1],
        "as_of": datetime(2025, 1, 1, tzinfo=UTC).isoformat(),
        "how": "scratch",
        "builds_on": None,
        "training": "made",
        "trained_until": keys[DAYS["train"] + DAYS["validation"] - 1],
        "events_version": 0,
        "labels_version": 0,
        "training_set": training_set,
        "training_set_version": versions["training_sets"],
        "splits": of_split,
        "rows": sum(of_split.values()),
        "left_out": {},
        "too_young": [],
        "not_drawn": 0,
        "datasheet": sheet,
        "leaks": {"checked": True, "findings": []},
        "feature_set": problem.feature_set,
        "features_version": versions["features"],
    }
    (folder / "pins.json").write_text(json.dumps(pins))
    tracking.log_files(problem, "so that MLflow has its tables", tags={}, files={})


def write_matrix(folder: Path) -> None:
    """The matrix that the stage boosts on, for the reference."""
    from pipelines.dataset import training_sets
    from pipelines.handoffs.training import Checked
    from pipelines.problem import load_problem
    from pipelines.training.prepare import Preparation

    problem = load_problem(PROBLEM)
    rows = training_sets.split(problem, Checked.model_validate_json((folder / "pins.json").read_text()), "train")
    prepare = Preparation(problem.feature_names, problem.categorical_features, {}, problem.task, problem.training.seed)
    np.save(folder / "matrix.npy", prepare.fit_transform(rows))
    np.savez(folder / "labels.npz", y=rows["label"].to_numpy(), weight=rows["weight"].to_numpy())


class Parts:
    """CPU seconds by part, each without the parts that it calls."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.running: list[str] = []
        self.since = 0.0

    def watch(self, part: str, owner: Any, *names: str) -> None:
        for name in names:
            setattr(owner, name, self._watched(part, getattr(owner, name)))

    def _watched(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*given: Any, **named: Any) -> Any:
            self._turn()
            self.running.append(part)
            try:
                return function(*given, **named)
            finally:
                self._turn()
                self.running.pop()

        return watched

    def _turn(self) -> None:
        now = time.process_time()
        if self.running:
            self.seconds[self.running[-1]] += now - self.since
        self.since = now


def ours(folder: Path) -> dict[str, Any]:
    import xgboost  # noqa: F401 - before the clock starts, as the reference does

    from pipelines import tracking
    from pipelines.dataset import fingerprint, training_sets
    from pipelines.metrics import metrics
    from pipelines.stages import stage
    from pipelines.stages.train import train
    from pipelines.training import boost, external, fit, prepare

    parts = Parts()
    parts.watch("read rows", training_sets, "split")
    parts.watch("fingerprint rows", fingerprint, "fingerprint")
    parts.watch("fingerprint rows", fit, "fingerprint")
    parts.watch("fingerprint matrix", external.Fingerprint, "add")
    parts.watch("prepare matrix", prepare.Preparation, "fit_transform", "transform")
    parts.watch("boost", boost.BoostedTrees, "fit")
    parts.watch("score", boost.BoostedTrees, "scores")
    parts.watch("measure", metrics, "measure")
    parts.watch("log", tracking, "find_run", "start_candidate", "log_candidate")
    parts.watch("rest", train, "train")
    pins = json.loads((folder / "pins.json").read_text())
    start = time.process_time()
    found = stage("train.train")(PROBLEM, pins, CANDIDATE)
    cpu = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    booster = tracking.load_model(found.run_id).estimator.booster_
    return {"cpu": cpu, "peak": peak, "parts": dict(parts.seconds), "trees": trees(booster)}


def reference(folder: Path) -> dict[str, Any]:
    import pyarrow  # noqa: F401 - as ours
    import xgboost

    from pipelines.problem import load_problem

    problem = load_problem(PROBLEM)
    matrix, labels = np.load(folder / "matrix.npy"), np.load(folder / "labels.npz")
    y, weight = labels["y"], labels["weight"]
    kinds = ["c" if name in problem.categorical_features else "q" for name in problem.feature_names]
    parameters = {
        **TREES,
        "objective": "binary:logistic",
        "tree_method": "hist",
        "nthread": THREADS,
        "seed": problem.training.seed,
        "seed_per_iteration": True,
    }
    start = time.process_time()
    rows = xgboost.QuantileDMatrix(
        matrix, label=y, weight=weight, feature_types=kinds, enable_categorical=True, nthread=THREADS
    )
    made = time.process_time()
    booster = xgboost.train(parameters, rows, ROUNDS)
    end = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    parts = {"QuantileDMatrix": made - start, "xgboost.train": end - made}
    return {"cpu": end - start, "peak": peak, "parts": parts, "trees": trees(booster)}


def trees(booster: Any) -> str:
    return hashlib.sha256("\n".join(booster.get_dump(with_stats=True)).encode()).hexdigest()


def _run(what: str, folder: Path, *more: str) -> None:
    """In a process of its own: a process starts with the peak memory of the one that made it."""
    environment = os.environ | {
        "EVERGREEN_PROBLEMS": f"{folder}/problems",
        "EVERGREEN_STORE_URI": f"file://{folder}/store",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "OMP_NUM_THREADS": str(THREADS),
        "OMP_WAIT_POLICY": "PASSIVE",  # a thread that waits for the other one is no work
        "PYTHONPATH": str(Path.cwd()),
    }
    command = [sys.executable, "-m", "benchmarks.overhead", what, str(folder), *more]
    # There, because MLflow keeps its files where it is started; what it says of its database is not asked for.
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(command, env=environment, cwd=folder, stderr=log)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{(folder / 'log.txt').read_text()[-4000:]}")


def _measure(who: str, folder: Path) -> dict[str, Any]:
    _run(who, folder)
    found: dict[str, Any] = json.loads((folder / f"{who}.json").read_text())
    print(f"  {who}: {found['cpu']:.1f} CPU s, peak {found['peak']:.0f} MB", flush=True)
    for part, seconds in sorted(found["parts"].items(), key=lambda one: -one[1]):
        print(f"    {part} {seconds:.1f}")
    return found


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="evergreen-overhead-") as name:
        folder = Path(name)
        _run("tables", folder, str(rows))
        print(f"{rows:,} training rows of {len(columns())} features, {ROUNDS} trees of depth {TREES['max_depth']}")
        found = {who: _measure(who, folder) for who in ("reference", "ours")}
        if found["ours"]["trees"] != found["reference"]["trees"]:
            raise SystemExit("the two have given different trees")
        (bare, whole), boost = (one["cpu"] for one in found.values()), found["ours"]["parts"]["boost"]
        print(f"the same trees; ratio of CPU seconds {whole / bare:.2f}; beside boosting {(whole - boost) / bare:.0%}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["tables", folder, rows]:
            write_tables(Path(folder), int(rows))
            write_matrix(Path(folder))
        case [("ours" | "reference") as who, folder]:
            result = {"ours": ours, "reference": reference}[who](Path(folder))
            Path(folder, f"{who}.json").write_text(json.dumps(result))
        case _:
            main(one_number(__doc__, "rows", 1_000_000))
