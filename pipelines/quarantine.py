"""Rows that were set aside: look at them, mend them, let them in. Every release is on the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import store
from pipelines.clock import present
from pipelines.errors import DataError
from pipelines.problem import Problem, Query
from pipelines.release import ledger

if TYPE_CHECKING:
    from pipelines.ingest.quarantine import Repair


def releases(problem: Problem) -> dict[str, dict[str, Any]]:
    """What was released so far, by the row's id: {"query", "before", "after", "rules", "known_time"}."""
    return {row["evidence"]["id"]: row["evidence"] for row in ledger.decisions(problem, "release")}


def repairs(problem: Problem, query: Query) -> dict[str, Repair]:
    """The released rows of a query, as they were repaired, by id: a new ingest takes them for the rejected ones."""
    from pipelines.ingest.quarantine import Repair

    return {
        row_id: Repair(one["after"], datetime.fromisoformat(one["known_time"]))
        for row_id, one in releases(problem).items()
        if one["query"] == query
    }


def listing(problem: Problem, partition: str | None = None) -> list[dict[str, Any]]:
    """The rows that wait in quarantine, of one partition or of all."""
    from pipelines.ingest.quarantine import listing as list_rows

    rows = store.dataset(problem, "quarantine")
    if partition is not None:
        rows = rows.filter(pc.field("partition") == partition)
    return list_rows(rows.to_table(), set(releases(problem)))


def find(problem: Problem, id: str) -> dict[str, Any]:
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
    row: dict[str, Any] = rows.to_pylist()[0]
    return row


def release(problem: Problem, id: str, changes: Mapping[str, str], reason: str) -> dict[str, Any]:
    """Mend a row by `changes` (column: new value), hold it against the rules again, and publish it.

    The row becomes known now: what models saw before stays. Repeating a release that was cut off finishes it.
    Result: {"id", "partition", "query", "after"}.

    Raises:
        DataError: no such row, or it still breaks a rule; the message names each.
        ConfigError: `changes` names an unknown column.
    """
    from pipelines.ingest.quarantine import edited, repair

    row = find(problem, id)
    query: Query = row["source"]
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
        filter=pc.is_null(pc.field("superseded_time")) & pc.is_null(pc.field("withdrawn_time")),
    )
    is_other = pc.invert(pc.is_in(open_now[problem.key], value_set=good[problem.key].combine_chunks()))
    delivered = pa.concat_tables([open_now.filter(is_other), good.cast(open_now.schema)])
    if query == "events":
        store.write_table(problem, "events", event_statements(problem, before, delivered, now), [partition])
    else:
        after = natural_label_statements(problem, before, delivered, now, ingested=[partition])
        store.write_table(problem, "labels", after, [partition], within="natural")
