"""Rows and whole partitions that were set aside: look at them, mend them, let them in. All of it is on the ledger.

A partition that is held is learnt from by nobody: its events are in no split of a training set. It is scored all the
same, and its past goes on to count in history features, of the training rows as of those that are scored: a label is
an outcome, which a fault of an event's columns does not touch, and a feature that was computed without the partition
in training but with it in scoring would be skewed. A sum over the faulty column itself is wrong in both, until the
window has passed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, cast

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import ledger, sql, store
from pipelines.asof.as_known import holds_now
from pipelines.asof.clock import present
from pipelines.errors import DataError
from pipelines.ledger import Decision
from pipelines.problem import Problem, Query

if TYPE_CHECKING:
    from pipelines.ingest.quarantine import Repair, WaitingRow

REFUSED = "ingest.validate"  # who holds partitions of which nothing was published
HELD, READMITTED = "quarantine", "readmitted"  # actions on the ledger


class Grounds(TypedDict, total=False):
    """What a partition is held for, or let in again: who did it, the page that shows it, the monitor's diagnosis."""

    by: str
    page: str | None
    diagnosis: dict[str, Any]


class Release(TypedDict):
    """A row that was mended and let in: its id, query, text before and after, the rules it broke, when it was known."""

    id: str
    query: Query
    before: dict[str, Any]
    after: dict[str, Any]
    rules: list[str]
    known_time: str


class Released(TypedDict):
    """What a release did."""

    id: str
    partition: str
    query: Query
    after: dict[str, Any]


def hold(problem: Problem, partition: str, reason: str, evidence: Grounds, verdict: str = "data fault") -> bool:
    """Keep a partition out of every training set from now on; whether it was not held before. Safe to repeat."""
    problem.partitions.parse(partition)
    return bool(hold_all(problem, {partition: reason}, evidence, verdict))


def hold_all(problem: Problem, reasons: Mapping[str, str], evidence: Grounds, verdict: str = "data fault") -> list[str]:
    """As `hold`, of several partitions in one commit, each for its reason; gives those that were not held before."""
    return _turn(problem, reasons, HELD, verdict, evidence)


def readmit(problem: Problem, partition: str, reason: str, evidence: Grounds | None = None) -> bool:
    """Let a held partition in again; whether it was held. Safe to repeat."""
    problem.partitions.parse(partition)
    return bool(readmit_all(problem, [partition], reason, evidence))


def readmit_all(problem: Problem, keys: Sequence[str], reason: str, evidence: Grounds | None = None) -> list[str]:
    """As `readmit`, of several partitions in one commit; gives those that were held."""
    return _turn(problem, dict.fromkeys(keys, reason), READMITTED, "sound", evidence or {})


def held(problem: Problem) -> set[str]:
    """Keys of the partitions that are held now."""
    return {row["partition"] for row in holds(problem)}


def holds(problem: Problem) -> list[Decision]:
    """The ledger's row of each partition that is held now, by key."""
    return [row for _, row in sorted(_last(problem).items()) if row["action"] == HELD]


def unlabelled(problem: Problem) -> set[str]:
    """The partitions whose events look as if nothing had become of them, as their labels came in a refused delivery.

    Where an event without a label counts as negative (`labels.after_maturity`), it is not known that they are. All
    partitions are given from which labels may have arrived in one that ingest holds.
    """
    if problem.labels.after_maturity != "negative":
        return set()
    parts, wait = problem.partitions, timedelta(days=problem.labels.mature_after_days)
    refused = [row["partition"] for row in holds(problem) if row["evidence"].get("by") == REFUSED]
    return {
        key
        for arrived in refused
        for key in parts.between(parts.shift(arrived, -1 - parts.as_many_as(wait)), arrived)
        if parts.end(key) + wait > parts.start(arrived)
    }


def _last(problem: Problem) -> dict[str, Decision]:
    """The newest decision about each partition."""
    rows = sorted(ledger.decisions(problem, "partition"), key=_turns)
    return {row["partition"]: row for row in rows}


def _turns(row: Decision) -> int:
    """How often it was decided about the partition before: clocks of several machines may differ."""
    return int(row["decision"].rpartition(":")[2])


