"""The table `runs`: tries that have ended go there from their notes, several at once, and are read from both.

An append asks the store some five times, which no single task is worth: rows are written when a chain of stages has
come to its end, or when the oldest note is an hour old. Who asks on the same machine misses nothing meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from pipelines import store
from pipelines.artifacts import TableName, table_schema
from pipelines.problem import Problem, load_problem
from pipelines.sql import is_among
from pipelines.usage import notes
from pipelines.usage.tries import Try

LAST_STAGES = frozenset({"monitor.act", "train.promote", "release.step"})
"""After these a chain has nothing more to do, as a rule."""
KEPT_NOTED = timedelta(hours=1)
TABLE: TableName = "runs"


def settle(problem_name: str, attempt: Try, *, is_over: bool) -> None:
    """Write what is noted of a problem to its table if it is time to.

    Args:
        problem_name: of the problem.
        attempt: the try that has just ended.
        is_over: whether nothing will follow it, as it has failed for good.
    """
    folder = notes.folder_of(problem_name)
    if folder is None:
        with store.task():
            append(load_problem(problem_name), [attempt])
        return
    is_time = is_over or attempt.stage in LAST_STAGES
    if is_time or _is_old(folder, attempt.ended):
        write_noted(load_problem(problem_name), folder)


def write_noted(problem: Problem, folder: Path | None = None) -> int:
    """Write what is noted on this machine of a problem to its table, the killed ones too; gives how many tries.

    Another process that is at it writes what there was when it looked; the rest is written the next time.
    """
    folder = folder or notes.folder_of(problem.name)
    if folder is None:
        return 0
    with notes.turn(folder) as is_ours, store.task():
        noted = notes.ended(folder) if is_ours else []
        if noted:
            append(problem, [note.attempt for note in noted])
        for note in noted:
            notes.forget(note)
    return len(noted)


def append(problem: Problem, tries: Sequence[Try]) -> None:
    """Each once, however often."""
    rows = [{"month": attempt.month, **attempt.model_dump()} for attempt in tries]
    store.append_once(problem, TABLE, pa.Table.from_pylist(rows, table_schema(problem, TABLE)), "id")


def tries(problem: Problem, since: datetime | None = None) -> list[Try]:
    """All tries of a problem, the oldest first: those that are noted on this machine, too.

    Args:
        problem: of which.
        since: of the month of this moment and of those after it alone; None: of all.
    """
    months = store.partition_keys(problem, TABLE)
    wanted = [month for month in months if since is None or month >= f"{since:%Y-%m}"]
    written: dict[str, Try] = {}
    if wanted:
        rows = store.dataset(problem, TABLE).to_table(filter=is_among("month", wanted))
        written = {row["id"]: Try.model_validate(row) for row in rows.to_pylist()}
    return sorted({**written, **_noted(problem.name)}.values(), key=lambda attempt: attempt.started_time)


def _noted(problem_name: str) -> dict[str, Try]:
    folder = notes.folder_of(problem_name)
    return {note.attempt.id: note.attempt for note in notes.ended(folder)} if folder else {}


def _is_old(folder: Path, now: datetime) -> bool:
    """Whether a note has been there for long: by when it was last written."""
    for path in folder.iterdir():
        with suppress(OSError):
            if path.suffix == notes.SUFFIX and now.timestamp() - path.stat().st_mtime > KEPT_NOTED.total_seconds():
                return True
    return False
