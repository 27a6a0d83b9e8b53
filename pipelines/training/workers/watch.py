"""Several workers start, learn one model together, and are watched; where one is lost, all go back to the last state.

An engine only starts workers (`Engine`): all else is the same wherever they run.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from pipelines.config import NOT_SHARED_OBJECTIVES
from pipelines.errors import ConfigError, DataError, TransientError
from pipelines.training.boost import BoostedTrees
from pipelines.training.boost_parameters import BoostSettings
from pipelines.training.checkpoint import Checkpoint, key_of
from pipelines.training.external import Batch, Fingerprint
from pipelines.training.focal import first_score
from pipelines.training.rounds import Boosted
from pipelines.training.workers.bins import Extremes, bin_rows
from pipelines.training.workers.channel import Channel, Door, Silence
from pipelines.training.workers.intercept import estimated, marked_estimated
from pipelines.training.workers.messages import (
    Begin,
    Built,
    Facts,
    Failed,
    Finished,
    Hello,
    Lesson,
    State,
    Task,
    versions,
)
from pipelines.training.workers.share import Share, drawn_weight

log = logging.getLogger(__name__)

LOSSES = 3  # in a row, without a new state in between, after which it is given up
HELLO_S = 120.0  # that a worker which has come may take to say who it is
REPORTS_S = 3.0  # that the others may take to say what they know, once one has failed
WHERE = "problem.yaml, training.engine"
Message = TypeVar("Message")


class Worker(Protocol):
    """A worker that was started."""

    def ended(self) -> str | None:
        """How it ended; None: it runs, or has not begun."""

    def state(self) -> str:
        """What the engine says of it."""

    def stop(self) -> None:
        """End it, if it has not ended."""


class Engine(Protocol):
    """What starts workers."""

    host: str
    """At which workers reach the process that watches."""
    start_s: float
    """That workers may take to come."""

    def start(self, rank: int, port: int, secret: bytes) -> Worker:
        """A worker that knocks at `host` and `port`."""


class Rows(NamedTuple):
    """The rows that are learnt from."""

    shares: list[Share]
    """One for each worker."""
    is_on_disk: bool
    """A worker's matrix is kept on disk, page by page."""
    sample: Batch
    """Of all shares, prepared: the bins are made from it."""
    has_weight: np.ndarray
    """Which of all rows have one, bool, in the order of the shares."""
    labels: np.ndarray
    weights: np.ndarray
    """Of all rows that have a weight, weighed as they are learnt from."""


class WorkerLost(Exception):
    """A worker was killed, or cannot be reached any more."""


def refuse_local(trees: BoostedTrees, settings: BoostSettings) -> None:
    """Raises:
    ConfigError: device cuda.
    ValueError: what XGBoost's workers would do each by its own rows, so that the model would hang on their number.
    """
    if trees.device == "cuda":
        raise ConfigError(
            "several workers learn on CPUs", where="problem.yaml, training.device: cuda", cure="set device: auto"
        )
    objective = settings.native["objective"]
    if objective in NOT_SHARED_OBJECTIVES:
        raise ValueError(
            f"objective {objective!r} has quantiles in its leaves, of which each worker would know only its own rows'; "
            "leave out training.engine, or choose another objective"
        )
    if settings.native.get("num_parallel_tree", 1) != 1:
        raise ValueError("num_parallel_tree grows trees of one round on different rows, which several workers do not")


def learn_together(
    trees: BoostedTrees,
    rows: Rows,
    held_out: Batch | None,
    checkpoint: Checkpoint | None,
    engine: Engine,
    threads: int,
) -> BoostedTrees:
    """`trees`, fitted by as many workers as there are shares: whatever their number, to the same model, bit for bit.

    Args:
        held_out: rows that say when to stop.
        checkpoint: where the state is kept that a killed training goes on from.
        threads: of each worker.

    Raises:
        ValueError, DataError, ConfigError: as `BoostedTrees.fit`, and `refuse_local`.
        TransientError: workers are lost again and again, or there is no place for them.
    """
    refuse_local(trees, trees.settings())
    losses, rounds = 0, -1
    while True:
        try:
            learnt = _learnt(trees, rows, held_out, checkpoint, engine, threads)
            return trees.keep(learnt, "cpu")
        except WorkerLost as lost:
            state = checkpoint.load() if checkpoint else None
            before, rounds = rounds, state[0] if state else 0
            losses = 1 if rounds > before else losses + 1
            if losses >= LOSSES:
                raise TransientError(
                    f"workers were lost {losses} times after round {rounds}, last: {lost}",
                    where=WHERE,
                    cure="try again: it goes on at that round; a worker that is killed (exit -9) may lack memory",
                ) from lost
            log.warning("%s; all workers start again at round %d", lost, rounds)


