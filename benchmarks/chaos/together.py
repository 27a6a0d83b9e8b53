"""Two of everything at once: the same runs beside each other, in processes that know nothing of each other.

On two hosts the second run of each pair is on the other one, whose link goes down at a random moment, for a while.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from benchmarks import other_host
from benchmarks.chaos import holds, world
from benchmarks.chaos.holds import State
from benchmarks.chaos.stages import read_rows
from benchmarks.chaos.worker import LIMIT_S, heard, in_child
from pipelines import local_run
from pipelines.errors import NothingToDo, TransientError

TRIES = 4  # as a task has
PAUSE_S, LONG_PAUSE_S = 1.0, 10.0  # Airflow's are longer
NAME = "pairs"
TIMES = 2
ELSEWHERE = ", on two hosts"
LONG_LIMIT_S = 600.0  # where a run that was cut off begins anew, up to three times
CUT_AFTER_S, CUT_FOR_S = (0.2, 6.0), (2.0, 30.0)


class Outcome(BaseModel):
    """What was tried so many times, and what came of it."""

    what: str
    times: int
    ended: str
    broken: str


class Side(NamedTuple):
    """One of them."""

    dag: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


def side(dag: str, *arguments: Any, **options: Any) -> Side:
    return Side(dag, arguments, options)


def _pairs(key: str, next_key: str, before: str) -> dict[str, list[Side]]:
    """What is done at once about a new partition `key`, which comes after `before`."""
    return {
        "two ingests of one partition": [side("ingest", key, key), side("ingest", key, key)],
        "two scorings of one partition": [side("score", key), side("score", key)],
        "a backfill beside the schedule": [side("ingest", before, before), side("ingest", next_key, next_key)],
        "a restatement during a scoring": [side("ingest", key, key, restate=True), side("score", key)],
        "two monitorings of one partition": [side("monitor", key), side("monitor", key)],
        "two trainings": [side("train", key), side("train", key)],
        "a training during an ingest": [side("train", before), side("ingest", next_key, next_key)],
    }


def play(keep: Path, tell: Callable[[str], None], times: int = TIMES, *, on_two_hosts: bool = False) -> list[Outcome]:
    """Each pair so many times, on partitions that come one after the other."""
    problems = keep / "problems"
    name = f"{NAME}_{int(time.time())}"
    suffix = ELSEWHERE if on_two_hosts else ""
    world.write_problem(problems, name)
    rows = read_rows(problems, name)
    for start in (side("ingest", *world.HISTORY), side("train", world.HISTORY[1])):
        ((end, answer),) = _at_once(keep, name, [start])
        if end != "done":
            raise RuntimeError(f"{start}: {answer}")
    days = sorted(key for key in rows if key > world.HISTORY[1])
    ends: dict[str, Counter[str]] = {}
    broken: dict[str, list[str]] = {}
    ingested = [key for key in rows if key <= world.HISTORY[1]]
    scored: list[str] = []
    before = world.HISTORY[1]
    for number in range(times):
        key, next_key = days[2 * number], days[2 * number + 1]
        for what, sides in _pairs(key, next_key, before).items():
            answers = _at_once(keep, name, sides, random.Random(f"{what} {number}") if on_two_hosts else None)  # noqa: S311
            ends.setdefault(what, Counter()).update(in_words(end, answer) for end, answer in answers)
            for key_of in (key, next_key):
                if any(each.dag == "ingest" and key_of in each.arguments for each in sides):
                    ingested = sorted({*ingested, key_of})
            if any(each.dag == "score" for each in sides) and what.startswith("two"):
                scored = sorted({*scored, key})
            if what.startswith("a restatement"):  # which may leave predictions of the rows before it
                ends[what].update([in_words(*_at_once(keep, name, [side("score", key)])[0])])
            found = looked(keep, name, rows, ingested, scored)
            known = {each for words in broken.values() for each in words}
            broken.setdefault(what, []).extend(each for each in found if each not in known)
            tell(f"{what}{suffix}: {dict(ends[what])} {broken[what]}")
        before = next_key
    return [
        Outcome(
            what=what,
            times=times,
            ended=", ".join(f"{count} {end}" for end, count in counts.items()),
            broken="; ".join(broken[what]),
        )
        for what, counts in ends.items()
    ]


def play_on_two_hosts(keep: Path, tell: Callable[[str], None], ports: Sequence[int]) -> list[Outcome]:
    """`ports`: where the services listen, which are on the first host. Nothing where no other host can be made."""
    if not other_host.is_possible():
        tell("two hosts are left out: they are made by root, on Linux, with `ip`")
        return []
    with other_host.other_host(ports):
        return play(keep, tell, on_two_hosts=True)


def looked(keep: Path, name: str, rows: dict[str, int], ingested: list[str], scored: list[str]) -> list[str]:
    """What does not hold of the problem now."""
    ((end, state),) = ended([in_child(holds.look, name, rows, log=keep / "pairs.log")])
    if not isinstance(state, State):
        return [f"{end}: {state}"]
    return [f"{each.rule}: {each.what}" for each in holds.breaches(state, ingested, scored)]


def in_words(end: str, answer: Any) -> str:
    return end if end in ("done", "nothing to do") else f"{end}: {str(answer).splitlines()[0][:150]}"


def _at_once(keep: Path, name: str, sides: Sequence[Side], draws: random.Random | None = None) -> list[tuple[str, Any]]:
    """How each ended. With `draws` all but the first run on the other host, which is cut off for a while."""
    pause_s = PAUSE_S if draws is None else LONG_PAUSE_S
    started = [
        started_run(keep, name, each, is_elsewhere=draws is not None and number > 0, pause_s=pause_s)
        for number, each in enumerate(sides)
    ]
    if draws is not None:
        time.sleep(draws.uniform(*CUT_AFTER_S))
        other_host.disconnect()
        time.sleep(draws.uniform(*CUT_FOR_S))
        other_host.connect()
    return ended(started, LIMIT_S if draws is None else LONG_LIMIT_S)


def started_run(
    keep: Path, name: str, run: Side, *, is_elsewhere: bool = False, pause_s: float = PAUSE_S
) -> tuple[Any, BaseProcess]:
    """A run of a DAG, in a process of its own; it is tried again after a pause, as its tasks are."""
    return in_child(_run, name, run, is_elsewhere, pause_s, log=keep / "pairs.log")


def ended(started: Sequence[tuple[Any, BaseProcess]], limit_s: float = LIMIT_S) -> list[tuple[str, Any]]:
    """How each process ended, and what it gave."""
    answers = []
    for pipe, child in started:
        answers.append(heard(pipe, limit_s))
        child.join(20)
        child.kill()
    return answers


def _run(name: str, run: Side, is_elsewhere: bool, pause_s: float) -> None:
    """With a folder of its own for temporary files."""
    if is_elsewhere:
        other_host.move_there()
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="evergreen-host-")
    for left in reversed(range(TRIES)):
        try:
            with suppress(NothingToDo):
                getattr(local_run, run.dag)(name, *run.arguments, **run.options)
            return
        except TransientError:
            if not left:
                raise
            time.sleep(pause_s)
