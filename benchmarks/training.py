"""Boosting out of core: peak memory and time against the same rows in memory.

    python -m benchmarks.training [rows] [--columns N] [--disk-only]

Columns of floats with gaps, two of them categories, from a Parquet file that is read batch by batch. Each way
trains the same trees in a process of its own, and says how good they are on rows that neither has seen. The process
`imports` reads one batch and trains on that: what such a process needs before there is much data. The in-memory way
holds the matrix once, filled in place; `--disk-only` leaves it out, where it would not fit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.training.boost import BoostedTrees
from pipelines.training.external import Batch

COLUMNS, CATEGORIES, BATCH_ROWS, TEST_ROWS = 40, 2, 65_536, 100_000
PLACES = {"disk": "on disk", "memory": "in memory"}
TREES = {"n_estimators": 10, "max_depth": 6, "learning_rate": 0.3, "subsample": 0.8, "colsample_bytree": 0.6}


def made(seed: int, rows: int, columns: int) -> Batch:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(rows, columns)).astype(np.float32)
    matrix[:, -CATEGORIES:] = random.integers(0, 30, (rows, CATEGORIES))
    margin = matrix[:, 0] + matrix[:, 1] * matrix[:, 2] + np.where(matrix[:, -1] > 20, 1, -0.5)
    y = random.random(rows) < 1 / (1 + np.exp(-margin))
    matrix[random.random(matrix.shape, dtype=np.float32) < 0.02] = np.nan
    return matrix, y.astype(np.int64), np.ones(rows)


def write(path: str, rows: int, columns: int) -> None:
    floats = [(f"f{number}", pa.float32()) for number in range(columns)]
    schema = pa.schema([*floats, ("label", pa.int64()), ("weight", pa.float64())])
    with pq.ParquetWriter(path, schema) as writer:
        for number, start in enumerate(range(0, rows, BATCH_ROWS)):
            matrix, y, weight = made(number, min(BATCH_ROWS, rows - start), columns)
            writer.write_batch(pa.record_batch([*map(pa.array, matrix.T.copy()), y, weight], schema=schema))


def width(path: str) -> int:
    return len(pq.read_schema(path)) - 2  # label and weight


def read(path: str) -> Iterator[Batch]:
    columns = width(path)
    # A dataset's scanner, and pre_buffer, read ahead of a slow consumer, into memory.
    for batch in pq.ParquetFile(path, pre_buffer=False).iter_batches(batch_size=BATCH_ROWS, use_threads=False):
        matrix = np.empty((len(batch), columns), dtype=np.float32)
        for number in range(columns):
            matrix[:, number] = batch.column(number).to_numpy(zero_copy_only=False)
        yield matrix, batch["label"].to_numpy(), batch["weight"].to_numpy()


def whole(path: str) -> Batch:
    rows = pq.ParquetFile(path).metadata.num_rows
    matrix, y, weight = np.empty((rows, width(path)), np.float32), np.empty(rows, np.int64), np.empty(rows)
    start = 0
    for batch in read(path):
        for target, part in zip((matrix, y, weight), batch, strict=True):
            target[start : start + len(part)] = part
        start += len(batch[0])
    return matrix, y, weight


def train(way: str, path: str) -> None:
    kinds = [False] * (width(path) - CATEGORIES) + [True] * CATEGORIES
    model = BoostedTrees(TREES, "binary", 2, seed=0, threads=2, device="cpu", is_category=kinds)
    match way:
        case "imports":
            model.fit(*next(read(path)))
        case "memory":
            model.fit(*whole(path))
        case "disk":
            model.fit_batches(lambda: read(path))
    from sklearn.metrics import roc_auc_score

    matrix, y, _ = made(10**6, TEST_ROWS, width(path))
    print(f"    AUC {roc_auc_score(y, model.scores(matrix)):.5f} on {TEST_ROWS:,} other rows", flush=True)


def measure(way: str, path: str) -> float:
    """Peak memory in MB of a process of its own."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.training", way, path])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{way} failed")
    peak = used.ru_maxrss / 1024
    seconds, cpu = time.monotonic() - start, used.ru_utime + used.ru_stime
    print(f"  {way}: peak {peak:.0f} MB, {cpu:.1f} CPU s, {seconds:.1f} s", flush=True)
    return peak


def main(rows: int, columns: int, is_disk_only: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="evergreen-training-") as folder:
        path = str(Path(folder) / "rows.parquet")
        # In a process of its own: a process starts with the peak memory of the one that made it.
        making = [sys.executable, "-m", "benchmarks.training", "rows", path, str(rows), str(columns)]
        subprocess.run(making, check=True)
        print(f"{rows:,} rows of {columns} floats: {rows * columns * 4 / 2**20:.0f} MB; {TREES['n_estimators']} trees")
        ways = ["disk"] if is_disk_only else list(PLACES)
        peaks = {way: measure(way, path) for way in ("imports", *ways)}
        above = {way: peaks[way] - peaks["imports"] for way in ways}
        print("above a process without data:", ", ".join(f"{above[way]:.0f} MB {PLACES[way]}" for way in ways), end="")
        print("" if is_disk_only else f", ratio {above['disk'] / above['memory']:.2f}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["rows", path, rows, columns]:
            write(path, int(rows), int(columns))
        case [("imports" | "memory" | "disk") as way, path]:
            train(way, path)
        case _:
            options = argparse.ArgumentParser(prog="python -m benchmarks.training")
            options.add_argument("rows", type=int, nargs="?", default=3_000_000)
            options.add_argument("--columns", type=int, default=COLUMNS)
            options.add_argument("--disk-only", action="store_true")
            given = options.parse_args()
            main(given.rows, given.columns, given.disk_only)
