"""Several workers that boost one model, against bare XGBoost and against one process; and what killing them does.

    python -m benchmarks.engines [--rows N] [--kills N] [--ways WAY ...] [--hosts N] [--workers N ...] [--write FILE]

So many rows of 18 numbers with gaps and 2 categories lie in a Delta table. Each way has a process of its own and two
threads in all, which do not spin while they wait, and trains the same 100 trees. `bare` reads the table into memory,
makes a float32 matrix of it, and calls `xgboost.train`. `local` and `disk` are a fit by one process, in memory and out
of core, `processes` one by two workers, which each read their share of the table's files, and `ray` one by two jobs of
a cluster, which is started for it (`uv sync --extra ray`; without it that way is left out): of this host, or with
`--hosts` of so many others, each a network namespace (as root). A fit prepares and fingerprints its rows as well. CPU
seconds are of a process and of those that it starts, of `ray` also of the whole cluster, from its start to its end.
`--workers` adds `processes` with each of these numbers of workers.

Then trainings of few rows are interrupted at random moments, five times each and N times in all: the first worker is
killed (-9), another one, or the process that watches, which is then started again, as a retry is. What they learn is
held against what undisturbed processes learn. `--write FILE` puts the figures into a file.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset as ds

from benchmarks.ray_cluster import CLUSTER, cluster, processes, words_of
from pipelines.problem import Problem, parse_problem

NUMBERS, CATEGORIES, GAPS, THREADS, WORKERS, ROUNDS, EVERY = 18, 2, 0.02, 2, 2, 100, 10
BATCH_ROWS, TEST_ROWS, KILLED_ROWS, KILLS_OF_ONE = 250_000, 100_000, 10_000, 5
TREES = {"n_estimators": ROUNDS, "max_depth": 6, "learning_rate": 0.1, "subsample": 1.0, "colsample_bynode": 1.0}
Way = Literal["bare", "local", "disk", "processes", "ray"]
Victim = Literal["first worker", "other worker", "watch"]
WAYS: tuple[Way, ...] = ("bare", "local", "disk", "processes", "ray")
SHARED: tuple[Way, ...] = ("processes", "ray")
VICTIMS: tuple[Victim, ...] = ("first worker", "other worker", "watch")


class Measured(NamedTuple):
    """Of one way."""

    cpu_s: float
    peak_mb: float
    """Of the process that trains, or of the largest worker."""
    watch_mb: float
    """Of the process that was started; of `processes` it only watches."""
    wall_s: float
    hosts: int
    """That its workers ran on."""
    model: str
    """Its hash."""
    loss: float
    """Log loss on other rows."""
    scores: np.ndarray


class Interrupted(NamedTuple):
    """How trainings ended that were interrupted."""

    way: Way
    victim: Victim
    kills: int
    trainings: int
    same: int
    """Ended with the model that undisturbed processes learn."""
    twice: int
    """States that were made twice."""


def names() -> list[str]:
    return [f"number_{place}" for place in range(NUMBERS)] + [f"category_{place}" for place in range(CATEGORIES)]


def made(seed: int, rows: int) -> pa.Table:
    generator = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    margin = np.zeros(rows)
    for place, name in enumerate(names()):
        values: Any = generator.normal(size=rows).astype(np.float32)
        if place < NUMBERS:
            margin += values * (0.8 if place < 4 else 0.1)
        else:
            codes = generator.integers(0, 50, rows)
            margin += np.abs(codes - 25) / 25 - 0.5
            values = np.char.add("value ", codes.astype(str))
        columns[name] = pa.array(values, mask=generator.random(rows) < GAPS)
    label = (generator.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.int8)
    return pa.table(columns | {"label": label, "weight": np.ones(rows), "partition": ["2024-01-01"] * rows})


def write(folder: Path, rows: int) -> None:
    from deltalake import write_deltalake

    for number, start in enumerate(range(0, rows, BATCH_ROWS)):
        write_deltalake(str(folder / "rows"), made(number, min(BATCH_ROWS, rows - start)), mode="append")


def files(folder: Path) -> ds.Dataset:
    from deltalake import DeltaTable

    return ds.dataset(sorted(DeltaTable(str(folder / "rows")).file_uris()), format="parquet")


def problem(engine: dict[str, Any] | None, memory_limit_mb: float, folder: Path) -> Problem:
    raw = {
        "description": "made for a benchmark",
        "owner": "evergreen",
        "key": "id",
        "partitions": {"every": "day", "first": "2024-01-01"},
        "sources": {"rows": {"path": "rows.parquet"}},
        "columns": {
            name: {"type": "float" if name.startswith("number") else "string", "available": "cutoff"}
            for name in names()
        },
        "features": {"columns": names()},
        "training": {
            "baselines": ["prior"],
            "candidates": {"prior": {"model": "prior"}, "trees": {"model": "xgboost", "parameters": TREES}},
            "threads": THREADS,
            "device": "cpu",
            "engine": engine,
            "memory_limit_mb": memory_limit_mb,
        },
        "gate": {"limits": {"auc": {"min": 0.5}}, "gain_over_baselines": {"auc": 0}, "gain_over_champion": {"auc": 0}},
    }
    return parse_problem(raw, folder)


class Kept:
    """A checkpoint in a file; the victim is killed at random moments after five of the states."""

    def __init__(self, path: Path, victim: Victim | None, seed: int) -> None:
        self.every, self._path, self._victim = EVERY, path, victim
        self._random = random.Random(seed)  # noqa: S311
        self._at = self._random.sample(range(EVERY, ROUNDS, EVERY), KILLS_OF_ONE)

    def save(self, rounds: int, model: bytes) -> None:
        self._note("states", rounds)
        whole = self._path.with_suffix(".new")
        whole.write_bytes(rounds.to_bytes(8, "big") + model)
        whole.replace(self._path)
        if self._victim and rounds in self._at:
            threading.Timer(self._random.random() * 0.3, self._kill, [self._victim, rounds]).start()

    def load(self) -> tuple[int, bytes] | None:
        if not self._path.exists():
            return None
        state = self._path.read_bytes()
        return int.from_bytes(state[:8], "big"), state[8:]

    def _kill(self, victim: Victim, rounds: int) -> None:
        rank = "0" if victim == "first worker" else "1"
        for process in [psutil.Process()] if victim == "watch" else workers():
            if victim == "watch" or process.cmdline()[-1:] == [rank]:
                self._note("kills", rounds)
                process.kill()

    def _note(self, what: str, rounds: int) -> None:
        with self._path.with_suffix(f".{what}").open("a") as notes:
            notes.write(f"{rounds}\n")


def workers() -> Iterator[psutil.Process]:
    """Those that this process, or the cluster, has started."""
    mark = os.environ.get(CLUSTER)
    for process in itertools.chain(psutil.Process().children(recursive=True), processes(mark) if mark else []):
        # Ray's shell has the whole command in one word.
        if "pipelines.training.workers.worker" in words_of(process):
            yield process


def train(
    way: Way,
    folder: Path,
    victim: Victim | None = None,
    seed: int = 0,
    state: Path | None = None,
    number: int = WORKERS,
) -> None:
    """Train one way, in this process; leaves scores on other rows, and the model's hash."""
    test, peaks = made(10**6, TEST_ROWS), Peaks()
    if way in SHARED:
        peaks.start()
    if way == "bare":
        scores, raw = bare(files(folder), test)
    else:
        from pipelines.training.fit import fit

        engine = {"kind": way, "workers": number} if way in SHARED else None
        data = files(folder)
        config = problem(engine, memory_limit_mb=1 if way == "disk" else 4096, folder=folder)
        rows = data.to_table() if way == "local" else data
        checkpoint = Kept(state, victim, seed) if state else None
        model = fit(config, "trees", rows, test.slice(0, 0), checkpoint=checkpoint)
        scores, raw = model.scores(test), bytes(model.estimator.booster_.save_raw("ubj"))
    np.save(folder / f"{way}.npy", scores)
    own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    about = {"hash": hashlib.sha256(raw).hexdigest(), "own_mb": own_mb}
    about |= {"worker_mb": peaks.highest_mb, "hosts": len(peaks.networks)}
    (folder / f"{way}.json").write_text(json.dumps(about))


