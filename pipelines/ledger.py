"""The ledger: every decision, once, with its evidence. It answers what served when, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from pipelines import store
from pipelines.artifacts import table_schema
from pipelines.problem import Problem
from pipelines.sql import is_among

M = TypeVar("M", bound=BaseModel)


class _Stated(TypedDict):
    """What a decision says; `evidence` is JSON, and what it says goes by `kind`."""

    decision: str
    kind: str
    partition: str
    verdict: str
    action: str
    reason: str
    evidence: dict[str, Any]


class Entry(_Stated):
    """A decision as it is recorded."""

    model_version: NotRequired[str | None]


class Told(TypedDict):
    """A decision as it is read without its evidence."""

    decision: str
    kind: str
    partition: str
    verdict: str
    action: str
    reason: str
    model_version: str | None
    decided_time: datetime


class Decision(_Stated):
    """A decision as it is read again."""

    model_version: str | None
    decided_time: datetime


def record(
    problem: Problem,
    *,
    decision: str,
    kind: str,
    partition: str,
    verdict: str,
    action: str,
    reason: str,
    evidence: dict[str, Any],
    model_version: str | None = None,
) -> bool:
    """Append a decision unless its id is there already; whether it was new."""
    row: Entry = {
        "decision": decision,
        "kind": kind,
        "partition": partition,
        "verdict": verdict,
        "action": action,
        "reason": reason,
        "model_version": model_version,
        "evidence": evidence,
    }
    return record_all(problem, [row])


def record_all(problem: Problem, rows: Sequence[Entry]) -> bool:
    """Append, in one commit, the decisions whose ids are not there yet; whether any was new. Rows as in `record`."""
    now, schema = datetime.now(UTC), table_schema(problem, "ledger")
    made = [
        {"model_version": None, **row, "decided_time": now, "evidence": json.dumps(row["evidence"], sort_keys=True)}
        for row in rows
    ]
    return store.append_once(problem, "ledger", pa.Table.from_pylist(made, schema), "decision")


def has_gate(problem: Problem, partition: str) -> bool:
    """Whether a gate has judged a model for this partition, either way."""
    wanted = (pc.field("kind") == "gate") & (pc.field("partition") == partition)
    return bool(store.dataset(problem, "ledger").count_rows(filter=wanted))


def decisions(problem: Problem, kind: str) -> list[Decision]:
    """All decisions of a kind, oldest first, evidence parsed."""
    rows: list[Decision] = _of_kind(problem, kind).to_pylist()
    for row in rows:
        row["evidence"] = json.loads(str(row["evidence"]))
    return rows


def decided(problem: Problem, kind: str, evidence: type[M]) -> list[tuple[Told, M]]:
    """As `decisions`, each with a part of its evidence alone: a fifth of the time, where the rest is large.

    Args:
        evidence: a model of that part, which lets the rest lie (`extra="ignore"`).
    """
    table = _of_kind(problem, kind)
    rows: list[Told] = table.select(list(Told.__annotations__)).to_pylist()
    return [
        (row, evidence.model_validate_json(text)) for row, text in zip(rows, table["evidence"].to_pylist(), strict=True)
    ]


def _of_kind(problem: Problem, kind: str) -> pa.Table:
    """Oldest first; evidence as JSON."""
    return store.dataset(problem, "ledger").to_table(filter=pc.field("kind") == kind).sort_by("decided_time")


def without_evidence(problem: Problem) -> list[Told]:
    """All decisions, oldest first; of those that were written together the one about the older partition."""
    order = [("decided_time", "ascending"), ("partition", "ascending")]
    rows: list[Told] = store.dataset(problem, "ledger").to_table(list(Told.__annotations__)).sort_by(order).to_pylist()
    return rows


def evidence(problem: Problem, rows: Sequence[Told]) -> dict[str, dict[str, Any]]:
    """The evidence of some decisions, by their ids."""
    if not rows:
        return {}
    since = min(row["decided_time"] for row in rows)
    wanted = (pc.field("decided_time") >= since) & is_among("decision", (row["decision"] for row in rows))
    table = store.dataset(problem, "ledger").to_table(["decision", "evidence"], filter=wanted)
    return {row["decision"]: json.loads(row["evidence"]) for row in table.to_pylist()}
