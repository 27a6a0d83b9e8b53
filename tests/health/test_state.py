"""How a problem stands is what its ledger and its tables add up to, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.health import filled
from pipelines import ledger, local_run, quarantine, stages, store
from pipelines.errors import ConfigError, GateFailed, NothingToDo, NoTraining, ServiceUnavailable
from pipelines.handoffs.releases import Assessed
from pipelines.health import kept
from pipelines.health.document import Cost, Health, History
from pipelines.health.history import history_of
from pipelines.health.kept import keep, kept_or_derived
from pipelines.health.shelf import HEALTH, Shelf, kept_uri
from pipelines.health.state import health_of
from pipelines.paths import version_uri
from pipelines.problem import Problem
from pipelines.release import ladder
from pipelines.usage import Outcome, Try
from pipelines.usage.table import append
from tests.conftest import ToyProblem
from tests.release.under_release import DAYS, START
from tests.test_summary import BEGAN, kettle, promoted

__all__ = ["kettle"]


def asking(asks: bool) -> Assessed:
    return Assessed(
        partition=BEGAN,
        release="v3-v4",
        champion="3",
        challenger="4",
        rung=0,
        kind="canary",
        verdict="go on",
        reason="no worse",
        asks=asks,
        page="",
    )


def test_the_release_that_is_under_way(kettle: Problem) -> None:
    release = health_of(kettle, START).release
    assert release is not None and release.in_words == "version 4: canary of 50%"
    assert release.next_step == "serving everything, when the labels of its first partition are in"
    ladder.record(kettle, "v3-v4", "held", DAYS[1], "lunch", verdict="by hand", version="4", turn="1")
    release = health_of(kettle, START).release
    assert release is not None and release.in_words == "version 4: canary of 50%, held"
    assert release.next_step == "serving everything, once it is resumed"
    ladder.record(kettle, "v3-v4", "aborted", DAYS[1], "enough", verdict="by hand", version="4")
    assert health_of(kettle, START).release is None


def test_a_version_was_trained_when_its_lineage_says_however_much_later_it_serves(kettle: Problem) -> None:
    store.write_json(version_uri(kettle, "4", "lineage.json"), {"partition": BEGAN})
    promoted(kettle, "4", DAYS[2], "promoted", "passed its release")
    champion = health_of(kettle, START).champion
    assert champion is not None
    assert (champion.version, champion.trained_on) == ("4", BEGAN)


def test_nothing_is_known_of_a_problem_that_has_not_begun(toy: ToyProblem, store_folder: Path) -> None:
    health = health_of(toy())
    assert (health.champion, health.points, health.judged, health.next_due, health.missed) == (
        None,
        (),
        None,
        None,
        None,
    )
    assert health.gate == 0.6 and health.higher_is_better


def test_what_is_held_and_what_failed(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy()
    gate(problem, "2024-01-02-0123abcd", "failed")
    quarantine.hold(problem, "2024-01-03", "a dead sensor", {"by": "hand"})
    health = health_of(problem)
    assert [(held.partition, held.reason) for held in health.held] == [("2024-01-03", "a dead sensor")]
    assert health.failed_gate is not None and health.failed_gate.training == "2024-01-02-0123abcd"
    quarantine.readmit(problem, "2024-01-03", "it was right")
    gate(problem, "2024-01-04-0123abcd", "passed")
    health = health_of(problem)
    assert (health.held, health.failed_gate) == ((), None)


def gate(problem: Problem, training: str, verdict: str) -> None:
    ledger.record(
        problem,
        decision=f"gate:{training}",
        kind="gate",
        partition=training[:10],
        verdict=verdict,
        action="",
        reason="auc",
        evidence={},
    )


def test_labels_are_due_and_the_next_partition_is(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy(**{"labels.delay_days": 3})
    filled(problem, 4)
    health = health_of(problem, datetime(2024, 1, 5, tzinfo=UTC))
    newest = health.points[-1]
    assert (newest.partition, newest.realised, newest.labels_due) == (
        "2024-01-04",
        None,
        datetime(2024, 1, 8, tzinfo=UTC),
    )
    assert health.points[0].realised is not None and health.points[0].labels_due is None
    assert health.next_due == problem.partitions.ingested_at("2024-01-05")
    assert health.champion is not None and health.champion.age == 3


def test_a_history_that_goes_on_from_the_last_one_is_the_same(
    toy: ToyProblem, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy()
    filled(problem, 3)
    before = history_of(problem)
    gate(problem, "2024-01-03-0123abcd", "passed")
    read: list[int] = []
    evidence = ledger.evidence

    def noted(problem: Problem, rows: list[ledger.Told]) -> Mapping[str, Any]:
        read.append(len(rows))
        return evidence(problem, rows)

    monkeypatch.setattr(ledger, "evidence", noted)
    after = history_of(problem, before)
    assert read == [1], "evidence that was read before is not read again"
    assert after == history_of(problem)
    assert len(after.turns) == len(before.turns) + 1
    assert History.model_validate_json(after.model_dump_json()) == after


def test_what_is_kept_is_what_is_derived(toy: ToyProblem, store_folder: Path) -> None:
    problem, shelf = toy(), Shelf()
    assert shelf.healths() == {} and shelf.history(problem.name) is None
    filled(problem, 3)
    health = keep(problem)
    assert shelf.healths() == {problem.name: health}
    assert health == health_of(problem, health.derived)
    assert shelf.history(problem.name) == history_of(problem)
    quarantine.hold(problem, "2024-01-03", "a dead sensor", {"by": "hand"})
    assert shelf.healths() == {problem.name: health}, "what nobody has written down is not known"
    assert [held.reason for held in keep(problem).held] == ["a dead sensor"]
    assert [held.reason for held in shelf.healths()[problem.name].held] == ["a dead sensor"]
    assert Shelf().healths() == shelf.healths(), "another process reads the same"


def test_what_another_version_has_kept_counts_as_nothing(toy: ToyProblem, store_folder: Path) -> None:
    problem, shelf = toy(), Shelf()
    for content in ({"format": 0}, {"format": 1, "problem": "kettle"}):
        store.write_json(kept_uri(problem.name, HEALTH), content)
        assert shelf.healths() == {}
    assert shelf.healths() == {} and keep(problem) == shelf.healths()[problem.name]


def test_who_looked_before_a_decision_and_writes_after_it_looks_again(
    toy: ToyProblem, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy()
    gate(problem, "2024-01-01-0123abcd", "passed")
    derive = kept.health_of

    def overtaken(problem: Problem, history: History) -> Health:
        health = derive(problem, history=history)
        quarantine.hold(problem, "2024-01-03", "meanwhile", {"by": "monitor"})
        return health

    monkeypatch.setattr(kept, "health_of", overtaken)
    assert [held.reason for held in keep(problem).held] == ["meanwhile"]


@pytest.fixture
def written_down(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the problems whose standing was written down."""
    names: list[str] = []
    monkeypatch.setattr(kept, "try_to_keep", lambda name, *_: names.append(name))
    return names


