"""The state of a release is what its rows on the ledger add up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import ledger
from pipelines.config import Rung
from pipelines.problem import Problem
from pipelines.release import ladder
from pipelines.release.ladder import Contender, Ladder, Look, Question, Rollout
from tests.conftest import ToyProblem

PATH = {"release.path": ["shadow", "canary", "full"], "release.canary": {"shares": [0.2, 0.5]}}
DAY = "2024-01-10"


@pytest.fixture
def kettle(toy: ToyProblem, store_folder: Path) -> Problem:
    return toy(**PATH)


def begin(problem: Problem, version: str = "4") -> str:
    return ladder.start(problem, Contender(version, "run of 4", DAY, "better on the test"), "3", "run of 3", DAY)


def current(problem: Problem) -> Rollout:
    rollout = ladder.read(problem).current
    assert rollout is not None
    return rollout


def note(
    problem: Problem,
    action: ladder.Action,
    partition: str = DAY,
    turn: str = "",
    verdict: str = "so",
    **evidence: object,
) -> bool:
    return ladder.record(
        problem, "v3-v4", action, partition, "because", verdict=verdict, version="4", turn=turn, **evidence
    )


def test_nothing_was_ever_released(kettle: Problem) -> None:
    assert ladder.read(kettle) == Ladder()
    assert ladder.read(kettle).current is None


def test_a_release_begins_on_its_first_rung_and_keeps_its_settings(kettle: Problem, toy: ToyProblem) -> None:
    assert begin(kettle) == begin(kettle) == "v3-v4"
    rollout = current(toy())  # problem.yaml has lost its section since
    assert (rollout.champion, rollout.challenger, rollout.began) == ("3", "4", DAY)
    assert (rollout.here, rollout.next_rung) == (Rung("shadow", 0.0), Rung("canary", 0.2))
    assert len(ladder.read(kettle).rollouts) == 1


def test_a_setting_that_was_given_up_since_stops_no_release_from_being_read(kettle: Problem) -> None:
    settings = kettle.release.model_dump(mode="json")
    kept = {**settings, "patience": 3, "bandit": {**settings["bandit"], "seed": 0}}
    evidence: dict[str, Any] = {"champion": "3", "champion_run": "run of 3", "challenger_run": "run of 4"}
    note(kettle, "started", settings=kept, **evidence)
    assert current(kettle).settings == kettle.release


def test_it_goes_up_by_steps_and_ends_once(kettle: Problem) -> None:
    begin(kettle)
    assert note(kettle, "stepped", turn="1", to=1)
    assert current(kettle).here == Rung("canary", 0.2)
    assert not note(kettle, "stepped", turn="1", to=1)
    note(kettle, "stepped", turn="2", to=2)
    assert current(kettle).here == Rung("canary", 0.5)
    note(kettle, "promoted")
    note(kettle, "rolled back")
    releases = ladder.read(kettle)
    assert releases.current is None
    assert [rollout.state for rollout in releases.rollouts] == ["promoted"]


def test_what_was_assigned_first_holds(kettle: Problem) -> None:
    begin(kettle)
    first = ladder.assign(kettle, current(kettle), "2024-01-11")
    note(kettle, "stepped", turn="1", to=1)
    second = ladder.assign(kettle, current(kettle), "2024-01-12")
    assert ladder.assign(kettle, current(kettle), "2024-01-11") == first
    assert (first.kind, first.share, second.kind, second.share) == ("shadow", 0.0, "canary", 0.2)
    note(kettle, "promoted")
    releases = ladder.read(kettle)
    assert [releases.assigned(key) for key in ("2024-01-11", "2024-01-12", "2024-01-13")] == [first, second, None]


def test_a_partition_that_was_taken_back_is_the_champions(kettle: Problem) -> None:
    begin(kettle)
    note(kettle, "stepped", turn="1", to=1)
    ladder.assign(kettle, current(kettle), "2024-01-11")
    note(kettle, "rolled back", "2024-01-11", taken_back=True)
    releases = ladder.read(kettle)
    assert releases.assigned("2024-01-11") is None and releases.current is None


def test_looks_questions_and_holding(kettle: Problem) -> None:
    begin(kettle)
    note(kettle, "looked", "2024-01-12", "2024-01-12", rung=0, verdict="hold", judged=["2024-01-11"])
    assert current(kettle).looks == (Look("2024-01-12", 0, "hold", "because", ("2024-01-11",)),)
    note(kettle, "asked", "2024-01-13", "0", rung=0, verdict="go on")
    assert current(kettle).question == Question("2024-01-13", 0, "go on")
    note(kettle, "answered", "2024-01-13", "0", user="ada", answer="Approve")
    assert current(kettle).question is None
    note(kettle, "held", turn="1")
    assert current(kettle).is_held
    note(kettle, "resumed", turn="1")
    assert not current(kettle).is_held


def test_a_bandit_moves_its_share(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy(**{"release.path": ["bandit", "full"], "release.feedback": "outcome"})
    begin(problem)
    assert current(problem).here == Rung("bandit", 0.5)
    note(problem, "stepped", turn="0:2024-01-12", to=0, share=0.8)
    assert current(problem).here == Rung("bandit", 0.8)
    assert current(problem).assignment().share == 0.8


@pytest.mark.parametrize(("serves", "state"), [("2", "overtaken"), ("3", "under way"), ("4", "under way")])
def test_whatever_else_comes_to_serve_ends_it(kettle: Problem, serves: str, state: str) -> None:
    begin(kettle)
    ledger.record(
        kettle,
        decision="rolled back",
        kind="promotion",
        partition=DAY,
        verdict="version 3 does harm",
        action="rolled back",
        reason="",
        model_version=serves,
        evidence={},
    )
    assert ladder.read(kettle).rollouts[0].state == state


def test_versions_wait_for_their_turn(kettle: Problem) -> None:
    begin(kettle)
    for version in ("5", "6"):
        ladder.wait(kettle, Contender(version, f"run of {version}", DAY, "better"), "v3-v4")
    assert [contender.version for contender in ladder.read(kettle).waiting] == ["5", "6"]
    note(kettle, "expired")
    begin(kettle, "6")
    releases = ladder.read(kettle)
    assert releases.waiting == (), "what is older than the one under way is not gone back to"
    assert [rollout.challenger for rollout in releases.rollouts] == ["4", "6"]


@given(st.lists(st.integers(0, 12), max_size=30), st.data())
def test_a_row_that_comes_twice_changes_nothing(order: list[int], data: st.DataObject) -> None:
    from datetime import UTC, datetime, timedelta

    from pipelines.config import Release

    settings = Release.model_validate({"path": ["shadow", "canary", "full"]}).model_dump(mode="json")
    actions: list[tuple[ladder.Action, dict[str, object]]] = [
        ("stepped", {"to": 1}),
        ("stepped", {"to": 2}),
        ("held", {}),
        ("resumed", {}),
        ("looked", {"rung": 0, "judged": []}),
        ("asked", {"rung": 0}),
        ("answered", {}),
        *((end, {}) for end in ladder.ENDS[:6]),
    ]
    begun: dict[str, object] = {
        "champion": "3",
        "champion_run": "a",
        "challenger_run": "b",
        "settings": settings,
    }
    rows: list[ledger.Decision] = []
    for number, (action, evidence) in enumerate([("started", begun), *(actions[place] for place in order)]):
        row: ledger.Decision = {
            "decision": str(number),
            "kind": ladder.KIND,
            "partition": DAY,
            "verdict": "",
            "action": action,
            "reason": "",
            "evidence": {"release": "v3-v4", **evidence},
            "model_version": "4",
            "decided_time": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=number),
        }
        rows.append(row)
    (whole,) = ladder.fold(rows, []).rollouts
    ends = [row["action"] for row in rows if row["action"] in ladder.ENDS]
    assert whole.state == (ends[0] if ends else "under way")
    (shuffled,) = ladder.fold(data.draw(st.permutations(rows)), []).rollouts
    assert shuffled == whole
