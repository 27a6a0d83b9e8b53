"""Two of everything at once: the same runs beside each other, in processes that know nothing of each other."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from benchmarks.chaos import holds, world
from benchmarks.chaos.holds import State
from benchmarks.chaos.stages import read_rows
from benchmarks.chaos.worker import LIMIT_S, heard, in_child
from pipelines import local_run
from pipelines.errors import NothingToDo, TransientError

TRIES = 4  # as a task has
PAUSE_S = 1.0
NAME = "pairs"
TIMES = 2


class Pair(BaseModel):
    """Runs that went on at the same time, so many times, and what came of it."""

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


def play(keep: Path, tell: Callable[[str], None], times: int = TIMES) -> list[Pair]:
    """Each pair so many times, on partitions that come one after the other."""
    problems = keep / "problems"
    name = f"{NAME}_{int(time.time())}"
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
            answers = _at_once(keep, name, sides)
            ends.setdefault(what, Counter()).update(_in_words(end, answer) for end, answer in answers)
            for key_of in (key, next_key):
                if any(each.dag == "ingest" and key_of in each.arguments for each in sides):
                    ingested = sorted({*ingested, key_of})
            if any(each.dag == "score" for each in sides) and what.startswith("two"):
                scored = sorted({*scored, key})
            if what.startswith("a restatement"):  # which may leave predictions of the rows before it
                ends[what].update([_in_words(*_at_once(keep, name, [side("score", key)])[0])])
            pipe, child = in_child(holds.look, name, rows, log=keep / "pairs.log")
            end, state = heard(pipe, LIMIT_S)
            child.join(20)
            found = [f"{end}: {state}"]
            if isinstance(state, State):
                found = [f"{each.rule}: {each.what}" for each in holds.breaches(state, ingested, scored)]
            known = {each for words in broken.values() for each in words}
            broken.setdefault(what, []).extend(each for each in found if each not in known)
            tell(f"{what}: {dict(ends[what])} {broken[what]}")
        before = next_key
    return [
        Pair(
            what=what,
            times=times,
            ended=", ".join(f"{count} {end}" for end, count in counts.items()),
            broken="; ".join(broken[what]),
        )
        for what, counts in ends.items()
    ]


def _in_words(end: str, answer: Any) -> str:
    return end if end in ("done", "nothing to do") else f"{end}: {str(answer).splitlines()[0][:150]}"


def _at_once(keep: Path, name: str, sides: Sequence[Side]) -> list[tuple[str, Any]]:
    """How each ended."""
    started = [in_child(_run, name, each, log=keep / "pairs.log") for each in sides]
    answers = []
    for pipe, child in started:
        answers.append(heard(pipe, LIMIT_S))
        child.join(20)
        child.kill()
    return answers


def _run(name: str, run: Side) -> None:
    """A run of a DAG, each as on a host of its own; it is tried again, as its tasks are."""
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="evergreen-host-")
    for left in reversed(range(TRIES)):
        try:
            with suppress(NothingToDo):
                getattr(local_run, run.dag)(name, *run.arguments, **run.options)
            return
        except TransientError:
            if not left:
                raise
            time.sleep(PAUSE_S)
