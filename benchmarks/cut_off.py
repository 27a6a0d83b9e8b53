"""A worker on another host whose link goes down, in mid-training: how soon that is noticed, and what comes of it.

    sudo python -m benchmarks.cut_off [--way processes|ray] [--times N]

Of two processes the second one runs on the other host (see benchmarks.other_host); of two jobs of Ray each runs on a
host of its own (see benchmarks.ray_cluster), and the task on a third. The link of the host that is not the cluster's
head is taken down at a random moment after a state was kept, and comes up again when the task has noticed. What is
learnt is held against what undisturbed processes learn.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.engines import EVERY, KILLED_ROWS, ROUNDS, SHARED, THREADS, Way, files, made, problem, write
from benchmarks.other_host import HERE, INSIDE, connect, disconnect, other_host
from benchmarks.ray_cluster import cluster
from pipelines.training.workers import processes
from pipelines.training.workers.processes import Processes, WorkerProcess


class Apart(Processes):
    """The second worker runs on the other host."""

    host = HERE

    def start(self, rank: int, port: int, secret: bytes) -> WorkerProcess:
        if rank == 0:
            return super().start(rank, port, secret)
        command = [*INSIDE, sys.executable, "-m", "pipelines.training.workers.worker"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        process = subprocess.Popen(
            [*command, HERE, str(port), str(rank)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(f"{secret.hex()}\n")
        process.stdin.close()
        return WorkerProcess(process)


class Link(NamedTuple):
    """That of the second worker's host."""

    up: Callable[[], None]
    down: Callable[[], None]


@contextmanager
def processes_apart() -> Iterator[Link]:
    usual, processes.Processes = processes.Processes, Apart  # type: ignore[misc]
    try:
        with other_host():
            yield Link(connect, disconnect)
    finally:
        processes.Processes = usual  # type: ignore[misc]


@contextmanager
def jobs_apart() -> Iterator[Link]:
    with cluster(2, THREADS // 2) as jobs:
        yield Link(*(partial(jobs.cut_off, jobs.names[1], is_down=is_down) for is_down in (False, True)))


class Kept:
    """A checkpoint in memory. After the state of the round `at` the link goes down."""

    def __init__(self, at: int, link: Link) -> None:
        self.every, self._at, self._link = EVERY, at, link
        self._state: tuple[int, bytes] | None = None
        self._down = 0.0
        self.noticed_s: float | None = None

    def save(self, rounds: int, model: bytes) -> None:
        self._state = (rounds, model)
        if rounds == self._at and not self._down:
            threading.Timer(random.random() * 0.3, self._cut).start()  # noqa: S311

    def load(self) -> tuple[int, bytes] | None:
        """Is asked for when workers start, and when they were lost."""
        if self._down and self.noticed_s is None:
            self.noticed_s = time.monotonic() - self._down
            self._link.up()
        return self._state

    def _cut(self) -> None:
        self._link.down()
        self._down = time.monotonic()


def main(way: Way, times: int) -> None:
    from pipelines.training.fit import fit

    with tempfile.TemporaryDirectory(prefix="evergreen-cut-off-") as name:
        folder = Path(name)
        write(folder, KILLED_ROWS)
        nothing = made(0, 1).slice(0, 0)

        def learnt(way: Way, kept: Kept) -> bytes:
            config = problem({"kind": way, "workers": 2}, 4096, folder)
            model = fit(config, "trees", files(folder), nothing, checkpoint=kept)
            return bytes(model.estimator.booster_.save_raw("ubj"))

        wanted = learnt("processes", Kept(0, Link(connect, disconnect)))  # no state is of round 0
        with jobs_apart() if way == "ray" else processes_apart() as link:
            for _ in range(times):
                start, kept = time.monotonic(), Kept(random.randrange(EVERY, ROUNDS, EVERY), link)  # noqa: S311
                is_same = learnt(way, kept) == wanted
                noticed = "not at all" if kept.noticed_s is None else f"after {kept.noticed_s:.1f} s"
                whole = time.monotonic() - start
                print(f"noticed {noticed}, trained after {whole:.0f} s; the same model: {is_same}", flush=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="python -m benchmarks.cut_off")
    options.add_argument("--way", choices=SHARED, default="processes")
    options.add_argument("--times", type=int, default=3)
    asked = options.parse_args()
    main(asked.way, asked.times)
