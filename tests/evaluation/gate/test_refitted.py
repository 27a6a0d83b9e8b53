"""Whether a refitted model may serve."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.evaluation.gate.refitted import refit_check
from pipelines.metrics.scored import Scored, scored
from pipelines.problem import Problem
from tests.conftest import ToyProblem

LABELS = np.tile([0, 1], 100)
BLOCKS = np.arange(200) // 10


@pytest.fixture
def problem(toy: ToyProblem) -> Problem:
    return toy(**{"evaluation.bootstrap": {"resamples": 100}, "training.select_by": "log_loss"})


def of(problem: Problem, chance: float) -> Scored:
    """A model that gives the true class this probability, give or take a little."""
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, len(LABELS))
    return scored(problem, LABELS, np.where(LABELS == 1, chance, 1 - chance) + noise, np.ones(len(LABELS)))


def test_a_refit_that_fits_what_it_has_learnt_at_least_as_well_is_sound(problem: Problem) -> None:
    found = refit_check(problem, of(problem, 0.7), of(problem, 0.8), BLOCKS)
    assert found.passed and found.metric == "log_loss"
    assert found.gain is not None and found.gain["value"] == pytest.approx(np.log(0.8) - np.log(0.7), abs=0.01)
    assert found.reason.startswith("log_loss is better by 0.1")
    assert refit_check(problem, of(problem, 0.7), of(problem, 0.7), BLOCKS).passed


def test_a_refit_that_is_surely_worse_on_rows_that_it_has_learnt_does_not_serve(problem: Problem) -> None:
    found = refit_check(problem, of(problem, 0.8), of(problem, 0.7), BLOCKS)
    assert not found.passed and "it should fit them better" in found.reason
    assert found.reason.startswith("log_loss is worse by 0.1")


def test_scores_that_are_no_numbers_do_not_serve(problem: Problem) -> None:
    broken = of(problem, 0.8)
    broken.scores[3] = np.nan
    found = refit_check(problem, of(problem, 0.7), broken, BLOCKS)
    assert (found.passed, found.reason) == (False, "1 of its scores on the test rows are no numbers")
