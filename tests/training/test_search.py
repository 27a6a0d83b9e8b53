from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import pipelines.training.fit
from pipelines.config import Range
from pipelines.errors import ConfigError, DataError
from pipelines.problem import Problem
from pipelines.training.folds import folds
from pipelines.training.search import measured, search
from pipelines.training.trials import Trial, is_hopeless, propose
from tests.conftest import ToyProblem
from tests.training.kettles import kettles

pytestmark = pytest.mark.slow

# The solver's tolerance: far too loose, the model stays where it began; tight, it is fitted.
TOLERANCE: dict[str, Any] = {
    "model": "logistic",
    "parameters": {"tol": 0.15},
    "search": {"tol": {"low": 1e-5, "high": 10.0, "log": True}},
}


class Kept(list[Trial]):
    """Trials in memory; a search is killed once so many more of them are kept."""

    def __init__(self, known: list[Trial] | None = None, killed_after: int | None = None) -> None:
        super().__init__(known or [])
        self.killed_after = killed_after

    def known(self) -> list[Trial]:
        return list(self)

    def keep(self, trial: Trial) -> None:
        if self.killed_after == 0:
            raise KeyboardInterrupt
        self.killed_after = None if self.killed_after is None else self.killed_after - 1
        self.append(trial)


def searching(toy: ToyProblem, candidate: dict[str, Any] | None = None, **changes: Any) -> Problem:
    settings = {name.replace("__", "."): value for name, value in changes.items()}
    return toy(**{"training.candidates.logistic": candidate or TOLERANCE, "training.search.trials": 9, **settings})


@pytest.fixture(scope="module")
def train() -> pa.Table:
    return kettles(5, rows_a_day=30)


@pytest.fixture(scope="module")
def unbroken(toy: ToyProblem, train: pa.Table) -> tuple[Any, Kept]:
    kept = Kept()
    return search(searching(toy), "logistic", train, kept), kept


def test_the_first_trial_is_the_candidate_as_it_is_and_the_result_is_never_worse(unbroken: tuple[Any, Kept]) -> None:
    found, kept = unbroken
    assert kept[0].parameters == {"tol": 0.15} and kept[0].state == "finished"
    finished = [trial.value for trial in kept if trial.state == "finished"]
    assert found.value == min(finished) < kept[0].value
    assert [trial.number for trial in kept] == list(range(9)) and found.trials == 9
    assert found.parameters in [trial.parameters for trial in kept]


def test_values_are_the_metric_on_each_fold_of_a_model_of_its_earlier_rows(
    toy: ToyProblem, train: pa.Table, unbroken: tuple[Any, Kept]
) -> None:
    problem = searching(toy)
    trial = next(one for one in unbroken[1][1:] if one.state == "finished")
    for (earlier, newer), value in zip(folds(problem, train), trial.values, strict=True):
        model = pipelines.training.fit.fit(problem, "logistic", earlier, earlier, parameters=trial.parameters)
        p, y = model.scores(newer), newer["label"].to_numpy()
        assert value == pytest.approx(-np.mean(np.log(np.where(y == 1, p, 1 - p))), abs=1e-12)


def test_the_seed_decides_the_trials(toy: ToyProblem, train: pa.Table, unbroken: tuple[Any, Kept]) -> None:
    again, other = Kept(), Kept()
    search(searching(toy, training__search__trials=4), "logistic", train, again)
    assert again == unbroken[1][:4]
    search(searching(toy, training__search__trials=4, training__seed=1), "logistic", train, other)
    assert other[0] == again[0] and [one.parameters for one in other[1:]] != [one.parameters for one in again[1:]]


@pytest.mark.parametrize("after", [1, 6, 9])
def test_a_killed_search_ends_where_an_unbroken_one_ends(
    toy: ToyProblem, train: pa.Table, unbroken: tuple[Any, Kept], after: int
) -> None:
    found, whole = unbroken
    killed = Kept(killed_after=after)
    if after < 9:
        with pytest.raises(KeyboardInterrupt):
            search(searching(toy), "logistic", train, killed)
    else:
        search(searching(toy), "logistic", train, killed)
    assert len(killed) == after
    resumed = Kept(killed[::-1], killed_after=9 - after)  # in whatever order they come back
    assert search(searching(toy), "logistic", train, resumed) == found
    assert sorted(resumed, key=lambda trial: trial.number) == whole


