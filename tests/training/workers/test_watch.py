from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipelines.errors import ConfigError, DataError, TransientError
from pipelines.problem import Problem
from pipelines.training import stream
from pipelines.training.boost import BoostedTrees
from pipelines.training.fit import fit
from pipelines.training.workers import processes, watch
from pipelines.training.workers.channel import Door
from pipelines.training.workers.messages import Failed, Hello, versions
from pipelines.training.workers.processes import Processes, WorkerProcess
from pipelines.training.workers.watch import Rows, _reason, learn_together
from tests.training.kettles import kettles

ToyProblem = Callable[..., Problem]


def weighed(rows: pa.Table) -> pa.Table:
    """Rows with weights that are no whole numbers: their sums hang on how they are shared."""
    weight = np.random.default_rng(8).uniform(0.3, 3, rows.num_rows)
    return rows.set_column(rows.column_names.index("weight"), "weight", pa.array(weight))


# Sorted by label: one worker has one class only.
TRAIN = weighed(kettles(50).sort_by("label"))
VALIDATION, TEST = kettles(5, seed=1, first=50), kettles(5, seed=2, first=55)
TREES = {"n_estimators": 24, "early_stopping_rounds": 20, "max_depth": 3, "subsample": 1.0, "colsample_bynode": 0.5}
EVERY = 5


def problem_of(
    toy: ToyProblem, workers: int, parameters: dict[str, Any] | None = None, kind: str = "processes", **changes: Any
) -> Problem:
    candidates = {"prior": {"model": "prior"}, "trees": {"model": "xgboost", "parameters": TREES | (parameters or {})}}
    engine = {"kind": kind, "workers": workers} if workers else None
    given = {"training.candidates": candidates, "training.engine": engine, "training.imbalance": IMBALANCE}
    return toy(**given | changes)


IMBALANCE = {"method": "class_weight"}
GATE = {"limits": {"rmse": {"max": 99.0}}, "gain_over_baselines": {"rmse": 0.0}, "gain_over_champion": {"rmse": 0.0}}
REGRESSION = {"task": "regression", "training.imbalance": {}, "training.select_by": "rmse", "gate": GATE}


def long_boiling(rows: pa.Table) -> pa.Table:
    """Rows whose label is for how many seconds a kettle boils."""
    seconds = 61.79 + 7 * rows["litres"].to_numpy() + rows["label"].to_numpy()
    return rows.set_column(rows.column_names.index("label"), "label", pa.array(seconds))


def on_disk(rows: pa.Table, folder: Path) -> ds.Dataset:
    pq.write_table(rows, folder / "rows.parquet", row_group_size=300)
    return ds.dataset(folder / "rows.parquet")


def model_bytes(model: Any) -> bytes:
    return bytes(model.estimator.booster_.save_raw("ubj"))


@dataclass
class Kept:
    """A checkpoint in memory that does something at each state."""

    then: Callable[[], None] = lambda: None
    every: int = EVERY
    state: tuple[int, bytes] | None = None
    saved: list[int] = field(default_factory=list)

    def save(self, rounds: int, model: bytes) -> None:
        self.state = (rounds, model)
        self.saved.append(rounds)
        self.then()

    def load(self) -> tuple[int, bytes] | None:
        return self.state


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[WorkerProcess]:
    """The worker processes of a test."""
    workers: list[WorkerProcess] = []
    start = Processes.start

    def noted(self: Processes, rank: int, port: int, secret: bytes) -> WorkerProcess:
        workers.append(start(self, rank, port, secret))
        return workers[-1]

    monkeypatch.setattr(Processes, "start", noted)
    return workers


