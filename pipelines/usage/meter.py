"""What a try uses, from its first moment to its last, noted each second: of one that is killed too."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, get_args

from pipelines.config import How
from pipelines.errors import NothingToDo, PermanentError
from pipelines.store import store_uri, traffic
from pipelines.store.address import is_far
from pipelines.usage import machine, notes
from pipelines.usage.notes import Note, Open
from pipelines.usage.table import settle
from pipelines.usage.tries import LOCAL, Outcome, Try

BEAT_S = 1.0  # a killed try is known to the second
FRESH_S = 600.0  # a task's own process begins before the task does, on a busy machine by minutes
COUNTED = ("rows", "events")  # what hand-offs call the rows that they are of

log = logging.getLogger(__name__)
_measured_in: int | None = None  # process in which a try was measured before
_run: ContextVar[str | None] = ContextVar("run", default=None)


class About(NamedTuple):
    """Which try of which task."""

    problem: str
    stage: str
    run: str
    part: str | None = None
    try_number: int = 1
    partition: str | None = None
    how: How | None = None
    has_own_process: bool = False
    """Whether nothing else has been done in this process since it was forked: what that took is the task's too."""

    @classmethod
    def of(cls, problem: str, stage: str, run: str, arguments: Mapping[str, object], **more: Any) -> About:
        """What a task's arguments, hand-offs or their JSON, say of it goes along."""
        said = {"partition": said_partition(arguments), "how": said_how([*arguments.values()])}
        return cls(
            problem, stage, run, **{**said, **{name: value for name, value in more.items() if value is not None}}
        )


class Result:
    """Takes what the task gives."""

    value: Any = None


@contextmanager
def measured_run() -> Iterator[str]:
    """Tries that are measured within are of one run, whose name this gives."""
    name = _run.get() or f"{LOCAL}{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    token = _run.set(name)
    try:
        yield name
    finally:
        _run.reset(token)


@contextmanager
def measured(about: About) -> Iterator[Result]:
    """Measure what is done within. That it cannot be measured stops nothing."""
    meter, result = _begun(about), Result()
    outcome: Outcome = "done"
    error: BaseException | None = None
    try:
        yield result
    except BaseException as raised:
        error = raised
        outcome = "skipped" if isinstance(raised, NothingToDo) else "failed"
        raise
    finally:
        if meter is not None and meter.process == os.getpid():
            _end(meter, about, outcome, error, result.value)


def _begun(about: About) -> Meter | None:
    try:
        return Meter(about)
    except Exception as error:
        log.warning("what %s uses is not measured: %s", about.stage, error)
        return None


def _end(meter: Meter, about: About, outcome: Outcome, error: BaseException | None, result: object) -> None:
    try:
        attempt = meter.end(outcome, error, result)
        settle(about.problem, attempt, is_over=isinstance(error, PermanentError))
    except Exception as fault:
        log.warning("what %s used is not written down yet: %s", about.stage, fault)


@dataclass(frozen=True)
class _Start:
    """What is taken off what is there later."""

    clock: float
    reading: machine.Reading
    traffic: traffic.Traffic

    @classmethod
    def now(cls, has_own_process: bool) -> _Start:
        global _measured_in
        is_first, _measured_in = _measured_in != os.getpid(), os.getpid()
        clock, reading = time.monotonic(), machine.reading()
        age = machine.age_s() if has_own_process and is_first else FRESH_S
        if age < FRESH_S:  # else it is a long process that plays a DAG, such as a test's
            clock, reading = clock - age, reading._replace(cpu_s=0.0, children_cpu_s=0.0)
        return cls(clock, reading, _traffic())