def test_hopeless_trials_are_pruned_if_wanted(toy: ToyProblem, train: pa.Table, unbroken: tuple[Any, Kept]) -> None:
    found, kept = unbroken
    pruned = [trial for trial in kept if trial.state == "pruned"]
    assert found.pruned == len(pruned) > 0
    for trial in pruned:
        others = [one for one in kept[: trial.number] if one.state == "finished"]
        folds_done = len(trial.values)
        assert folds_done < 3 and len(others) >= 5
        assert trial.value > np.median([np.mean(one.values[:folds_done]) for one in others])
        assert f"after {folds_done} of 3 folds" in trial.reason
    whole = Kept()
    assert search(searching(toy, training__search__prune=False), "logistic", train, whole).pruned == 0
    assert {len(trial.values) for trial in whole} == {3}


def test_the_budget_is_a_number_of_trials(toy: ToyProblem, train: pa.Table) -> None:
    found = search(searching(toy, training__search__trials=1), "logistic", train, Kept())
    assert (found.trials, found.parameters) == (1, {"tol": 0.15})


def test_no_trial_starts_after_the_seconds_but_the_first_always_does(toy: ToyProblem, train: pa.Table) -> None:
    problem = searching(toy, training__search__seconds=5.0, training__search__trials=7)

    def trials(seconds: float, kept: Kept) -> int:
        """How many there are when each takes so many seconds."""
        known = len(kept)
        return search(problem, "logistic", train, kept, clock=lambda: seconds * (len(kept) - known)).trials

    assert (trials(100, Kept()), trials(2, Kept()), trials(0, Kept())) == (1, 3, 7)
    left = Kept()
    search(searching(toy, training__search__trials=3), "logistic", train, left)
    assert trials(2, left) == 6, "the seconds of the try before do not count, its trials do"


def test_the_metric_and_its_direction_are_settings(toy: ToyProblem, train: pa.Table) -> None:
    for settings in ({"training__search__metric": "auc"}, {"training__select_by": "auc"}):
        kept = Kept()
        found = search(searching(toy, training__search__trials=6, **settings), "logistic", train, kept)
        assert found.value == max(trial.value for trial in kept if trial.state == "finished") > 0.6
    metric, label = Kept(), Kept()
    both = {"training__search__metric": "brier", "training__select_by": "auc", "training__search__trials": 1}
    search(searching(toy, **both), "logistic", train, metric)
    search(searching(toy, **{**both, "training__search__metric": None}), "logistic", train, label)
    assert metric[0].value < 0.3 < label[0].value


def test_folds_are_settings(toy: ToyProblem, train: pa.Table) -> None:
    kept = Kept()
    changed = {"training__search__folds": 2, "training__search__fold_partitions": 2, "training__search__trials": 1}
    search(searching(toy, **changed), "logistic", train, kept)
    problem = searching(toy, **changed)
    model = pipelines.training.fit.fit(problem, "logistic", *folds(problem, train)[-1])
    assert len(kept[0].values) == 2
    assert kept[0].values[-1] == pytest.approx(measured(problem, model, folds(problem, train)[-1][1], "log_loss"))


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[str]]]:
    """Partitions that the fits learn from, and that tell them when to stop."""
    seen, fit = [], pipelines.training.fit.fit

    def watched(problem: Problem, name: str, train: pa.Table, validation: pa.Table, **more: Any) -> Any:
        seen.append(tuple(sorted(set(rows["partition"].to_pylist())) for rows in (train, validation)))
        return fit(problem, name, train, validation, **more)

    monkeypatch.setattr(pipelines.training.fit, "fit", watched)
    return seen


DAYS = [f"2024-01-0{day}" for day in range(1, 6)]
FOREST: dict[str, Any] = {
    "model": "forest",
    "parameters": {"n_estimators": 5},
    "search": {"max_depth": {"low": 1, "high": 3}},
}


@pytest.mark.parametrize("changes", [{}, {"training.threshold": {"by": "f_beta"}}])
def test_a_fit_sees_nothing_of_what_it_is_measured_on(
    toy: ToyProblem, train: pa.Table, fitted: list[tuple[list[str], list[str]]], changes: dict[str, Any]
) -> None:
    problem = toy(**{"training.candidates.forest": FOREST, "training.search.trials": 1, **changes})
    search(problem, "forest", train, Kept())
    holds_back = bool(changes)  # the threshold is chosen on rows of its own
    learnt = [DAYS[: measured_day - holds_back] for measured_day in (2, 3, 4)]
    assert fitted == list(zip(learnt, ([day] for day in DAYS[1:4]), strict=True))


@pytest.mark.parametrize(
    ("model", "parameters", "holds_back"),
    [
        ("hist_boosting", {}, True),
        ("hist_boosting", {"early_stopping": False}, False),
        ("xgboost", {"early_stopping_rounds": 2}, True),
        ("xgboost", {}, False),
    ],
)
def test_the_newest_of_the_earlier_partitions_tells_a_fit_when_to_stop(
    toy: ToyProblem,
    fitted: list[tuple[list[str], list[str]]],
    model: str,
    parameters: dict[str, Any],
    holds_back: bool,
) -> None:
    rounds = "max_iter" if model == "hist_boosting" else "n_estimators"
    candidate = {"model": model, "parameters": {rounds: 3, **parameters}, "search": {rounds: {"low": 2, "high": 4}}}
    problem = toy(**{"training.candidates.trees": candidate, "training.search": {"trials": 1, "folds": 1}})
    search(problem, "trees", kettles(4), Kept())
    assert fitted == [(DAYS[: 3 - holds_back], [DAYS[2]])]