@pytest.mark.slow
def test_two_workers_learn_the_model_of_one_process_even_if_one_is_killed(
    toy: ToyProblem, tmp_path: Path, started: list[WorkerProcess]
) -> None:
    """The same bins, as the sample is all rows: so each tree, and what early stopping sees, is that of one process."""
    alone = fit(problem_of(toy, 0), "trees", TRAIN, VALIDATION, checkpoint=Kept())
    kept = Kept()

    def kill_one() -> None:
        if len(kept.saved) == 2:
            os.kill(started[1].process.pid, signal.SIGKILL)

    kept.then = kill_one
    together = fit(problem_of(toy, 2), "trees", on_disk(TRAIN, tmp_path), VALIDATION, checkpoint=kept)
    assert together.estimator.history_ == alone.estimator.history_
    assert model_bytes(together) == model_bytes(alone)
    assert np.array_equal(together.scores(TEST), alone.scores(TEST))
    assert len(started) == 4, "both began again, once"
    assert [worker.ended() for worker in started] == ["exit 0", "exit -9", "exit 0", "exit 0"]
    assert kept.saved == [5, 10, 15, 20], "they went on where the last state was kept"


@pytest.mark.slow
def test_the_model_hangs_on_no_number_of_workers_whatever_a_round_draws(
    toy: ToyProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BINS_ROWS", 700)
    rows, others = (long_boiling(table) for table in (TRAIN, VALIDATION))
    drawing = {"subsample": 0.6, "n_estimators": 8, "early_stopping_rounds": None}
    config = {workers: problem_of(toy, workers, drawing, **REGRESSION) for workers in (0, 1, 2)}
    config[2] = config[2].model_copy(
        update={"training": config[2].training.model_copy(update={"memory_limit_mb": 1e-3})}
    )
    one, two = (fit(config[workers], "trees", on_disk(rows, tmp_path), others) for workers in (1, 2))
    assert model_bytes(one) == model_bytes(two)
    alone = fit(config[0], "trees", rows, others)
    assert one.scores(TEST) == pytest.approx(alone.scores(TEST), abs=5)
    assert model_bytes(one) != model_bytes(alone)


@pytest.mark.slow
def test_rows_that_are_too_few_are_said_to_be(toy: ToyProblem, tmp_path: Path) -> None:
    weight = np.where(np.arange(TRAIN.num_rows) < 30, 0.0, 1.0)  # of the first half of the shares
    rows = TRAIN.set_column(TRAIN.column_names.index("weight"), "weight", pa.array(weight)).slice(0, 60)
    rows = rows.set_column(rows.column_names.index("label"), "label", pa.array(np.arange(60) % 2, pa.int8()))
    with pytest.raises(DataError, match="30 training rows are too few for 2 workers: worker 0 has none"):
        fit(problem_of(toy, 2), "trees", on_disk(rows, tmp_path), VALIDATION)


def test_what_a_worker_is_at_fault_of_comes_out_as_it_is(toy: ToyProblem, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="xgboost refuses its parameters: Invalid Parameter format for max_depth"):
        fit(problem_of(toy, 1, {"max_depth": "six"}), "trees", on_disk(TRAIN, tmp_path), VALIDATION)


def test_the_fault_of_a_worker_is_told_before_what_comes_of_it() -> None:
    fault, consequence = Failed(DataError("a file is damaged"), False), Failed(ValueError("connection lost"), True)
    assert _reason({0: consequence, 1: fault}, {2: "worker 2 was lost"}) is fault.error
    assert str(_reason({0: consequence}, {2: "worker 2 was lost (exit -9)"})) == "worker 2 was lost (exit -9)"
    assert str(_reason({0: consequence}, {})) == "worker 0 lost another one"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_parallel_tree": 3}, "num_parallel_tree grows trees of one round on different rows"),
        ({"max_dept": 3}, "did you mean 'max_depth'"),
    ],
)
def test_what_several_workers_cannot_do_is_named_before_one_starts(
    toy: ToyProblem, tmp_path: Path, started: list[WorkerProcess], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(problem_of(toy, 2, changes, kind="auto"), "trees", on_disk(TRAIN, tmp_path), VALIDATION)
    assert started == []


def trees_of(**settings: Any) -> BoostedTrees:
    arguments: dict[str, Any] = {"task": "regression", "classes": 0, "seed": 0, "threads": 1, "device": "cpu"}
    return BoostedTrees(**{"parameters": {}, "is_category": [False], **arguments, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cuda"}, "several workers learn on CPUs"),
        ({"parameters": {"objective": "reg:absoluteerror"}}, "has quantiles in its leaves"),
    ],
)
def test_what_each_worker_would_do_by_its_own_rows_is_refused(settings: dict[str, Any], message: str) -> None:
    nothing = Rows([], False, (np.empty((0, 1)), np.empty(0), np.empty(0)), np.empty(0, bool), np.empty(0), np.empty(0))
    with pytest.raises((ConfigError, ValueError), match=message):
        learn_together(trees_of(**settings), nothing, None, None, Processes(1), 1)


class Stillborn:
    """An engine whose workers end at once."""

    host, start_s = "127.0.0.1", 60.0

    def __init__(self) -> None:
        self.started = 0

    def start(self, rank: int, port: int, secret: bytes) -> WorkerProcess:
        self.started += 1
        return WorkerProcess(subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(9)"], text=True))


def test_a_training_whose_workers_are_lost_again_and_again_is_given_up_for_a_retry(toy: ToyProblem) -> None:
    engine = Stillborn()
    sample = (np.zeros((1, 1), np.float32), np.zeros(1), np.ones(1))
    rows = Rows([None], False, sample, np.ones(1, bool), np.zeros(1), np.ones(1))  # type: ignore[list-item]
    with pytest.raises(TransientError, match=r"lost 3 times after round 0, last: worker 0 ended .*exit 9"):
        learn_together(trees_of(), rows, None, None, engine, 1)
    assert engine.started == 3


class Crowded:
    """An engine that finds no place for its workers."""

    host, start_s = "127.0.0.1", 0.0

    def __init__(self) -> None:
        self.started = self.stopped = 0

    def start(self, rank: int, port: int, secret: bytes) -> Crowded:
        self.started += 1
        return self

    def ended(self) -> None:
        return None

    def state(self) -> str:
        return "PENDING no CPU is free"

    def stop(self) -> None:
        self.stopped += 1


def test_workers_for_which_there_is_no_place_are_waited_for_once(toy: ToyProblem) -> None:
    engine = Crowded()
    sample = (np.zeros((1, 1), np.float32), np.zeros(1), np.ones(1))
    rows = Rows([None], False, sample, np.ones(1, bool), np.zeros(1), np.ones(1))  # type: ignore[list-item]
    with pytest.raises(TransientError, match="workers did not start in 0 s: worker 0: PENDING no CPU is free"):
        learn_together(trees_of(), rows, None, None, engine, 1)
    assert (engine.started, engine.stopped) == (1, 1)


def test_a_worker_with_other_versions_is_refused(
    toy: ToyProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "versions", lambda: versions() | {"xgboost": "9.9"})
    with pytest.raises(ConfigError, match=r"worker \d has xgboost 3\..*; the task has xgboost 9.9"):
        fit(problem_of(toy, 1), "trees", on_disk(TRAIN, tmp_path), VALIDATION)


class Unreadable:
    """What cannot be made again from what is sent of it."""

    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("kettle",)


def test_a_worker_says_that_it_cannot_read_what_it_is_told() -> None:
    door = Door("127.0.0.1")
    worker = Processes(1).start(0, door.port, b"kettle")
    channel = door.admit(b"kettle", timeout_s=60)
    assert channel is not None
    assert channel.receive(timeout_s=60) == Hello(0, versions())
    channel.send(Unreadable())
    while (failed := channel.receive(timeout_s=60)) is None:
        pass
    assert isinstance(failed, Failed)
    assert "invalid literal for int() with base 10: 'kettle'" in str(failed.error)
    channel.close()
    worker.stop()
    door.close()


def test_a_worker_ends_with_who_watches_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(processes, "STOP_S", 60.0)
    door = Door("127.0.0.1")
    worker = Processes(1).start(3, door.port, b"kettle")
    channel = door.admit(b"kettle", timeout_s=60)
    assert channel is not None
    hello = channel.receive(timeout_s=60)
    assert hello == Hello(3, versions())
    assert len(list(tmp_path.glob("*/temporary/*"))) == 1
    channel.close()
    worker.stop()
    assert worker.ended() == "exit 0"
    assert list(tmp_path.glob("*/temporary/*")) == []
    door.close()