@pytest.mark.parametrize(
    ("name", "outcome", "times"),
    [
        ("ingest.publish", "published", 1),
        ("monitor.act", "requested", 1),
        ("monitor.act", NoTraining("the world is as it was"), 1),
        ("release.assess", asking(False), 0),
        ("release.assess", asking(True), 1),
        ("release.assess", NothingToDo("no release is under way"), 0),
        ("release.step", "stepped", 1),
        ("release.step", NothingToDo("it stays where it is"), 1),
        ("train.gate", "passed", 0),
        ("train.gate", GateFailed("auc"), 1),
        ("train.refit", "fitted", 0),
        ("train.register", ServiceUnavailable("MLflow"), 0),
        ("train.promote", "promoted", 1),
    ],
)
def test_how_a_problem_stands_is_written_down_where_its_run_ends_or_waits_for_people(
    name: str, outcome: object, times: int, written_down: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def function(problem_name: str) -> object:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(stages, "function_of", lambda name: function)
    monkeypatch.setattr(local_run, "line", lambda name, result: "")
    expected = pytest.raises(type(outcome)) if isinstance(outcome, Exception) else nullcontext()
    with expected:
        local_run.logged(name, "kettle")
    assert written_down == ["kettle"] * times


def test_a_store_that_cannot_be_written_stops_neither_a_stage_nor_a_reader(
    toy: ToyProblem, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy()
    monkeypatch.setattr(kept, "load_problem", lambda name: problem)
    store_folder.mkdir()
    (store_folder / "_health").write_text("in the way")
    kept.try_to_keep(problem.name)
    health = kept_or_derived(problem)
    assert health.problem == problem.name and health.derived > datetime.now(UTC) - timedelta(minutes=1)


def test_what_a_partition_costs_and_what_its_stages_used_of_late(
    toy: ToyProblem, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(store_folder.parent))
    problem, old = toy(), START - timedelta(days=40)

    def attempt(name: str, stage: str, began: datetime, cpu_s: float, outcome: Outcome = "done") -> Try:
        about: dict[str, Any] = {"run": "r", "host": "h", "partition": "2024-01-01", "wall_s": 1.0, "peak_bytes": 7}
        return Try(id=name, stage=stage, started_time=began, cpu_s=cpu_s, outcome=outcome, **about)

    assert (health_of(problem, START).cost, health_of(problem, START).stages) == (None, ())
    append(
        problem,
        [
            attempt("old", "score.publish", old, 99),
            attempt("first", "score.publish", START - timedelta(days=2), 900),
            attempt("killed", "monitor.report", START - timedelta(days=1), 1800, "killed"),
            attempt("again", "monitor.report", START - timedelta(hours=2), 900),
        ],
    )
    health = health_of(problem, START)
    assert health.cost is not None
    assert health.cost == Cost(per_partition=health.cost.per_partition, unit="USD", partitions=1)
    assert health.cost.per_partition == pytest.approx(0.04)
    assert [(used.stage, used.cpu_s, used.peak_bytes, used.outcomes) for used in health.stages] == [
        ("monitor.report", 900, 7, {"killed": 1, "done": 1}),
        ("score.publish", 900, 7, {"done": 1}),
    ]
    assert Health.model_validate_json(health.model_dump_json()) == health
    monkeypatch.setattr("pipelines.health.used.load_prices", wrong_prices)
    assert health_of(problem, START).cost is None


def wrong_prices() -> None:
    raise ConfigError("no prices")
