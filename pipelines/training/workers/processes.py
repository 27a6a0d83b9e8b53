"""The engine `processes`: workers are processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

STOP_S = 2.0


class Processes:
    """Starts each worker as a process beside this one."""

    host = "127.0.0.1"
    start_s = 120.0

    def __init__(self, threads: int) -> None:
        """`threads`: of each worker."""
        self._threads = threads

    def start(self, rank: int, port: int, secret: bytes) -> WorkerProcess:
        command = [sys.executable, "-m", "pipelines.training.workers.worker", self.host, str(port), str(rank)]
        # Who waits for another worker's sums leaves the core to it.
        environment = os.environ | {"OMP_NUM_THREADS": str(self._threads), "OMP_WAIT_POLICY": "PASSIVE"}
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, text=True
        )
        assert process.stdin is not None
        process.stdin.write(f"{secret.hex()}\n")
        process.stdin.close()
        return WorkerProcess(process)


class WorkerProcess:
    """A worker's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ended(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"exit {code}"

    def state(self) -> str:
        return self.ended() or "it runs"

    def stop(self) -> None:
        """It ends by itself where its connection is closed, and removes what it keeps on disk."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        self.process.kill()
        self.process.wait()
