"""A life of the small problem: its loop from the first rows to the second version that serves, and a restatement."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.chaos.worker import Worker, struck
from benchmarks.chaos.world import HISTORY, NEW, learn
from pipelines import local_run
from pipelines.errors import NothingToDo

TREES = (20, 24)  # of the first version and the second


class Ended(NamedTuple):
    """Partitions whose runs have ended well."""

    ingested: list[str]
    scored: list[str]
    failures: list[str]
    """Runs that did not, although they were cleared; with what they said."""


def live(
    worker: Worker, problems: Path, name: str, after_each: Callable[[Ended], None], *, is_short: bool = False
) -> Ended:
    """Play the loop; `after_each`: told after each run of a DAG of what has come so far. `is_short`: up to the first
    predictions."""
    ended = Ended([], [], [])

    def run(dag: str, *arguments: Any, **options: Any) -> None:
        """A run; where it fails for good although its task was cleared, a person clears all of it, once."""
        for is_cleared in (False, True):
            try:
                with suppress(NothingToDo):
                    getattr(local_run, dag)(name, *arguments, **options)
                break
            except Exception as error:
                if is_cleared:
                    ended.failures.append(f"{dag} {arguments}: {type(error).__name__}: {error}")
                    if worker.trials:
                        worker.trials[-1].by_hand = "never"
        if dag == "ingest":
            ended.ingested.extend(key for key in _between(*arguments) if key not in ended.ingested)
        if dag == "score":
            ended.scored.extend(key for key in arguments if key not in ended.scored)
        after_each(ended)

    with struck(worker):
        run("ingest", *HISTORY)
        run("annotate", HISTORY[1])
        run("train", HISTORY[1])
        run("ingest", NEW[0], NEW[0])
        run("score", NEW[0])
        if is_short:
            return ended
        run("monitor", NEW[0])
        learn(problems, name, TREES[1])
        run("train", NEW[0])
        for key in NEW[1:3]:
            run("ingest", key, key)
            run("score", key)
            run("release", key)
            run("monitor", key)
        run("ingest", NEW[2], NEW[2], restate=True)
        run("score", NEW[2])
        run("ingest", NEW[3], NEW[3])
        run("score", NEW[3])
    return ended


def _between(first: str, last: str) -> list[str]:
    day = int(first[-2:])
    return [f"{first[:-2]}{number:02}" for number in range(day, int(last[-2:]) + 1)]
