"""A worker on another host whose link goes down, in mid-training: how soon that is noticed, and what comes of it.

    sudo python -m benchmarks.cut_off [--times N]

Of two workers the second one runs on the other host (see benchmarks.other_host). Its link is taken down at a random
moment after a state was kept, and comes up again when the workers start anew.
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
from pathlib import Path

from benchmarks.engines import EVERY, KILLED_ROWS, ROUNDS, files, made, problem, write
from benchmarks.other_host import HERE, INSIDE, connect, disconnect, other_host
from pipelines.training.workers import processes
from pipelines.training.workers.processes import Processes, WorkerProcess


class Apart(Processes):
    """The second worker runs on the other host."""

    host = HERE

    def start(self, rank: int, port: int, secret: bytes) -> WorkerProcess:
        if rank == 0:
            return super().start(rank, port, secret)
        connect()
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


class Kept:
    """A checkpoint in memory. After the state of the round `at` the link goes down; None: it stays up."""

    def __init__(self, at: int | None) -> None:
        self.every, self._at = EVERY, at
        self._state: tuple[int, bytes] | None = None
        self._down = 0.0
        self.noticed_s: float | None = None

    def save(self, rounds: int, model: bytes) -> None:
        self._state = (rounds, model)
        if rounds == self._at:
            threading.Timer(random.random() * 0.3, self._cut).start()  # noqa: S311

    def load(self) -> tuple[int, bytes] | None:
        """Is asked for when workers start, and when they were lost."""
        if self._down and self.noticed_s is None:
            self.noticed_s = time.monotonic() - self._down
        return self._state

    def _cut(self) -> None:
        disconnect()
        self._down = time.monotonic()


def main(times: int) -> None:
    from pipelines.training.fit import fit

    processes.Processes = Apart  # type: ignore[misc]
    wanted = b""
    with other_host(), tempfile.TemporaryDirectory(prefix="evergreen-cut-off-") as name:
        folder = Path(name)
        write(folder, KILLED_ROWS)
        config, nothing = problem({"kind": "processes", "workers": 2}, 4096, folder), made(0, 1).slice(0, 0)
        for number in range(times + 1):
            kept = Kept(random.randrange(EVERY, ROUNDS, EVERY) if number else None)  # noqa: S311
            model = fit(config, "trees", files(folder), nothing, checkpoint=kept)
            raw = bytes(model.estimator.booster_.save_raw("ubj"))
            wanted = wanted or raw
            if number:
                print(f"noticed after {kept.noticed_s:.1f} s; the same model: {raw == wanted}", flush=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="python -m benchmarks.cut_off")
    options.add_argument("--times", type=int, default=3)
    main(options.parse_args().times)