def _turn(problem: Problem, reasons: Mapping[str, str], action: str, verdict: str, evidence: Grounds) -> list[str]:
    if not reasons:
        return []
    store.refresh(problem, "ledger")
    last = _last(problem)
    before = {key: last[key]["action"] if key in last else READMITTED for key in reasons}
    new = [key for key in reasons if before[key] != action]
    rows: list[ledger.Entry] = [
        {
            "decision": f"partition:{key}:{_turns(last[key]) + 1 if key in last else 0}",
            "kind": "partition",
            "partition": key,
            "verdict": verdict,
            "action": action,
            "reason": reasons[key],
            "evidence": {**evidence},
        }
        for key in new
    ]
    if rows:
        ledger.record_all(problem, rows)
    return new


def releases(problem: Problem) -> dict[str, Release]:
    """What was released so far, by the row's id."""
    return {row["evidence"]["id"]: cast("Release", row["evidence"]) for row in ledger.decisions(problem, "release")}


def repairs(problem: Problem, query: Query) -> dict[str, Repair]:
    """The released rows of a query, as they were repaired, by id: a new ingest takes them for the rejected ones."""
    from pipelines.ingest.quarantine import Repair

    return {
        row_id: Repair(turn["after"], datetime.fromisoformat(turn["known_time"]))
        for row_id, turn in releases(problem).items()
        if turn["query"] == query
    }


def listing(problem: Problem, partition: str | None = None) -> list[WaitingRow]:
    """The rows that wait in quarantine, of one partition or of all."""
    from pipelines.ingest.quarantine import listing as list_rows

    rows = store.dataset(problem, "quarantine")
    if partition is not None:
        rows = rows.filter(pc.field("partition") == partition)
    return list_rows(rows.to_table(), set(releases(problem)))


def find(problem: Problem, id: str) -> WaitingRow:
    """A row in quarantine, whole.

    Raises:
        DataError: there is none of this id.
    """
    rows = store.dataset(problem, "quarantine").to_table(filter=pc.field("id") == id)
    if not rows.num_rows:
        done = "; it was released before" if id in releases(problem) else ""
        raise DataError(
            f"no row {id!r} waits in quarantine{done}",
            where=f"problem {problem.name}",
            cure=f"`evergreen quarantine list {problem.name}` shows those that do",
        )
    row: WaitingRow = rows.to_pylist()[0]
    return row


def release(problem: Problem, id: str, changes: Mapping[str, str], reason: str) -> Released:
    """Mend a row by `changes` (column: new value), hold it against the rules again, and publish it.

    The row becomes known now: what models saw before stays. Repeating a release that was cut off finishes it.

    Raises:
        DataError: no such row, or it still breaks a rule; the message names each.
        ConfigError: `changes` names an unknown column.
    """
    from pipelines.ingest.quarantine import edited, repair

    row = find(problem, id)
    query: Query = cast("Query", row["source"])
    known_time = present(problem)
    after = edited(problem, query, row["row"], changes)
    good = repair(problem, query, after, known_time)
    partition = good["partition"][0].as_py()
    ledger.record(
        problem,
        decision=f"release:{id}",
        kind="release",
        partition=partition,
        verdict=", ".join(row["rules"]),
        action="released",
        reason=reason,
        evidence={
            "id": id,
            "query": query,
            "before": json.loads(row["row"]),
            "after": after,
            "rules": row["rules"],
            "known_time": known_time.isoformat(),
        },
    )
    _publish(problem, query, good, partition, known_time)
    kept = store.dataset(problem, "quarantine").to_table(
        filter=(pc.field("partition") == row["partition"]) & (pc.field("id") != id)
    )
    store.write_table(problem, "quarantine", kept, [row["partition"]])
    return {"id": id, "partition": partition, "query": query, "after": after}


def _publish(problem: Problem, query: Query, good: pa.Table, partition: str, now: datetime) -> None:
    """State the repaired row beside what holds in its partition, as if both had been delivered now."""
    from pipelines.ingest.publish import event_statements, natural_label_statements

    before = store.dataset(problem, query).filter(pc.field("partition") == partition)
    if query == "labels":
        before = before.filter(pc.field("source") == "natural")
    open_now = before.to_table(
        columns=good.schema.names,
        filter=holds_now(),
    )
    same = sql.quote(problem.key) + (", event_time" if query == "labels" else "")
    others = sql.query(f"FROM open_now ANTI JOIN good USING ({same})", {"open_now": open_now, "good": good})
    delivered = pa.concat_tables([others.cast(open_now.schema), good.cast(open_now.schema)])
    if query == "events":
        store.write_table(problem, "events", event_statements(problem, before, delivered, now), [partition])
    else:
        after = natural_label_statements(problem, before, delivered, now, ingested=[partition])
        store.write_table(problem, "labels", after, [partition], within="natural")