def test_what_is_searched_can_switch_the_stopping_on(
    toy: ToyProblem, fitted: list[tuple[list[str], list[str]]]
) -> None:
    candidate = {
        "model": "xgboost",
        "parameters": {"n_estimators": 3},
        "search": {"early_stopping_rounds": {"low": 2, "high": 3}},
    }
    problem = toy(**{"training.candidates.trees": candidate, "training.search": {"trials": 2, "folds": 1}})
    search(problem, "trees", kettles(4), Kept())
    assert [len(learnt) for learnt, _ in fitted] == [3, 2]


def test_calibration_gets_its_partitions_and_folds_that_have_too_few_are_left_out(
    toy: ToyProblem, train: pa.Table, fitted: list[tuple[list[str], list[str]]]
) -> None:
    calibrated = {**FOREST, "calibration": {"method": "platt", "partitions": 2}}
    problem = toy(**{"training.candidates.forest": calibrated, "training.search.trials": 1})
    search(problem, "forest", train, Kept())
    assert [len(learnt) for learnt, _ in fitted] == [3, 4]  # of three folds the first has two partitions
    with pytest.raises(DataError, match="learn from fewer than 3 partitions"):
        search(problem, "forest", kettles(3), Kept())


def test_parameters_that_the_model_refuses_stop_the_search_with_a_cure(toy: ToyProblem, train: pa.Table) -> None:
    broken = {**TOLERANCE, "search": {"tol": {"choices": [-1.0]}}}
    problem, kept = searching(toy, broken), Kept()
    for _ in range(2):  # and once more when it is tried again
        with pytest.raises(ConfigError, match="trial 1 of the search has parameters that cannot be fitted") as error:
            search(problem, "logistic", train, kept)
        assert "training.candidates.logistic.search" in error.value.cure and '"tol": -1.0' in error.value.cure
    assert [(trial.number, trial.state) for trial in kept] == [(0, "finished"), (1, "failed"), (1, "failed")]
    assert "tol" in kept[1].reason


def one_class_on(rows: pa.Table, *days: str) -> pa.Table:
    is_there = pc.is_in(rows["partition"], value_set=pa.array(days))
    label = pc.if_else(is_there, pa.scalar(0, pa.int8()), rows["label"])
    return rows.set_column(rows.schema.get_field_index("label"), "label", label)


def test_folds_of_one_class_are_left_out(toy: ToyProblem, train: pa.Table) -> None:
    problem, kept = searching(toy, training__search__metric="auc", training__search__trials=2), Kept()
    search(problem, "logistic", one_class_on(train, DAYS[3]), kept)
    assert [len(trial.values) for trial in kept] == [2, 2]
    with pytest.raises(DataError, match="none of the 3 folds can be used: 3 have one class only"):
        search(problem, "logistic", one_class_on(train, *DAYS), Kept())


def test_a_trial_without_the_metric_fails_and_the_others_go_on(toy: ToyProblem, train: pa.Table) -> None:
    # Precision needs a positive decision, and a model that stays where it began decides for 0 alone.
    settings = {
        "training__search__metric": "precision",
        "training__threshold__value": 0.6,
        "training__search__trials": 4,
    }
    kept = Kept()
    problem = searching(toy, {**TOLERANCE, "parameters": {"tol": 5.0}}, **settings)
    found = search(problem, "logistic", train, kept)
    assert kept[0].state == "failed" and kept[0].reason == "precision is not defined on fold 1"
    assert found.parameters != kept[0].parameters and found.trials == 4
    assert search(problem, "logistic", train, Kept(kept[:2])) == found
    with pytest.raises(DataError, match="none of 1 trials has a precision: precision is not defined on fold 1"):
        search(
            searching(toy, {**TOLERANCE, "parameters": {"tol": 5.0}}, **{**settings, "training__search__trials": 1}),
            "logistic",
            train,
            Kept(),
        )


def test_parameters_that_come_up_again_are_not_fitted_again(
    toy: ToyProblem, train: pa.Table, fitted: list[tuple[list[str], list[str]]]
) -> None:
    two = {**TOLERANCE, "search": {"tol": {"choices": [0.15, 0.01]}}}
    kept = Kept()
    found = search(searching(toy, two), "logistic", train, kept)
    assert found.trials == 9 and len(fitted) == 2 * 3
    assert {len({one.values for one in kept if one.parameters == {"tol": tol}}) for tol in (0.15, 0.01)} == {1}