class Peaks(threading.Thread):
    """The peak memory of the processes that this one starts: asked for while they run, as what the system says at their
    end counts in what this one had when it started them."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest_mb = 0.0
        self.networks: set[str] = set()
        """Network namespaces that they ran in."""

    def run(self) -> None:
        while True:
            for process in workers():
                with suppress(OSError):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
                    self.highest_mb = max([self.highest_mb, *(int(count) / 1024 for count in kilobytes)])
                    self.networks.add(str(Path(f"/proc/{process.pid}/ns/net").readlink()))
            time.sleep(0.2)


def bare(data: ds.Dataset, test: pa.Table) -> tuple[np.ndarray, bytes]:
    """What XGBoost needs, and no more."""
    import xgboost

    known = {name: sorted(data.head(10_000)[name].drop_null().unique().to_pylist()) for name in names()[NUMBERS:]}

    def matrix(rows: pa.Table) -> np.ndarray:
        import pyarrow.compute as pc

        filled = np.empty((rows.num_rows, NUMBERS + CATEGORIES), np.float32)
        for place, name in enumerate(names()):
            values = rows[name] if place < NUMBERS else pc.index_in(rows[name], pa.array(known[name], pa.string()))
            filled[:, place] = values.cast(pa.float32()).to_numpy()
        return filled

    rows = data.to_table(columns=[*names(), "label"])
    label = rows["label"].to_numpy()
    filled = matrix(rows)
    del rows
    options: dict[str, Any] = {"feature_types": ["q"] * NUMBERS + ["c"] * CATEGORIES, "enable_categorical": True}
    train_rows = xgboost.QuantileDMatrix(filled, label, nthread=THREADS, **options)
    del filled
    told = {name: value for name, value in TREES.items() if name != "n_estimators"}
    more = {"reg_lambda": 5, "min_child_weight": 5, "objective": "binary:logistic", "nthread": THREADS}
    booster = xgboost.train(told | more, train_rows, ROUNDS)
    return booster.inplace_predict(matrix(test)).astype(np.float64), bytes(booster.save_raw("ubj"))


def started(way: str, folder: Path, *more: str) -> tuple[int, resource.struct_rusage, float]:
    """Exit status, usage and wall seconds of a process of its own."""
    start = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.engines", "--one", way, str(folder), *more]
    process = subprocess.Popen(command, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"})
    _, status, used = os.wait4(process.pid, 0)
    return status, used, time.monotonic() - start


def measured(way: Way, folder: Path, hosts: int, workers: int = WORKERS) -> Measured:
    with cluster(hosts, THREADS // hosts) if way == "ray" else nullcontext() as jobs:
        status, used, wall_s = started(way, folder, str(workers))
        cluster_s = jobs.cpu_s_at_rest() if jobs else 0.0
    if status:
        raise SystemExit(f"{way} failed")
    about, scores = json.loads((folder / f"{way}.json").read_text()), np.load(folder / f"{way}.npy")
    label = made(10**6, TEST_ROWS)["label"].to_numpy()
    loss = float(-np.mean(np.log(np.where(label == 1, scores, 1 - scores))))
    peak_mb = about["worker_mb"] or about["own_mb"]
    cpu_s, ran_on = used.ru_utime + used.ru_stime + cluster_s, max(1, about["hosts"])
    return Measured(cpu_s, peak_mb, about["own_mb"], wall_s, ran_on, about["hash"], loss, scores)


def interrupted(way: Way, folder: Path, kills: int) -> list[Interrupted]:
    """Trainings of few rows, interrupted until so many were killed of each."""
    seeds = itertools.count()

    def ended(way: Way, victim: Victim | None) -> tuple[str, list[str], int]:
        """Hash of the model, rounds of the states that were kept, and how many were killed."""
        with tempfile.TemporaryDirectory(dir=folder) as own:
            state, seed = Path(own, "state"), str(next(seeds))
            for _ in range(KILLS_OF_ONE + 1):
                status, _, _ = started(way, folder, victim or "-", seed, str(state))
                if not status:
                    break
                if victim != "watch":
                    raise SystemExit(f"a training failed whose {victim} was killed")
            states, killed = (state.with_suffix(f".{what}") for what in ("states", "kills"))
            count = len(killed.read_text().split()) if killed.exists() else 0
            return json.loads((folder / f"{way}.json").read_text())["hash"], states.read_text().split(), count

    wanted, _, _ = ended("processes", None)
    found = []
    for victim in VICTIMS:
        outcomes: list[tuple[str, list[str], int]] = []
        while sum(count for _, _, count in outcomes) < kills:
            outcomes.append(ended(way, victim))
        same = sum(model == wanted for model, _, _ in outcomes)
        twice = sum(len(states) - len(set(states)) for _, states, _ in outcomes)
        killed = sum(count for _, _, count in outcomes)
        found.append(Interrupted(way, victim, killed, len(outcomes), same, twice))
        print(found[-1], flush=True)
    return found


def report(
    rows: int,
    by_way: dict[Way, Measured],
    interruptions: list[Interrupted],
    by_number: dict[int, Measured] | None = None,
) -> str:
    """`by_number`: `processes` by the number of its workers."""
    lines = []
    if by_way or by_number:
        columns = NUMBERS + CATEGORIES
        lines.append(f"{rows:,} rows of {columns} columns from Delta, {ROUNDS} trees of depth 6, two threads")
    of_numbers = {f"processes by {number}": found for number, found in (by_number or {}).items()}
    for way, found in [*by_way.items(), *of_numbers.items()]:
        share = ""
        if first := by_way.get("bare"):
            share = f" ({found.cpu_s / first.cpu_s:.2f} of bare's CPU, {found.peak_mb / first.peak_mb:.0%} of its peak)"
        watch = f", who watches {found.watch_mb:.0f} MB" if way.startswith(SHARED) else ""
        watch += f", on {found.hosts} hosts" if found.hosts > 1 else ""
        lines.append(
            f"  {way:<14} {found.cpu_s:6.1f} CPU s, peak {found.peak_mb:5.0f} MB{share}{watch}, "
            f"{found.wall_s:.0f} s, log loss {found.loss:.6f}"
        )
    if len(of_numbers) > 1:
        models = {found.model for found in of_numbers.values()}
        lines.append(
            f"  the model is {'not ' if len(models) > 1 else ''}the same with each number of workers, bit for bit"
        )
    if by_way.keys() >= {*SHARED}:
        is_same = by_way["ray"].model == by_way["processes"].model
        lines.append(f"  ray's model is {'' if is_same else 'not '}that of processes, bit for bit")
    for way in by_way.keys() & {"disk", "processes", "ray"} if "local" in by_way else ():
        difference = float(np.abs(by_way[way].scores - by_way["local"].scores).max())
        lines.append(f"  largest difference of a score of {way} from local's: {difference:.2g}")
    lines += [
        f"  {end.way}: {end.victim} killed {end.kills} times in {end.trainings} trainings of {KILLED_ROWS:,} rows: "
        f"{end.same} ended with the same model; states that were made twice: {end.twice}"
        for end in interruptions
    ]
    return "\n".join(lines)


def main(rows: int, kills: int, ways: list[Way], hosts: int, numbers: list[int], written_to: Path | None) -> None:
    if "ray" in ways and not find_spec("ray"):
        print("ray is left out: it is not installed here", file=sys.stderr)
        ways = [way for way in ways if way != "ray"]
    by_way: dict[Way, Measured] = {}
    by_number: dict[int, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="evergreen-engines-") as folder:
        # In a process of its own: a process starts with the peak memory of the one that made it.
        subprocess.run([sys.executable, "-m", "benchmarks.engines", "--one", "rows", folder, str(rows)], check=True)
        for way in ways if rows else []:
            by_way[way] = measured(way, Path(folder), hosts)
            print(report(rows, by_way, []), flush=True)
        for number in numbers if rows else []:
            by_number[number] = measured("processes", Path(folder), hosts, number)
            print(report(rows, by_way, [], by_number), flush=True)
    interruptions = []
    with tempfile.TemporaryDirectory(prefix="evergreen-engines-") as folder:
        write(Path(folder), KILLED_ROWS)
        for way in ways if kills else []:
            if way in SHARED:
                with cluster(hosts, THREADS // hosts) if way == "ray" else nullcontext():
                    interruptions += interrupted(way, Path(folder), kills)
    text = report(rows, by_way, interruptions, by_number)
    print(text)
    if written_to:
        written_to.write_text(f"{text}\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--one", "rows", folder, rows]:
            write(Path(folder), int(rows))
        case ["--one", ("bare" | "local" | "disk" | "processes" | "ray") as way, folder, number]:
            train(way, Path(folder), number=int(number))
        case ["--one", ("processes" | "ray") as way, folder, victim, seed, state]:
            train(way, Path(folder), next((v for v in VICTIMS if v == victim), None), int(seed), Path(state))
        case _:
            options = argparse.ArgumentParser(prog="python -m benchmarks.engines")
            options.add_argument("--rows", type=int, default=500_000)
            options.add_argument("--kills", type=int, default=20)
            options.add_argument(
                "--ways", nargs="+", choices=WAYS, default=[*WAYS], help="held against bare, where it is among them"
            )
            options.add_argument(
                "--hosts",
                type=int,
                choices=range(1, WORKERS + 1),
                default=1,
                help="of Ray's cluster; 2 or more as root",
            )
            options.add_argument("--workers", type=int, nargs="+", default=[], help="numbers of workers of `processes`")
            options.add_argument("--write", type=Path, help="file that the figures go to")
            asked = options.parse_args()
            main(asked.rows, asked.kills, asked.ways, asked.hosts, asked.workers, asked.write)
