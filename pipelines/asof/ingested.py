"""Which partitions have been ingested: those that `events` has rows of, and those whose source had none to give.

The table alone does not tell the second kind from a partition that nobody has ingested: the ledger does.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines import ledger, store
from pipelines.problem import Problem

EMPTY = "empty"  # verdict on the ledger


def empty(problem: Problem) -> list[str]:
    """Keys of the partitions that were published without rows and have got none since, sorted."""
    return sorted(_noted(problem) - set(store.partition_keys(problem, "events")))


def ingested(problem: Problem) -> list[str]:
    """Keys of all partitions that have been ingested, sorted."""
    return sorted(_noted(problem).union(store.partition_keys(problem, "events")))


def note_empty(problem: Problem, keys: Sequence[str]) -> None:
    """Remember that partitions were ingested and have no rows, in one commit. Safe to repeat."""
    reason = "the source has no rows of it"
    rows: list[ledger.Entry] = [
        {
            "decision": f"empty:{key}",
            "kind": "ingest",
            "partition": key,
            "verdict": EMPTY,
            "action": "published",
            "reason": reason,
            "evidence": {},
        }
        for key in keys
    ]
    if rows:
        ledger.record_all(problem, rows)


def _noted(problem: Problem) -> set[str]:
    """What was published without rows, whatever came since."""
    return {row["partition"] for row in ledger.decisions(problem, "ingest") if row["verdict"] == EMPTY}