def test_a_regression_is_searched_too(toy: ToyProblem, train: pa.Table) -> None:
    label = pc.add(pc.multiply(train["litres"], 3.0), 100.0)
    rows = train.set_column(train.schema.get_field_index("label"), "label", label)
    ridge = {
        "model": "linear",
        "search": {"alpha": {"low": 0.001, "high": 1e6, "log": True}},
        "parameters": {"alpha": 1e5},
    }
    problem = toy(
        **{
            "task": "regression",
            "training.candidates.linear": ridge,
            "training.select_by": "bias",
            "training.search.trials": 8,
            "gate": {
                "limits": {"rmse": {"max": 9}},
                "slices": None,
                "gain_over_baselines": {"rmse": 0},
                "gain_over_champion": {"rmse": 0},
            },
        }
    )
    kept = Kept()
    found = search(problem, "linear", rows, kept)
    assert 0 < found.value == min(trial.value for trial in kept if trial.state == "finished") < kept[0].value
    assert all(value >= 0 for trial in kept for value in trial.values), "a bias counts by its size"


RANGES = {
    "depth": Range(low=2, high=9),
    "rounds": Range(low=10, high=1000, log=True),
    "leaf": Range(low=5, high=50, step=5),
    "rate": Range(low=0.01, high=1, log=True),
    "share": Range(low=0.0, high=1.0),
    "quarter": Range(low=0.0, high=1.0, step=0.25),
    "kind": Range(choices=["a", None, True, 1, [1, 2]]),
}


def test_proposals_are_inside_of_their_ranges_and_of_their_types() -> None:
    before: list[Trial] = []
    for number in range(1, 30):
        at = propose(RANGES, before, number, 0, False)
        assert list(at) == list(RANGES)
        assert isinstance(at["depth"], int) and 2 <= at["depth"] <= 9
        assert isinstance(at["rounds"], int) and 10 <= at["rounds"] <= 1000
        assert at["leaf"] % 5 == 0 and 5 <= at["leaf"] <= 50
        assert 0.01 <= at["rate"] <= 1 and 0 <= at["share"] <= 1
        assert at["quarter"] in (0, 0.25, 0.5, 0.75, 1)
        assert any(at["kind"] is choice for choice in RANGES["kind"].choices or [])
        before.append(Trial(number, at, (at["share"],), "finished"))
    assert len({trial.parameters["share"] for trial in before}) == 29, "ends written 0.0 and 1.0 are no whole numbers"
    assert np.mean([trial.value for trial in before[15:]]) < np.mean([trial.value for trial in before[:10]])


def test_each_setting_of_a_range_counts() -> None:
    def drawn(**settings: Any) -> Any:
        return [propose({"it": Range(**settings)}, [], number, 0, False)["it"] for number in range(1, 40)]

    wide = drawn(low=0.01, high=100.0)
    assert min(wide) < 20 and max(wide) > 80
    assert min(drawn(low=60.0, high=100.0)) >= 60
    assert max(drawn(low=0.01, high=40.0)) <= 40
    assert np.median(drawn(low=0.01, high=100.0, log=True)) < 10 < np.median(wide), "each power of ten alike"
    assert set(drawn(low=0, high=100, step=50)) == {0, 50, 100}
    assert set(drawn(choices=["gini", None])) == {"gini", None}


@pytest.mark.parametrize("value", [99, 2.5, "two", True, None])
def test_a_value_outside_of_its_range_does_not_disturb_the_proposals(value: Any) -> None:
    before = [Trial(0, {"depth": value, "share": 0.5}, (0.1,), "finished"), Trial(1, {}, (0.1,), "finished")]
    assert 2 <= propose(RANGES, before, 2, 0, True)["depth"] <= 9


def test_the_median_is_of_the_same_folds_and_of_five_trials_at_least() -> None:
    # The first fold is the easier one: by its best fold so far no trial would ever look bad after the second.
    others = [Trial(number, {}, (0.1, 0.5, 0.1), "finished") for number in range(5)]
    assert is_hopeless([0.1, 0.6], others, False) and not is_hopeless([0.1, 0.4], others, False)
    assert is_hopeless([0.1, 0.4], others, True) and not is_hopeless([0.1, 0.6], others, True)
    assert not is_hopeless([9.0], others[:4], False)
    unfinished = [replace(trial, state="pruned") for trial in others]
    assert not is_hopeless([9.0], unfinished, False)


def test_messages_name_the_candidate(toy: ToyProblem) -> None:
    with pytest.raises(DataError, match=re.escape("2 in a row are needed")):
        search(searching(toy), "logistic", kettles(1), Kept())
