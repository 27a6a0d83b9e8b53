"""What happened, partition by partition, and what serves now: read from the tables alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow.compute as pc

from pipelines import ledger, quarantine, store
from pipelines.artifacts import TableName
from pipelines.asof.as_known import holds_now
from pipelines.asof.ingested import empty, ingested
from pipelines.problem import Problem


@dataclass(frozen=True)
class PartitionSummary:
    """`quality` is the task's `headline` metric, None until the partition's labels are in; `outcome` says what came of
    an action."""

    partition: str
    rows: int
    quarantined: int
    scored: int
    quality: float | None
    verdict: str
    action: str
    outcome: str
    champion: str


@dataclass(frozen=True)
class Status:
    """What serves; all but `newest` and `missed` are None while nothing was ever promoted."""

    version: str | None
    since: datetime | None
    trained_on: str | None
    newest: dict[str, str | None]
    verdict: str | None
    reason: str | None
    missed: str | None


def headline(problem: Problem) -> str:
    """The metric that a partition's line shows."""
    return "rmse" if problem.task == "regression" else "auc"


def partitions(problem: Problem) -> list[PartitionSummary]:
    """One row per ingested partition, oldest first."""
    events, scored, bad = (_count(problem, name) for name in ("events", "predictions", "quarantine"))
    watched = {row["partition"]: row for row in ledger.decisions(problem, "monitoring")}
    quality: dict[str, float | None] = {}
    for row in watched.values():  # the newest look at a partition knows most of its labels
        quality |= {
            performance["partition"]: performance.get(headline(problem)) for performance in row["evidence"]["realised"]
        }
    gates = {row["partition"]: row for row in ledger.decisions(problem, "gate")}
    promoted = {
        row["partition"]: row["model_version"]
        for row in ledger.decisions(problem, "promotion")
        if row["action"] == "promoted"
    }
    versions = _versions(problem)
    rows_by_partition = []
    for key in sorted({*events, *empty(problem)}):
        outcome = ""
        if key in gates:
            outcome = f"v{promoted[key]} promoted" if key in promoted else f"gate {gates[key]['verdict']}"
        judged = watched.get(key)
        rows_by_partition.append(
            PartitionSummary(
                key,
                events.get(key, 0),
                bad.get(key, 0),
                scored.get(key, 0),
                quality.get(key),
                judged["verdict"] if judged else "",
                judged["action"] if judged else "",
                outcome,
                versions.get(key, ""),
            )
        )
    return rows_by_partition


def missed(problem: Problem, now: datetime, done: Collection[str] | None = None) -> list[str]:
    """Partitions that should have been ingested by `now` and were not, nor refused: their time came while nobody ran.

    Counted from the oldest that was ingested on: a history that begins later than `partitions.first` is a choice. Of a
    problem whose data lies in the past, what is newer than the newest is still to be played. `done`: what has been
    ingested; None: as the store says.
    """
    done = set(ingested(problem) if done is None else done)
    if not done:
        return []
    due = problem.partitions.due(problem.present(max(done), now))
    accounted_for, oldest = done | quarantine.held(problem), min(done)
    return [key for key in due if key > oldest and key not in accounted_for]


def missed_in_words(problem: Problem, keys: Sequence[str]) -> str | None:
    """Which partitions were missed, and the commands that load them; None: none was."""
    if not keys:
        return None
    first, last, name = min(keys), max(keys), problem.name
    every = problem.partitions.every
    what = f"1 {every} closed and was" if len(keys) == 1 else f"{len(keys)} {every}s closed and were"
    return (
        f"{what} not ingested: {problem.partitions.spans(keys)}. To load what is missing, with all that follows: "
        f"airflow backfill create --dag-id {name}.ingest --from-date {first} --to-date {last}; "
        f"without: evergreen run ingest {name} --first {first} --last {last}"
    )


def status(problem: Problem, now: datetime | None = None) -> Status:
    """What serves, since when, how fresh the tables are, what is missing from them, and what monitoring said last."""
    promotions, watched = (ledger.decisions(problem, kind) for kind in ("promotion", "monitoring"))
    last = promotions[-1] if promotions else None
    newest = watched[-1] if watched else None
    trained = {row["model_version"]: row["partition"] for row in promotions if row["action"] == "promoted"}
    tables: Iterable[TableName] = ("labels", "predictions", "profiles")
    newest_of: dict[str, str | None] = {name: max(store.partition_keys(problem, name), default=None) for name in tables}
    return Status(
        version=last["model_version"] if last else None,
        since=last["decided_time"] if last else None,
        trained_on=trained.get(last["model_version"]) if last else None,
        newest={"events": max(ingested(problem), default=None), **newest_of},
        verdict=newest["verdict"] if newest else None,
        reason=newest["reason"] if newest else None,
        missed=missed_in_words(problem, missed(problem, now or datetime.now(UTC))),
    )


def _count(problem: Problem, name: TableName) -> dict[str, int]:
    rows = store.dataset(problem, name)
    if name == "events":
        rows = rows.filter(holds_now())
    counts = pc.value_counts(rows.to_table(columns=["partition"])["partition"])
    return {str(group["values"]): int(group["counts"]) for group in counts.to_pylist()}


def _versions(problem: Problem) -> dict[str, str]:
    rows = store.dataset(problem, "predictions").to_table(columns=["partition", "model_version"])
    pairs: list[dict[str, Any]] = rows.group_by(["partition", "model_version"]).aggregate([]).to_pylist()
    return {pair["partition"]: pair["model_version"] for pair in pairs}
