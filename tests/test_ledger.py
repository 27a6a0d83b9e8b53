from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel

from pipelines import ledger
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]


def record(problem: Problem, decision: str, kind: str = "gate") -> bool:
    return ledger.record(
        problem,
        decision=decision,
        kind=kind,
        partition="2024-01-01",
        verdict="passed",
        action="register",
        reason="good",
        evidence={"auc": 0.7},
    )


def test_a_decision_is_written_once(toy: ToyProblem, store_folder: Path) -> None:
    assert ledger.decisions(toy(), "gate") == []
    assert [record(toy(), "gate:1"), record(toy(), "gate:1"), record(toy(), "gate:2")] == [True, False, True]
    assert record(toy(), "promotion:1", "promotion")
    found = ledger.decisions(toy(), "gate")
    assert [row["decision"] for row in found] == ["gate:1", "gate:2"]
    assert found[0]["evidence"] == {"auc": 0.7}


def test_decisions_made_at_once_are_all_kept(toy: ToyProblem, store_folder: Path) -> None:
    record(toy(), "gate:first")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: record(toy(), f"gate:{number}"), range(8)))
    assert len(ledger.decisions(toy(), "gate")) == 9


def test_a_part_of_the_evidence_is_read_of_decisions_that_have_it(toy: ToyProblem, store_folder: Path) -> None:
    class Judged(BaseModel, extra="ignore"):
        auc: float
        missing: str | None = None

    record(toy(), "gate:1")
    record(toy(), "promotion:1", "promotion")
    record(toy(), "gate:2")
    found = ledger.decided(toy(), "gate", Judged)
    assert [(row["decision"], row["partition"], judged) for row, judged in found] == [
        (f"gate:{number}", "2024-01-01", Judged(auc=0.7)) for number in (1, 2)
    ]
