"""Stages in processes of their own, forked from one that has loaded all of it; struck, and tried again as Airflow does.

The loop itself is `pipelines.local_run`, whose stages run here instead (`struck`).
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from benchmarks.chaos.proxy import Asked, Blow, Proxy
from include import preload
from pipelines import local_run, stages, store
from pipelines.errors import EvergreenError, NothingToDo, TransientError

RETRIES = 3  # as include.wiring
MEMORY_BYTES = 16 * 2**20  # that a task may write to, beside what it shares with the process that it was forked from
LIMIT_S = 240.0  # of a try: whoever takes longer hangs
Shortage = Literal["memory", "handles", "temporary disk", "read-only disk", "clock", "source"]
"""What a task lacks. `clock`: its own is an hour off, as a store's would be; `source`: the file is not there."""


ByHand = Literal["", "task cleared", "run cleared", "never"]
ENDED_WELL = ("done", "nothing to do")


class Fault(BaseModel):
    """What befalls one try of a stage: one of the three."""

    blow: Blow | None = None
    """Of a service."""
    kill_at_s: float | None = None
    """A kill after so many seconds."""
    lacks: Shortage | None = None

    @property
    def kind(self) -> str:
        if self.blow is not None:
            return f"{self.blow.service}: {self.blow.kind}"
        return "killed at a moment" if self.kill_at_s is not None else f"task lacks {self.lacks}"

    @property
    def is_kill(self) -> bool:
        return self.kill_at_s is not None or (self.blow is not None and self.blow.kind.startswith("kill"))


class Try(BaseModel):
    """How one try ended."""

    end: Literal["done", "nothing to do", "killed", "transient", "permanent", "bare", "hung"]
    error: str = ""
    """What it said, in full."""
    seconds: float = 0.0


class Trial(BaseModel):
    """A try of a stage that a fault befell, and how the loop came over it."""

    seed: int
    number: int
    """Of the call, in its loop."""
    stage: str
    fault: Fault
    struck: bool
    end: Try
    """Of the try that it befell."""
    by_hand: ByHand = ""
    """What a person had to do, when that was over."""


Faults = dict[int, list[Fault]]


class Call(NamedTuple):
    """A call of the undisturbed loop."""

    stage: str
    seconds: float
    asked: list[Asked]


def load() -> None:
    """All that stages import: whoever forks must have used neither DuckDB nor Arrow, and needs the modules."""
    for name in [*preload.for_stages(), *(name for name in preload.FOR_TASKS if not name.startswith("airflow"))]:
        with suppress(ImportError):
            import_module(name)
    preload.look_up_installed()


def in_child(
    function: Callable[..., Any], *arguments: Any, log: Path
) -> tuple[Any, multiprocessing.process.BaseProcess]:
    """Start a process that runs a function; gives the pipe that its answer comes by, and the process."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs, function, arguments, log))
    child.start()
    theirs.close()
    return ours, child


def _answer(pipe: Connection, function: Callable[..., Any], arguments: Sequence[Any], log: Path) -> None:
    with log.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    answer: tuple[str, Any]
    try:
        answer = ("done", function(*arguments))
    except NothingToDo as reason:
        answer = ("nothing to do", reason)
    except EvergreenError as error:
        answer = ("transient" if isinstance(error, TransientError) else "permanent", error)
    except BaseException as error:
        answer = ("bare", error)
    try:
        content = pickle.dumps(answer)
    except Exception:
        content = pickle.dumps(("bare", RuntimeError(repr(answer[1]))))
    pipe.send_bytes(content)
    pipe.close()
    sys.stdout.flush()
    os._exit(0)


class Worker:
    """Runs the stages of one loop; `faults` by the number of the call whose tries they befall, one after the other."""

    def __init__(self, proxy: Proxy, folder: Path, seed: int, faults: Faults) -> None:
        self.calls: list[Call] = []
        self.trials: list[Trial] = []
        self._proxy = proxy
        self._folder = folder
        self._seed = seed
        self._faults = faults
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def log(self) -> Path:
        """What the processes print."""
        return self._folder / "stages.log"

    def run(self, name: str, *handed_on: Any, **options: Any) -> Any:
        """What a stage gives, in the end. It is tried again as Airflow does; where that was not enough, a person clears
        the task, once.

        Raises:
            EvergreenError, as the stage does; RuntimeError where it was none of ours.
        """
        number = len(self.calls)
        coming = list(self._faults.get(number, ()))
        start = time.monotonic()
        tries: list[Try] = []
        trials: list[Trial] = []
        first_asked: list[Asked] = []
        while not tries or (tries[-1].end in ("killed", "hung", "transient") and len(tries) <= RETRIES):
            fault = coming.pop(0) if coming else None
            self._proxy.arm(fault.blow if fault else None)
            struck, answer = self._try(fault, name, handed_on, options, tries)
            asked = self._proxy.arm(None)  # which waits until all services are back
            first_asked = first_asked or asked
            if fault is not None:
                trials.append(
                    Trial(seed=self._seed, number=number, stage=name, fault=fault, struck=struck, end=tries[-1])
                )
        by_hand: ByHand = ""
        if tries[-1].end not in ENDED_WELL:
            answer = self._try(None, name, handed_on, options, tries)[1]
            by_hand = "task cleared" if tries[-1].end in ENDED_WELL else "run cleared"
        if trials:
            trials[-1].by_hand = by_hand
        self.trials += trials
        self.calls.append(Call(name, time.monotonic() - start, first_asked))
        with self.log.open("a") as log:
            log.writelines(f"TRIAL {trial.model_dump_json()}\n" for trial in trials)
        if tries[-1].end == "done":
            return answer
        raise answer if isinstance(answer, EvergreenError) else RuntimeError(f"{name}: {tries[-1].error}")

    def _try(
        self, fault: Fault | None, name: str, handed_on: Sequence[Any], options: dict[str, Any], tries: list[Try]
    ) -> tuple[bool, Any]:
        """Once; whether the fault has struck, and the answer."""
        start = time.monotonic()
        lacks = fault.lacks if fault else None
        with _place(self._folder, lacks) as temporary, _without_source(handed_on[0], lacks):
            pipe, child = in_child(_stage, name, handed_on, options, lacks, temporary, log=self.log)
            struck = lacks is not None and (lacks != "memory" or memory_group() is not None)
            if fault is not None and fault.kill_at_s is not None:
                struck = not pipe.poll(fault.kill_at_s)
                if struck:
                    child.kill()
            elif fault is not None and fault.blow is not None:
                while not struck and not pipe.poll(0) and child.is_alive() and time.monotonic() - start < LIMIT_S:
                    struck = self._proxy.has_struck(0.02)
                struck = struck or self._proxy.has_struck(0)
                if struck and fault.is_kill:
                    child.kill()
            end, answer = heard(pipe, LIMIT_S)
            child.kill() if end == "hung" else child.join(20)
            child.kill()
            child.join()
        error = "" if end == "done" else f"{type(answer).__name__}: {answer}"
        tries.append(Try(end=end, error=error, seconds=time.monotonic() - start))
        return struck, answer

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives, in a process of its own, while nothing is wrong."""
        pipe, child = in_child(function, *arguments, log=self.log)
        end, answer = heard(pipe, LIMIT_S)
        child.join(20)
        if end != "done":
            raise RuntimeError(f"{function.__name__}: {end}: {answer}")
        return answer


