"""A tested recipe, fitted again on more rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.problem import Problem
from pipelines.release.reproduce import on_disk
from pipelines.training.fit import fit
from pipelines.training.refit import as_long, refitted, updated_again
from pipelines.training.update import continued, recalibrated
from tests.conftest import ToyProblem
from tests.training.kettles import kettles

TRAIN, VALIDATION, NEWEST = kettles(8, first=0), kettles(2, seed=1, first=8), kettles(3, seed=2, first=10)
ALL = pa.concat_tables([TRAIN, VALIDATION, NEWEST])
CANDIDATES: dict[str, dict[str, Any]] = {
    "prior": {"model": "prior"},
    "trees": {"model": "xgboost", "parameters": {"learning_rate": 0.3, "early_stopping_rounds": 3, "max_depth": 3}},
    "plain": {"model": "xgboost"},
    "hist": {"model": "hist_boosting", "parameters": {"max_iter": 60, "learning_rate": 0.3}},
    "logistic": {"model": "logistic", "parameters": {"C": 0.5}},
    "both": {"model": "voting", "of": ["trees", "hist"]},
}


@pytest.fixture
def problem(toy: ToyProblem) -> Problem:
    threads = {"training.threads": 1, "training.threshold": {"by": "f_beta"}}
    return toy(**{"training.candidates": CANDIDATES, "training.baselines": ["prior"], **threads})


@pytest.mark.parametrize("name", ["trees", "hist", "logistic", "both"])
def test_a_refit_learns_from_all_rows_as_long_as_the_tested_model_and_keeps_its_threshold(
    problem: Problem, name: str
) -> None:
    tested = fit(problem, name, TRAIN, VALIDATION)
    model = refitted(problem, name, tested, ALL, {})
    assert (model.learnt_from["rows"], model.fitted_rows) == (ALL.num_rows, ALL.num_rows)
    assert model.learnt_from["partitions"] == sorted(set(ALL["partition"].to_pylist()))
    assert model.threshold == tested.threshold, "no row is left that could choose another"
    lasting = as_long(problem, name, tested)
    assert as_long(problem, name, model) == lasting
    assert not np.array_equal(model.scores(NEWEST), tested.scores(NEWEST))
    assert np.array_equal(refitted(problem, name, tested, ALL, {}).scores(NEWEST), model.scores(NEWEST))


def test_rounds_are_fixed_and_not_searched_again(problem: Problem) -> None:
    tested = fit(problem, "trees", TRAIN, VALIDATION)
    assert tested.estimator.rounds_ < 60, "it stopped early"
    plain = {"n_estimators": tested.estimator.rounds_, "early_stopping_rounds": None}
    assert as_long(problem, "trees", tested) == plain
    wanted = fit(problem, "trees", ALL, VALIDATION, parameters=plain)
    assert np.array_equal(refitted(problem, "trees", tested, ALL, {}).scores(NEWEST), wanted.scores(NEWEST))


def test_what_was_searched_stays(problem: Problem) -> None:
    searched = {"max_depth": 1}
    tested = fit(problem, "trees", TRAIN, VALIDATION, parameters=searched)
    model = refitted(problem, "trees", tested, ALL, searched)
    assert model.estimator.parameters["max_depth"] == 1


def test_a_calibration_learns_from_the_newest_partitions_of_the_refit(toy: ToyProblem) -> None:
    calibrated = {"trees": {**CANDIDATES["trees"], "calibration": {"method": "platt", "partitions": 2}}}
    problem = toy(**{"training.candidates": CANDIDATES | calibrated, "training.baselines": ["prior"]})
    tested = fit(problem, "trees", TRAIN, VALIDATION)
    model = refitted(problem, "trees", tested, ALL, {})
    assert model.calibration is not None
    assert model.fitted_rows == ALL.num_rows - 2 * 40, "those are not fitted on"


def test_rows_on_disk_are_refitted_too(problem: Problem, tmp_path: Path) -> None:
    tested = fit(problem, "trees", TRAIN, VALIDATION)
    model = refitted(problem, "trees", tested, on_disk(ALL, str(tmp_path)), {})
    assert model.learnt_from == refitted(problem, "trees", tested, ALL, {}).learnt_from
    assert model.estimator.rounds_ == tested.estimator.rounds_


def test_an_update_is_done_again_to_what_serves(problem: Problem) -> None:
    base = fit(problem, "trees", TRAIN, VALIDATION)
    serving = refitted(problem, "trees", base, pa.concat_tables([TRAIN, VALIDATION]), {})
    rows, later = NEWEST, kettles(1, seed=3, first=13)
    tested = continued(problem, "trees", base, rows, later)
    model = updated_again(problem, "trees", "continue", tested, base, serving, rows)
    added = tested.estimator.rounds_ - base.estimator.rounds_
    assert added > 0 and model.estimator.rounds_ == serving.estimator.rounds_ + added
    assert model.threshold == tested.threshold
    again = updated_again(problem, "trees", "recalibrate", recalibrated(problem, base, rows), base, serving, rows)
    assert np.array_equal(again.scores(later), recalibrated(problem, serving, rows).scores(later))


def test_a_recalibration_that_is_done_again_decides_by_the_tested_threshold(problem: Problem) -> None:
    base = fit(problem, "trees", TRAIN, VALIDATION)
    tested = recalibrated(problem, base, VALIDATION)
    assert recalibrated(problem, base, NEWEST).threshold != tested.threshold, "these rows would choose another"
    model = updated_again(problem, "trees", "recalibrate", tested, base, base, NEWEST)
    assert model.threshold == tested.threshold


def test_trees_of_a_refit_are_as_deep_as_the_tested_ones_though_more_rows_would_get_deeper_ones(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.training.boost_parameters.FEW_ROWS", TRAIN.num_rows + 1)
    tested = fit(problem, "plain", TRAIN, VALIDATION)
    model = refitted(problem, "plain", tested, ALL, {})
    shallow = fit(problem, "plain", ALL, VALIDATION, parameters=as_long(problem, "plain", tested) | {"max_depth": 4})
    assert np.array_equal(model.scores(NEWEST), shallow.scores(NEWEST))
    deep = fit(problem, "plain", ALL, VALIDATION, parameters=as_long(problem, "plain", tested) | {"max_depth": 6})
    assert not np.array_equal(model.scores(NEWEST), deep.scores(NEWEST))


@pytest.mark.parametrize("name", ["trees", "plain"])
def test_a_refitted_model_that_is_continued_stops_early_as_the_tested_one_would(problem: Problem, name: str) -> None:
    tested = fit(problem, name, TRAIN, VALIDATION)
    model = refitted(problem, name, tested, ALL, {})
    assert model.estimator.parameters == tested.estimator.parameters
    added = continued(problem, name, model, NEWEST, kettles(1, seed=3, first=13)).estimator
    assert added.history_, "held-out rows said when to stop"
