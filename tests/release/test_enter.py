from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import ledger
from pipelines.problem import Problem
from pipelines.release import ladder
from pipelines.release.enter import Entry, begin_next, enter
from pipelines.release.ladder import Contender
from tests.aliases import Aliases
from tests.conftest import ToyProblem

DAY = "2024-01-10"
FOURTH, FIFTH, SIXTH = (Contender(version, f"run of {version}", DAY, "better on the test") for version in "456")
BY_STEPS = {"release.path": ["shadow", "full"]}


@pytest.fixture
def aliases(monkeypatch: pytest.MonkeyPatch) -> Aliases:
    return Aliases().install(monkeypatch)


@pytest.fixture
def kettle(toy: ToyProblem, store_folder: Path, aliases: Aliases) -> Problem:
    return toy(**BY_STEPS)


def promotions(problem: Problem) -> list[str | None]:
    return [row["model_version"] for row in ledger.decisions(problem, "promotion")]


def test_without_steps_it_serves_at_once(toy: ToyProblem, store_folder: Path, aliases: Aliases) -> None:
    assert enter(toy(), FOURTH, "xgboost") == Entry("serves", "3")
    enter(toy(), FOURTH, "xgboost")
    assert (aliases.champion, promotions(toy())) == ("4", ["4"])
    assert ladder.read(toy()) == ladder.Ladder()


def test_the_first_version_serves_at_once(kettle: Problem, aliases: Aliases) -> None:
    aliases.champion = None
    assert enter(kettle, FOURTH, "xgboost") == Entry("serves", None)
    assert promotions(kettle) == ["4"]


def test_by_steps_its_release_begins(kettle: Problem, aliases: Aliases) -> None:
    assert enter(kettle, FOURTH, "xgboost") == enter(kettle, FOURTH, "xgboost") == Entry("released", None, "v3-v4")
    assert (aliases.champion, promotions(kettle)) == ("3", [])
    (rollout,) = ladder.read(kettle).rollouts
    assert (rollout.champion_run, rollout.challenger_run, rollout.began) == ("run of 3", "run of 4", DAY)


def test_a_newer_one_waits(kettle: Problem, aliases: Aliases) -> None:
    enter(kettle, FOURTH, "xgboost")
    aliases.challenger = "5"  # as registering it does
    assert enter(kettle, FIFTH, "xgboost") == enter(kettle, FIFTH, "xgboost") == Entry("waits", None, "v3-v4")
    assert aliases.challenger == "4", "the alias is of the version under release"
    assert [contender.version for contender in ladder.read(kettle).waiting] == ["5"]


def test_or_takes_its_place(toy: ToyProblem, store_folder: Path, aliases: Aliases) -> None:
    problem = toy(**BY_STEPS, **{"release.newest": True})
    enter(problem, FOURTH, "xgboost")
    assert enter(problem, FIFTH, "xgboost") == enter(problem, FIFTH, "xgboost") == Entry("released", None, "v3-v5")
    assert [rollout.state for rollout in ladder.read(problem).rollouts] == ["replaced", "under way"]
    assert aliases.challenger == "5"


def test_of_those_that_wait_the_newest_comes_next(kettle: Problem, aliases: Aliases) -> None:
    enter(kettle, FOURTH, "xgboost")
    for contender in (FIFTH, SIXTH):
        enter(kettle, contender, "xgboost")
    ladder.record(kettle, "v3-v4", "expired", DAY, "no labels", verdict="expire", version="4")
    assert begin_next(kettle) == "v3-v6"
    releases = ladder.read(kettle)
    assert releases.current is not None and releases.current.challenger == "6"
    assert releases.waiting == (), "what is older than the one under way is not gone back to"
    assert begin_next(kettle) is None


def test_a_release_against_what_serves_no_more_keeps_nobody_waiting(kettle: Problem, aliases: Aliases) -> None:
    enter(kettle, FOURTH, "xgboost")
    aliases.champion = "2"  # by hand, in MLflow
    assert enter(kettle, FIFTH, "xgboost") == Entry("released", None, "v2-v5")
    assert [rollout.state for rollout in ladder.read(kettle).rollouts] == ["overtaken", "under way"]