def heard(pipe: Any, limit_s: float) -> tuple[Any, Any]:
    """How a function in another process ended, and what it gave or raised."""
    try:
        if not pipe.poll(limit_s):
            return "hung", f"no end within {limit_s:.0f} s"
        ended: tuple[Any, Any] = pickle.loads(pipe.recv_bytes())  # noqa: S301 - of a process of ours
        return ended
    except EOFError:
        return "killed", "the process was killed"


@contextmanager
def _without_source(problem_name: str, lacks: Shortage | None) -> Iterator[None]:
    if lacks != "source":
        yield
        return
    source = Path(os.environ["EVERGREEN_PROBLEMS"], problem_name, "pots.csv")
    away = source.rename(source.with_suffix(".away"))
    try:
        yield
    finally:
        away.rename(source)


@contextmanager
def _place(folder: Path, lacks: Shortage | None) -> Iterator[Path]:
    """A folder for temporary files, on a disk of its own where that is what is wrong."""
    place = folder / "tmp"
    place.mkdir(exist_ok=True)
    if lacks not in ("temporary disk", "read-only disk"):
        yield place
        return
    place = folder / "small"
    place.mkdir(exist_ok=True)
    option = "size=16k" if lacks == "temporary disk" else "ro"
    subprocess.run(["mount", "-t", "tmpfs", "-o", option, "chaos", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _stage(
    name: str, handed_on: Sequence[Any], options: dict[str, Any], lacks: Shortage | None, temporary: Path
) -> Any:
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    _lack(lacks)
    with store.task():
        return stages.stage(name)(*handed_on, **options)


def memory_group() -> Path | None:
    """A control group whose processes the kernel kills when they have written to MEMORY_BYTES; None where this process
    may make none. (An address space with a limit is no lack of memory: Delta's threads wait for ever in one.)"""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root, "evergreen-chaos")
        with suppress(OSError):
            group.mkdir(exist_ok=True)
            (group / limit).write_text(str(MEMORY_BYTES))
            return group
    return None


def _lack(what: Shortage | None) -> None:
    if what == "memory" and (group := memory_group()):
        (group / "cgroup.procs").write_text(str(os.getpid()))
    elif what == "handles":
        opened = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    elif what == "clock":
        import botocore.auth
        import botocore.compat

        real = botocore.compat.get_current_datetime

        def ahead(remove_tzinfo: bool = True) -> Any:
            from datetime import timedelta

            return real(remove_tzinfo) + timedelta(hours=1)

        botocore.auth.get_current_datetime = ahead


@contextmanager
def struck(worker: Worker) -> Iterator[None]:
    """The stages that `pipelines.local_run` runs are this worker's."""
    run = local_run.logged
    local_run.logged = worker.run
    try:
        yield
    finally:
        local_run.logged = run
