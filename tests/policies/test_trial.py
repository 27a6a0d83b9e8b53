"""A release in a replay, on made-up models: rung by rung as the release DAG would take it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipelines.metrics.scored import Scored
from pipelines.policies.history import Recipe
from pipelines.policies.trial import Trial, is_played
from pipelines.problem import Problem
from tests.conftest import ToyProblem

CHAMPION, GOOD, BAD = (Recipe(f"2024-01-0{day}") for day in (1, 2, 3))
DAYS = [f"2024-01-{day:02}" for day in range(5, 15)]
DELAY = 2  # days until a day's labels are in
ROWS = 2_000


class Models:
    """As much of a history as a release asks for: what each model gave, and whose labels are in."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def mature(self, partition: str) -> list[str]:
        return [key for key in DAYS if self.problem.partitions.shift(key, DELAY) <= partition]

    def learnt(self, recipe: Recipe) -> frozenset[str]:
        return frozenset()

    def truth(self, recipe: Recipe, keys: Sequence[str], as_of: str | None) -> tuple[Scored, Any]:
        random = np.random.default_rng(int(keys[0][-2:]))
        logit = random.normal(0, 1.5, ROWS)
        labels = (random.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(int)
        noise = {CHAMPION: 0.0, GOOD: 0.02, BAD: 1.5}[recipe]
        scores = 1 / (1 + np.exp(-(logit + noise * random.normal(0, 1, ROWS))))
        return Scored("binary", ("0", "1"), labels, scores, np.ones(ROWS)), None


def play(problem: Problem, recipe: Recipe, held: set[str] = set()) -> list[str]:  # noqa: B006 - read only
    """What is done at the end of each day, until it is decided."""
    models: Any = Models(problem)
    trial, steps = Trial.begin(problem, CHAMPION, recipe, "2024-01-04"), list[str]()
    for day in DAYS:
        rung = trial.rollout.here.in_words
        step = trial.step(models, CHAMPION, held, day)
        steps.append(f"{rung}: {step}")
        if step != "hold":
            break
    return steps


@pytest.fixture
def kettle(toy: ToyProblem) -> Problem:
    canary = {"shares": [0.2]}
    return toy(**{"release.path": ["shadow", "canary", "full"], "release.canary": canary, "release.margin": 0.01})


def test_a_good_one_goes_through_its_rungs_as_labels_come(kettle: Problem) -> None:
    assert play(kettle, GOOD) == [
        *["shadow: hold"] * 4,  # two days of labels, two days late; from the fifth day on it is a canary
        *["canary of 20%: hold"] * 2,
        "canary of 20%: promote",
    ]


def test_one_that_does_harm_goes_with_the_first_labels(kettle: Problem) -> None:
    assert play(kettle, BAD) == ["shadow: hold", "shadow: hold", "shadow: roll back"]


def test_what_is_in_quarantine_tells_nothing(kettle: Problem) -> None:
    assert play(kettle, GOOD, {DAYS[0]})[4] == "shadow: hold"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, False),
        ({"release.path": ["shadow", "full"]}, True),
        ({"release.path": ["canary", "full"], "release.feedback": "outcome"}, False),
    ],
)
def test_what_a_replay_can_know(toy: ToyProblem, changes: dict[str, Any], wanted: bool) -> None:
    assert is_played(toy(**changes)) == wanted
