"""A worker: reads its share of the rows, builds its matrix, and boosts together with the others.

    python -m pipelines.training.workers.worker HOST PORT RANK

The secret comes by the variable EVERGREEN_WORKER_SECRET, or by standard input.
HOST and PORT are of the process that watches. The worker ends when that process closes the connection or is cut off,
and not before: the others may still need it.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import pyarrow as pa
from xgboost import collective
from xgboost.core import XGBoostError
from xgboost.tracker import RabitTracker

from pipelines.temporary import Held, hold
from pipelines.training.boost_parameters import plainly
from pipelines.training.external import Batch, Fingerprint, matrix_on_disk
from pipelines.training.focal import Gradients, focal_objective
from pipelines.training.rounds import Objective, boosted
from pipelines.training.workers.bins import Extremes, matrix_by, matrix_of_bins
from pipelines.training.workers.channel import Channel, Silence, knock
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

SECRET = "EVERGREEN_WORKER_SECRET"  # noqa: S105 - the name of a variable
MEETING_S = 300  # that XGBoost waits for another worker's sums; the watch knows of a lost one sooner
Message = TypeVar("Message")


def work(channel: Channel, rank: int) -> NoReturn:
    """Take part in one training."""
    own = hold("temporary")
    messages = _listened_to(channel, own)

    def next_message(kind: type[Message]) -> Message:
        message = messages.get()
        if isinstance(message, Exception):
            raise message
        assert isinstance(message, kind), f"expected {kind.__name__}, got {type(message).__name__}"
        return message

    try:
        channel.send(Hello(rank, versions()))
        task = next_message(Task)
        with plainly():
            rows = _Rows(task.share, own.folder, task.is_on_disk)
            channel.send(rows.facts)
            lesson = next_message(Lesson)
            train, held_out = _matrices(rows, lesson)
            tracker = None
            if rank == 0:
                tracker = RabitTracker(host_ip=channel.own_host, n_workers=task.workers, sortby="task")
                tracker.start()
            channel.send(Built(tracker.worker_args() if tracker else None))
            meeting = next_message(Begin).meeting
            collective.init(**meeting, dmlc_task_id=f"{rank:06}", dmlc_timeout=MEETING_S, dmlc_retry=3)
            state = None
            if lesson.every is not None:
                state = _Passed(lesson.every, lesson.state, channel if rank == 0 else None)
            learnt = boosted(
                lesson.settings,
                lesson.native,
                train,
                held_out,
                _objective(lesson),
                state,
                lesson.key,
                draw=rows.draw(train, lesson),
            )
        channel.send(Finished(learnt if rank == 0 else None))
    except Silence:
        _end(own)
    except Exception as error:
        channel.send(Failed(_sendable(error), _is_of_another(error)))
    while True:
        messages.get()


def _matrices(rows: _Rows, lesson: Lesson) -> tuple[Any, Any]:
    """XGBoost's, of the rows that are learnt from and of those that say when to stop; None: nothing stops early."""
    warnings.filterwarnings("ignore", message=".*Empty dataset at worker")  # that has no held-out rows
    max_bin, threads = lesson.settings.max_bin, int(str(lesson.native["nthread"]))
    bins = matrix_of_bins(lesson.bin_rows, lesson.kinds, max_bin, threads)
    train = rows.matrix(bins, lesson.kinds, max_bin, threads)
    if lesson.held_out is None:
        return train, None
    return train, matrix_by(bins, lesson.held_out, lesson.kinds, max_bin, threads)


