"""What is done about a release, in every way that it may be killed and repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import ledger, store, tracking
from pipelines.errors import NothingToDo
from pipelines.handoffs.releases import Answer, Assessed
from pipelines.problem import Problem, load_problem
from pipelines.release import enter, ladder, steps
from pipelines.release.ladder import Contender
from pipelines.stages.release.step import step
from tests.aliases import Aliases
from tests.conftest import TOY

DAY, NEXT = "2024-01-10", "2024-01-12"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Aliases:
    return Aliases().install(monkeypatch)


@pytest.fixture
def kettle(store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Aliases) -> Problem:
    folder = tmp_path / "problems" / "kettle"
    folder.mkdir(parents=True)
    raw = {**TOY, "release": {"path": ["shadow", "canary", "full"], "canary": {"shares": [0.2]}}}
    (folder / "problem.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    problem = load_problem("kettle")
    enter.begin(problem, Contender("4", "run of 4", DAY, "better on the test"))
    return problem


def found(verdict: str, rung: int = 0, **more: Any) -> Assessed:
    return Assessed.model_validate(
        {
            "partition": NEXT,
            "release": "v3-v4",
            "champion": "3",
            "challenger": "4",
            "rung": rung,
            "kind": "shadow",
            "verdict": verdict,
            "reason": "as labels say",
            "page": "",
            **more,
        }
    )


def state(problem: Problem) -> tuple[str, int]:
    rollout = ladder.read(problem).rollouts[0]
    return rollout.state, rollout.rung


def test_it_goes_on_to_the_next_rung_once(kettle: Problem, registry: Aliases) -> None:
    done = step("kettle", found("go on"))
    assert (done.action, done.version) == ("stepped", "3")
    assert step("kettle", found("go on")) == done  # as a task that was killed before it could say so
    assert state(kettle) == ("under way", 1)
    assert registry.champion == "3"


def test_a_run_that_comes_too_late_does_nothing(kettle: Problem, registry: Aliases) -> None:
    step("kettle", found("go on"))
    with pytest.raises(NothingToDo, match="gone on since"):
        step("kettle", found("roll back", partition="2024-01-11"))
    assert state(kettle) == ("under way", 1)


def test_a_promotion_is_one_row_and_who_approved_stands_in_it(kettle: Problem, registry: Aliases) -> None:
    approved = Answer(is_approved=True, user="ada", time="2024-01-13T09:00:00+00:00")
    done = step("kettle", found("promote", asks=True), approved)
    assert (done.action, done.version, registry.champion, registry.challenger) == ("promoted", "4", "4", "")
    step("kettle", found("promote", asks=True), approved)
    (row,) = ledger.decisions(kettle, "promotion")
    assert (row["model_version"], row["evidence"]["approved_by"], row["evidence"]["replaced"]) == ("4", "ada", "3")
    (answered,) = [row for row in ladder.read(kettle).rollouts[0].rows if row["action"] == "answered"]
    assert answered["evidence"]["user"] == "ada"


@pytest.mark.parametrize("verdict", ["promote", "go on", "roll back"])
def test_what_a_person_has_ended_on_the_same_partition_is_no_earlier_try_of_the_step(
    kettle: Problem, registry: Aliases, verdict: str
) -> None:
    """People are asked, one of them aborts the release by the command, and another one approves."""
    rollout = ladder.read(kettle).rollouts[0]
    steps.end(kettle, rollout, "aborted", NEXT, "the airline has asked us to wait", approved_by=steps.BY_HAND)
    with pytest.raises(NothingToDo, match="gone on since: aborted"):
        step("kettle", found(verdict, asks=True), Answer(is_approved=True, user="ada"))
    assert state(kettle) == ("aborted", 0)
    assert registry.champion == "3" and not ledger.decisions(kettle, "promotion")


def test_a_promotion_that_is_repeated_does_not_undo_a_roll_back(kettle: Problem, registry: Aliases) -> None:
    step("kettle", found("promote"))
    tracking.promote(kettle, "3")  # as `evergreen roll-back` does
    step("kettle", found("promote"))
    assert registry.champion == "3"


@pytest.mark.parametrize(("user", "words"), [("bob", "rejected by bob"), (None, "as nobody answered in time")])
def test_a_rejection_leaves_the_champion_and_is_named(
    kettle: Problem, registry: Aliases, user: str | None, words: str
) -> None:
    done = step("kettle", found("promote", asks=True), Answer(is_approved=False, user=user))
    assert (done.action, registry.champion) == ("rejected", "3")
    assert words in ladder.read(kettle).rollouts[0].reason
    assert state(kettle) == ("rejected", 0)
    assert not ledger.decisions(kettle, "promotion")


def test_what_is_to_be_approved_is_not_done_unasked(kettle: Problem, registry: Aliases) -> None:
    with pytest.raises(NothingToDo, match="people are asked before it"):
        step("kettle", found("promote", asks=True))
    assert state(kettle) == ("under way", 0) and registry.champion == "3"


@pytest.mark.parametrize(
    ("verdict", "ended"), [("roll back", "rolled back"), ("expire", "expired"), ("overtaken", "overtaken")]
)
def test_the_end_leaves_the_champion(kettle: Problem, registry: Aliases, verdict: str, ended: str) -> None:
    assert step("kettle", found(verdict)).action == ended
    assert state(kettle) == (ended, 0)
    assert (registry.champion, registry.challenger) == ("3", "")


def test_it_stays_where_it_is(kettle: Problem, registry: Aliases) -> None:
    with pytest.raises(NothingToDo, match="as labels say"):
        step("kettle", found("hold"))
    assert state(kettle) == ("under way", 0)


def test_a_version_that_has_waited_comes_next(kettle: Problem, registry: Aliases) -> None:
    ladder.wait(kettle, Contender("5", "run of 5", DAY, "better still"), "v3-v4")
    step("kettle", found("roll back"))
    current = ladder.read(kettle).current
    assert current is not None
    assert (current.name, registry.challenger) == ("v3-v5", "5")


KILLED = [
    (ledger, "record"),
    (tracking, "promote"),
    (tracking, "leave"),
]


@pytest.mark.parametrize("verdict", ["promote", "go on", "roll back"])
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("place", range(5))
def test_killed_anywhere_and_repeated_it_comes_to_the_same(
    kettle: Problem, registry: Aliases, monkeypatch: pytest.MonkeyPatch, verdict: str, is_done: bool, place: int
) -> None:
    calls = iter(range(100))

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            is_fatal = next(calls) == place
            if is_fatal and not is_done:
                raise KeyboardInterrupt
            result = function(*args, **kwargs)
            if is_fatal:
                raise KeyboardInterrupt
            return result

        return call

    with monkeypatch.context() as patch:
        for owner, name in KILLED:
            patch.setattr(owner, name, deadly(getattr(owner, name)))
        try:
            step("kettle", found(verdict))
        except KeyboardInterrupt:
            step("kettle", found(verdict))
    expected = {"promote": ("promoted", 0), "go on": ("under way", 1), "roll back": ("rolled back", 0)}
    assert state(kettle) == expected[verdict]
    assert registry.champion == ("4" if verdict == "promote" else "3")
    decided = store.dataset(kettle, "ledger").to_table()["decision"].to_pylist()
    assert len(decided) == len(set(decided))
    assert len(ledger.decisions(kettle, "promotion")) == (verdict == "promote")
