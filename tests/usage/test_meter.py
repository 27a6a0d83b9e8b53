"""What a try used is what the operating system says, of threads, children and killed processes too."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from pipelines import usage
from pipelines.errors import DataError, NothingToDo, ServiceUnavailable
from pipelines.problem import load_problem
from pipelines.usage import About, Try, machine, meter, notes
from pipelines.usage.notes import KILLED, OUT_OF_MEMORY
from pipelines.usage.table import tries, write_noted

PROBLEM = "flight_delay"
ABOUT = About(PROBLEM, "train.train", "manual__1", partition="2013-04-01")
BURNT_S = 0.3


@pytest.fixture(autouse=True)
def noted(tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's tries are noted."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = notes.folder_of(PROBLEM)
    assert folder is not None
    yield folder


def burn(seconds: float) -> None:
    """Uses so much of the thread's CPU time."""
    begun = time.thread_time()
    while time.thread_time() - begun < seconds:
        pass


def only_try() -> Try:
    (attempt,) = tries(load_problem(PROBLEM))
    return attempt


def test_cpu_of_the_process_its_threads_and_its_children() -> None:
    before = os.times()
    with usage.measured(ABOUT):
        burn(BURNT_S)
        thread = threading.Thread(target=burn, args=(BURNT_S,))
        thread.start()
        thread.join()
        subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
    after = os.times()
    attempt = only_try()
    assert attempt.children_cpu_s == pytest.approx(
        after.children_user + after.children_system - before.children_user - before.children_system, abs=0.02
    )
    assert attempt.children_cpu_s > 0.05
    # `os.times` counts in hundredths.
    own = after.user + after.system - before.user - before.system
    assert attempt.cpu_s - attempt.children_cpu_s == pytest.approx(own, abs=0.05)
    assert own >= 2 * BURNT_S - 0.02


@contextmanager
def child_that_holds(size: int) -> Iterator[None]:
    program = f"import sys; x = b'x' * {size}; sum(range(5_000_000)); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        yield
        child.stdin.close()


def test_a_child_that_still_runs_counts_with_its_memory() -> None:
    with child_that_holds(50_000_000):
        reading = machine.reading()
    assert reading.children_bytes > 50_000_000
    assert reading.children_cpu_s >= 0.05


@pytest.mark.parametrize("has_child", [False, True], ids=["alone", "beside a child that ran before"])
def test_memory_that_was_given_back_is_the_peak_and_what_came_its_own_share(has_child: bool) -> None:
    def hold(size: int) -> None:
        held = bytearray(size)
        held[::4096] = b"x" * len(held[::4096])

    with child_that_holds(100_000_000) if has_child else nullcontext():
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        size = largest + 50_000_000 - machine.reading().now_bytes
        with usage.measured(ABOUT):
            hold(size)
    attempt = only_try()
    assert attempt.peak_bytes >= largest + 45_000_000
    assert size / 2 < attempt.grown_bytes <= attempt.peak_bytes, "but for what the process has given back meanwhile"


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (NothingToDo("no drift"), "skipped", "NothingToDo"),
        (DataError("a hole"), "failed", "DataError"),
        (ServiceUnavailable("store"), "failed", "ServiceUnavailable"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
    ],
)
def test_outcomes(error: BaseException, outcome: str, reason: str) -> None:
    with pytest.raises(type(error)), usage.measured(ABOUT):
        raise error
    attempt = only_try()
    assert (attempt.outcome, attempt.reason) == (outcome, reason)


def test_what_hand_offs_say_of_a_try() -> None:
    said = {"0": {"partition": "2013-04-08", "how": "continue"}}
    with usage.measured(About.of(PROBLEM, "train.sample", "manual__1", said, part="3")) as used:
        used.value = {"rows": 12}
    attempt = only_try()
    assert (attempt.partition, attempt.how, attempt.rows, attempt.part) == ("2013-04-08", "continue", 12, "3")


def in_child(body: Callable[[], None]) -> int:
    """Runs `body` in a fork of this process; gives how it ended."""
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            body()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def killed_after(seconds: float) -> Callable[[], None]:
    def body() -> None:
        with usage.measured(ABOUT):
            burn(seconds)
            os.kill(os.getpid(), signal.SIGKILL)

    return body


def test_a_killed_try_has_a_row_with_what_is_known_of_it(monkeypatch: pytest.MonkeyPatch, noted: Path) -> None:
    monkeypatch.setattr(meter, "BEAT_S", 0.05)
    assert in_child(killed_after(BURNT_S)) == signal.SIGKILL
    attempt = only_try()
    assert (attempt.outcome, attempt.reason, attempt.stage) == ("killed", KILLED, "train.train")
    assert BURNT_S / 2 < attempt.cpu_s <= BURNT_S + 0.1
    assert attempt.wall_s >= attempt.cpu_s * 0.9 and attempt.peak_bytes > 0
    # The next task that ends writes it down, once.
    with usage.measured(ABOUT._replace(stage="monitor.act", try_number=2)):
        pass
    assert [path for path in noted.iterdir() if path.suffix == ".json"] == []
    assert [row.outcome for row in tries(load_problem(PROBLEM))] == ["killed", "done"]


def test_who_was_killed_while_the_machine_was_out_of_memory_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    in_child(killed_after(0))
    kills = machine.out_of_memory_kills()
    monkeypatch.setattr(machine, "out_of_memory_kills", lambda: kills + 1)
    assert only_try().reason == OUT_OF_MEMORY


def test_a_try_that_runs_is_not_taken_for_a_killed_one() -> None:
    problem = load_problem(PROBLEM)
    with usage.measured(ABOUT):
        assert tries(problem) == [] and write_noted(problem) == 0
    assert only_try().outcome == "done"


def test_a_process_of_its_own_counts_from_its_beginning() -> None:
    def body() -> None:
        burn(BURNT_S)  # before the task's own code begins
        with usage.measured(ABOUT._replace(has_own_process=True)):
            pass

    assert in_child(body) == 0
    assert only_try().cpu_s >= BURNT_S
    write_noted(load_problem(PROBLEM))
    with usage.measured(ABOUT._replace(has_own_process=True, run="later")):
        pass
    with usage.measured(ABOUT._replace(has_own_process=True, run="again")):
        pass
    assert tries(load_problem(PROBLEM))[-1].cpu_s < BURNT_S, "another try was measured in this process"


def test_rows_are_written_once_however_often(store_folder: Path) -> None:
    problem = load_problem(PROBLEM)
    for _ in range(3):
        with usage.measured(ABOUT):
            pass
    folder = notes.folder_of(PROBLEM)
    assert folder is not None
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    assert write_noted(problem) == 3
    for path, content in kept.items():  # as if it was killed before it had removed them
        path.write_bytes(content)
    assert write_noted(problem) == 3
    assert len(tries(problem)) == 3


def test_nothing_stops_for_a_measurement_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(notes, "folder_of", broken)
    with usage.measured(ABOUT) as used:
        used.value = 1
    assert used.value == 1


def test_without_a_folder_of_ones_own_rows_are_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "folder_of", lambda _: None)
    with usage.measured(ABOUT):
        pass
    assert only_try().outcome == "done"


def test_old_notes_are_written_by_whatever_ends_next(noted: Path) -> None:
    with usage.measured(ABOUT):
        pass
    (note,) = noted.glob("*.json")
    long_ago = time.time() - 4000
    os.utime(note, (long_ago, long_ago))
    with usage.measured(ABOUT._replace(stage="train.evaluate")):
        pass
    assert list(noted.glob("*.json")) == []