class _Rows:
    """The rows of a share that are learnt from: in memory, or read again for each pass."""

    def __init__(self, share: Share, folder: Path, is_on_disk: bool) -> None:
        self._share, self._folder = share, folder
        self._is_used = [np.zeros(0, bool)]
        self._held: Batch | None = None
        fingerprint, extremes, columns = Fingerprint(), [], len(share.prepare.names_)
        parts = self._parts(is_first=True)
        if not is_on_disk:
            self._held = _filled(parts, share.stop - share.start, columns)
            pa.default_memory_pool().release_unused()  # Arrow would keep what it has read with
            parts = iter([self._held])
        for matrix, y, weight in parts:
            fingerprint.add(matrix, y, weight)
            extremes.append(Extremes.of([matrix], columns))
        whole = Extremes.of([bound[None] for extreme in extremes for bound in extreme], columns)
        self.facts = Facts(
            fingerprint.shape[0], np.packbits(np.concatenate(self._is_used)), whole, fingerprint.digest()
        )

    def matrix(self, bins: Any, kinds: list[str], max_bin: int, threads: int) -> Any:
        """XGBoost's, by these bins. Rows that were held in memory are held no more."""
        if self._held is None:
            return matrix_on_disk(
                self._parts, self._folder, feature_types=kinds, max_bin=max_bin, threads=threads, ref=bins
            )
        held, self._held = self._held, None
        return matrix_by(bins, held, kinds, max_bin, threads)

    def draw(self, train: Any, lesson: Lesson) -> Any:
        """What gives the rows that a round does not draw the weight 0; None: all are drawn.

        XGBoost itself would draw by the place in a worker's matrix, other rows with each number of workers.
        """
        native = lesson.settings.native
        if float(str(native.get("subsample", 1))) >= 1:
            return None
        weight, seed = train.get_weight(), int(str(lesson.native["seed"]))
        is_used = np.concatenate(self._is_used)

        def draw(number: int) -> None:
            train.set_weight(drawn_weight(weight, is_used, self._share.start, number, native, seed))

        return draw

    def _parts(self, is_first: bool = False) -> Iterator[Batch]:
        for is_used, batch in self._share.used():
            if is_first:
                self._is_used.append(is_used)
            yield batch


class _Passed:
    """The state of a training that is kept by who watches."""

    def __init__(self, every: int, state: tuple[int, bytes] | None, channel: Channel | None) -> None:
        self.every = every
        self._state = state
        self._channel = channel

    def save(self, rounds: int, model: bytes) -> None:
        if self._channel is not None:
            self._channel.send(State(rounds, model))

    def load(self) -> tuple[int, bytes] | None:
        return self._state


def _filled(parts: Iterator[Batch], most: int, columns: int) -> Batch:
    """All parts as one, filled in place: they are never there twice."""
    matrix, y, weight = (np.empty(shape, np.float32) for shape in ((most, columns), most, most))
    rows = 0
    for part in parts:
        here = slice(rows, rows + len(part[0]))
        matrix[here], y[here], weight[here] = part
        rows = here.stop
    return matrix[:rows], y[:rows], weight[:rows]


def _objective(lesson: Lesson) -> Objective | None:
    if lesson.focal is None:
        return None
    gamma, alpha = lesson.focal["gamma"] or 0.0, lesson.focal.get("alpha")

    def objective(margin: np.ndarray, train: Any) -> Gradients:
        return focal_objective(train.get_label(), train.get_weight(), gamma, alpha)(margin, train)

    return objective


def _listened_to(channel: Channel, own: Held) -> queue.Queue[Any]:
    """The messages to come; in place of one that cannot be read here, why. At the last one the process ends, whatever
    XGBoost is waiting for."""
    messages: queue.Queue[Any] = queue.Queue()

    def listen() -> None:
        while True:
            try:
                message = channel.receive(timeout_s=1.0)
            except Silence:
                _end(own)
            except Exception as error:
                message = error
            if message is not None:
                messages.put(message)

    threading.Thread(target=listen, daemon=True).start()
    return messages


def _end(own: Held) -> NoReturn:
    own.remove()
    os._exit(0)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def _is_of_another(error: Exception) -> bool:
    """Whether XGBoost says that it has lost another worker."""
    return isinstance(error.__cause__, XGBoostError) and "/collective/" in str(error.__cause__)


if __name__ == "__main__":
    address, port, own_rank = sys.argv[1:]
    secret = os.environ.pop(SECRET, None) or sys.stdin.readline()
    work(knock(address, int(port), bytes.fromhex(secret)), int(own_rank))