def _learnt(
    trees: BoostedTrees,
    rows: Rows,
    held_out: Batch | None,
    checkpoint: Checkpoint | None,
    engine: Engine,
    threads: int,
) -> Boosted:
    with ExitStack() as stack:
        crew = _Crew(stack, engine, len(rows.shares), checkpoint)
        crew.tell({rank: Task(share, len(rows.shares), rows.is_on_disk) for rank, share in enumerate(rows.shares)})
        facts = crew.hear(Facts)
        crew.tell(_lessons(trees, rows, held_out, checkpoint, threads, facts))
        (meeting,) = [built.meeting for built in crew.hear(Built) if built.meeting]
        crew.tell(dict.fromkeys(range(len(rows.shares)), Begin(meeting)))
        (learnt,) = [finished.learnt for finished in crew.hear(Finished) if finished.learnt]
    is_given = trees.focal is not None or "base_score" in trees.settings().native
    return learnt if is_given else learnt._replace(model=marked_estimated(learnt.model))


def _of_first_round(
    rows: Rows, facts: list[Facts], settings: BoostSettings, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and weights of all rows that are learnt from; the weight is 0 where the first round does not draw a row,
    as it would be if there were one worker."""
    counts = [share.stop - share.start for share in rows.shares]
    bits = [np.unpackbits(fact.is_used, count=count) for fact, count in zip(facts, counts, strict=True)]
    is_used = np.concatenate(bits).astype(bool)
    known = is_used[rows.has_weight]
    weight = rows.weights[known].astype(np.float32)
    return rows.labels[known], drawn_weight(weight, is_used, 0, 0, settings.native, seed)


def _lessons(
    trees: BoostedTrees,
    rows: Rows,
    held_out: Batch | None,
    checkpoint: Checkpoint | None,
    threads: int,
    facts: list[Facts],
) -> Mapping[int, Lesson]:
    """What the workers are to learn, now that all rows are known. Of the rows held out the first worker has all: its
    sums are those of the whole, whatever the metric."""
    total = sum(fact.rows for fact in facts)
    for rank, fact in enumerate(facts):
        if not fact.rows:
            raise DataError(
                f"{total} training rows are too few for {len(facts)} workers: worker {rank} has none",
                where=f"{WHERE}.workers",
                cure="take fewer workers, or leave out training.engine",
            )
    columns = len(trees.is_category)
    has_held_out = held_out is not None and len(held_out[0]) > 0
    settings = trees.settings().on(total, columns, has_held_out)
    if settings.patience is None:
        held_out = None
    elif not has_held_out:
        raise ValueError("early_stopping_rounds needs held-out rows, and there are none")
    native = trees.native(settings, "cpu")
    if trees.focal is not None:
        native.setdefault("base_score", first_score(rows.labels, rows.weights, trees.focal.get("alpha")))
    elif "base_score" not in native:
        native["base_score"] = estimated(native, *_of_first_round(rows, facts, settings, trees.seed))
    extremes = Extremes.of([bound[None] for fact in facts for bound in fact.extremes], columns)
    shared_bins = bin_rows(rows.sample, extremes, trees.kinds, settings.max_bin, trees.threads)
    key, every, state = "", None, None
    if checkpoint is not None:
        every, state = checkpoint.every, checkpoint.load()
        digest = [text for fact in facts for text in fact.digest]
        bins_digest = Fingerprint().add(shared_bins, *np.zeros((2, len(shared_bins)))).digest()
        held_out_digest = Fingerprint().add(*held_out).digest() if held_out else []
        key = key_of(settings, native, trees.focal, every, digest, bins_digest, held_out_digest)
    told = native | {"nthread": threads}
    if settings.native.get("sampling_method", "uniform") == "uniform":
        told.pop("subsample", None)  # the workers draw themselves
    lessons = {}
    for rank in range(len(facts)):
        own = held_out
        if held_out is not None and rank:
            matrix, y, weight = held_out
            own = matrix[:0], y[:0], weight[:0]
        lessons[rank] = Lesson(settings, told, trees.kinds, trees.focal, shared_bins, own, every, state, key)
    return lessons


class _Crew:
    """Workers that were started, and the channels to them. They end with `stack`."""

    def __init__(self, stack: ExitStack, engine: Engine, count: int, checkpoint: Checkpoint | None) -> None:
        self._checkpoint = checkpoint
        self._channels: dict[int, Channel] = {}
        self._workers: list[Worker] = []
        door, secret = Door(engine.host), secrets.token_bytes(32)
        stack.callback(door.close)
        for rank in range(count):
            self._workers.append(engine.start(rank, door.port, secret))
            stack.callback(self._workers[rank].stop)
        until = time.monotonic() + engine.start_s
        while len(self._channels) < count:
            channel = door.admit(secret, timeout_s=0.5)
            if channel is not None:
                stack.callback(channel.close)
                self._greet(channel)
            for rank, worker in self._missing():
                if end := worker.ended():
                    raise WorkerLost(f"worker {rank} ended before it had begun: {end}")
            if time.monotonic() > until:
                missing = [f"worker {rank}: {worker.state()}" for rank, worker in self._missing()]
                raise TransientError(
                    f"workers did not start in {engine.start_s:g} s: {'; '.join(missing)}",
                    where=WHERE,
                    cure="is there a place for them? The retry goes on from the last state",
                )

    def _missing(self) -> list[tuple[int, Worker]]:
        return [(rank, worker) for rank, worker in enumerate(self._workers) if rank not in self._channels]

    def tell(self, messages: Mapping[int, Any]) -> None:
        for rank, message in messages.items():
            try:
                self._channels[rank].send(message)
            except Silence as silence:
                raise WorkerLost(self._how(rank, silence)) from silence

    def hear(self, kind: type[Message]) -> list[Message]:
        """One message of this kind from each worker, by rank. States that come meanwhile are kept.

        Raises:
            WorkerLost: one is.
            Exception: what a worker failed of.
        """
        heard: dict[int, Message] = {}
        failed: dict[int, Failed] = {}
        lost: dict[int, str] = {}
        until = float("inf")
        while len(heard) < len(self._channels):
            for rank in self._waiting({*heard, *failed, *lost}):
                try:
                    message = self._channels[rank].receive(timeout_s=0.0)
                except Silence as silence:
                    lost[rank] = self._how(rank, silence)
                    continue
                if isinstance(message, kind):
                    heard[rank] = message
                elif isinstance(message, State):
                    assert self._checkpoint is not None, "states are kept only where there is a checkpoint"
                    self._checkpoint.save(message.rounds, message.packed)
                elif isinstance(message, Failed):
                    failed[rank] = message
                elif message is not None:
                    raise AssertionError(f"worker {rank} was to say {kind.__name__}, and said {message!r}")
            if failed or lost:
                until = min(until, time.monotonic() + REPORTS_S)
                if time.monotonic() > until or len(heard) + len(failed) + len(lost) == len(self._channels):
                    raise _reason(failed, lost)
        return [heard[rank] for rank in sorted(heard)]

    def _waiting(self, done: set[int]) -> list[int]:
        """Workers that have said something, or have been silent for too long to go on waiting."""
        open_channels = {rank: channel for rank, channel in self._channels.items() if rank not in done}
        by_connection: dict[Connection, int] = {channel.connection: rank for rank, channel in open_channels.items()}
        ready = {by_connection[connection] for connection in wait(list(by_connection), timeout=1.0)}  # type: ignore[index]
        return sorted(ready or open_channels)

    def _greet(self, channel: Channel) -> None:
        try:
            hello = channel.receive(timeout_s=HELLO_S)
        except Silence as silence:
            raise WorkerLost(f"a worker was lost before it had begun: {silence}") from silence
        if not isinstance(hello, Hello):
            return
        own = versions()
        if other := [name for name in own if hello.versions.get(name) != own[name]]:
            there, here = (", ".join(f"{name} {has.get(name)}" for name in other) for has in (hello.versions, own))
            raise ConfigError(
                f"worker {hello.rank} has {there}; the task has {here}",
                where=WHERE,
                cure="install the same Evergreen where workers run, with the versions of its uv.lock",
            )
        self._channels[hello.rank] = channel

    def _how(self, rank: int, silence: Silence) -> str:
        end = None
        for _ in range(10):  # a process is gone a moment after its connection
            end = end or self._workers[rank].ended()
            if end is None:
                time.sleep(0.05)
        return f"worker {rank} was lost ({end or silence})"


def _reason(failed: dict[int, Failed], lost: dict[int, str]) -> Exception:
    """Why a training ended: what a worker is at fault of itself before what comes of another one's loss."""
    for rank in sorted(failed):
        if not failed[rank].is_of_another:
            return failed[rank].error
    if lost:
        return WorkerLost("; ".join(lost[rank] for rank in sorted(lost)))
    return WorkerLost("; ".join(f"worker {rank} lost another one" for rank in sorted(failed)))