class Meter:
    """Measures a try, and keeps its note."""

    def __init__(self, about: About) -> None:
        self.process = os.getpid()
        self._start = _Start.now(about.has_own_process)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._peak = self._start.reading.now_bytes + self._start.reading.children_bytes
        self._grown = 0
        self._oom_kills = machine.out_of_memory_kills()
        self._attempt = Try(
            id=uuid.uuid4().hex,
            stage=about.stage,
            part=about.part,
            run=about.run,
            try_number=about.try_number,
            partition=about.partition,
            how=about.how,
            host=socket.gethostname(),
            started_time=datetime.now(UTC) - timedelta(seconds=time.monotonic() - self._start.clock),
            outcome="killed",
        )
        folder = notes.folder_of(about.problem)
        self._note = Open(folder, self._noted(self._attempt)) if folder else None
        threading.Thread(target=self._beat, daemon=True, name="evergreen-usage").start()

    def end(self, outcome: Outcome, error: BaseException | None, result: object) -> Try:
        """The try as it has come out; where there are notes, it is noted."""
        with self._lock:
            self._over.set()
            attempt = self._now().model_copy(
                update={
                    "outcome": outcome,
                    "reason": None if error is None else type(error).__name__,
                    "rows": _rows(result),
                    "how": self._attempt.how or said_how([result]),
                    "partition": self._attempt.partition or said_partition({"": result}),
                }
            )
            if self._note:
                self._note.write(self._noted(attempt, has_ended=True))
                self._note.close()
        return attempt

    def _noted(self, attempt: Try, has_ended: bool = False) -> Note:
        return Note(attempt=attempt, has_ended=has_ended, oom_kills=self._oom_kills)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with self._lock:
                if self._over.is_set():
                    return
                attempt = self._now()
                if self._note:
                    with suppress(OSError):  # the disk is full; what was noted before stands
                        self._note.write(self._noted(attempt))

    def _now(self) -> Try:
        start, now, passed = self._start, machine.reading(), _traffic()
        held, held_first = (reading.now_bytes + reading.children_bytes for reading in (now, start.reading))
        self._peak, self._grown = max(self._peak, held), max(self._grown, held - held_first)
        if now.most_bytes > start.reading.most_bytes:  # else an earlier task of this process held as much
            self._peak = max(self._peak, now.most_bytes)
            self._grown = max(self._grown, now.most_bytes - start.reading.now_bytes)
        children_s = max(now.children_cpu_s - start.reading.children_cpu_s, 0.0)
        return self._attempt.model_copy(
            update={
                "wall_s": time.monotonic() - start.clock,
                "cpu_s": now.cpu_s - start.reading.cpu_s + children_s,
                "children_cpu_s": children_s,
                "peak_bytes": self._peak,
                "grown_bytes": self._grown,
                "requests": passed.requests - start.traffic.requests,
                "bytes_read": passed.bytes_read - start.traffic.bytes_read,
                "bytes_written": passed.bytes_written - start.traffic.bytes_written,
            }
        )


def _traffic() -> traffic.Traffic:
    if is_far(store_uri()):
        return traffic.so_far()
    files = machine.file_traffic()
    return traffic.Traffic(0, files.bytes_read, files.bytes_written)


def said_partition(arguments: Mapping[str, object]) -> str | None:
    """The partition that a task's arguments, or its result, are of; None: none, or several.

    >>> said_partition({"first": "2024-01-01", "last": "2024-01-01"}), said_partition({"x": {"partition": "d00001"}})
    ('2024-01-01', 'd00001')
    >>> said_partition({"first": "2024-01-01", "last": "2024-01-02"})
    """
    for name, value in arguments.items():
        if name == "partition" and isinstance(value, str):
            return value
        if isinstance(partition := _field(value, "partition"), str):
            return partition
        if isinstance(first := _field(value, "first"), str) and first == _field(value, "last"):
            return first
    first, last = arguments.get("first"), arguments.get("last")
    return first if isinstance(first, str) and first == last else None


def said_how(values: list[object]) -> How | None:
    """The kind of training that hand-offs, or their JSON, are of.

    >>> said_how([{"how": "serves"}, {"how": "continue"}])
    'continue'
    """
    said = (_field(value, "how") for value in values)
    return next((how for how in said if how in get_args(How)), None)


def _rows(result: object) -> int | None:
    counts = (_field(result, name) for name in COUNTED)
    return next((count for count in counts if isinstance(count, int)), None)


def _field(value: object, name: str) -> Any:
    """Of a hand-off, or of its JSON."""
    if isinstance(value, list):
        return _field(value[0], name) if value else None
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)
