"""A champion that goes on with new rows: what it keeps, what it learns, and what cannot be done so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import skops.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.dataset.fingerprint import fingerprint
from pipelines.errors import ConfigError, DataError
from pipelines.problem import Problem
from pipelines.training.fit import fit
from pipelines.training.model import TRUSTED_TYPES, Model
from pipelines.training.update import continued, recalibrated, why_not_continued
from tests.training.kettles import kettles

ToyProblem = Callable[..., Problem]
OLD, NEW, NEWEST = kettles(6), kettles(3, seed=1, first=6), kettles(2, seed=2, first=9)
TREES = {"n_estimators": 10, "max_depth": 2, "learning_rate": 0.2}


def with_labels(rows: pa.Table, label: np.ndarray) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index("label"), "label", pa.array(label))


def flipped(rows: pa.Table) -> pa.Table:
    """The same kettles in a world in which the empty ones boil over."""
    return with_labels(rows, 1 - rows["label"].to_numpy())


def with_trees(toy: ToyProblem, more: dict[str, Any] | None = None, **changes: Any) -> Problem:
    fast = {"rounds": 50, "learning_rate": None}
    settings = {"training.candidates.xgboost.parameters": TREES | (more or {}), "training.threads": 1}
    return toy(**settings | {"training.update": fast} | changes)


def champion_of(problem: Problem, name: str = "xgboost") -> Model:
    return fit(problem, name, OLD, NEW)


def loss(model: Model, rows: pa.Table) -> float:
    y, scores = rows["label"].to_numpy(), model.scores(rows)
    return float(-np.mean(np.log(np.where(y == 1, scores, 1 - scores))))


def raw(model: Model) -> bytes:
    return bytes(model.estimator.booster_.save_raw("ubj"))


# Continue -----------------------------------------------------------------------------------------------


def test_it_keeps_its_trees_and_learns_what_is_new(toy: ToyProblem) -> None:
    problem = with_trees(toy)
    champion = champion_of(problem)
    before = raw(champion)
    model = continued(problem, "xgboost", champion, flipped(NEW), flipped(NEWEST))
    assert champion.estimator.rounds_ == 10 and raw(champion) == before, "the champion itself is not touched"
    assert model.estimator.rounds_ == model.estimator.booster_.num_boosted_rounds() == 60
    kept = model.estimator.booster_[:10].get_dump()
    assert kept == champion.estimator.booster_.get_dump(), "its trees are the first ones"
    assert loss(model, flipped(NEWEST)) < 0.7 * loss(champion, flipped(NEWEST))
    assert model.fitted_rows == NEW.num_rows
    assert model.learnt_from == fingerprint(problem, flipped(NEW)), "of this update, and of no row before"


def test_it_is_the_same_bit_for_bit_and_its_file_too(toy: ToyProblem) -> None:
    problem = with_trees(toy, {"subsample": 0.6, "colsample_bytree": 0.6})
    champion = champion_of(problem)
    loaded = skops.io.loads(skops.io.dumps(champion), trusted=TRUSTED_TYPES)
    one, two = (continued(problem, "xgboost", each, NEW, NEWEST) for each in (champion, loaded))
    assert raw(one) == raw(two)
    again = skops.io.loads(skops.io.dumps(one), trusted=TRUSTED_TYPES)
    assert np.array_equal(again.scores(NEWEST), one.scores(NEWEST))
    twice = continued(problem, "xgboost", one, NEWEST, NEWEST)
    assert twice.estimator.rounds_ == 110, "and a continued one is continued again"


def test_the_champion_as_it_is_counts_as_the_first_round(toy: ToyProblem) -> None:
    problem = with_trees(toy, {"early_stopping_rounds": 3, "n_estimators": 60})
    champion = champion_of(problem)
    harmed = continued(problem, "xgboost", champion, flipped(NEW), NEWEST)
    assert raw(harmed) == raw(champion), "what makes it worse on newer rows is not learnt"
    helped = continued(problem, "xgboost", champion, flipped(NEW), flipped(NEWEST))
    assert helped.estimator.rounds_ > champion.estimator.rounds_
    assert len(helped.estimator.history_) == helped.estimator.rounds_ - champion.estimator.rounds_ + 1 or (
        helped.estimator.history_[-1] > min(helped.estimator.history_)
    )
    assert loss(helped, flipped(NEWEST)) < loss(champion, flipped(NEWEST))


@pytest.mark.parametrize(
    ("change", "rounds"),
    [({}, 30), ({"rounds": 7}, 17), ({"rounds": 50, "max_rounds": 25}, 25), ({"max_rounds": 12, "rounds": 1}, 11)],
)
def test_rounds_are_bounded_each_time_and_in_all(toy: ToyProblem, change: dict[str, Any], rounds: int) -> None:
    problem = with_trees(toy, **{"training.update": change})
    assert continued(problem, "xgboost", champion_of(problem), NEW, NEWEST).estimator.rounds_ == rounds


def test_the_learning_rate_is_the_champions_unless_it_is_set(toy: ToyProblem) -> None:
    same, slow = (with_trees(toy, **{"training.update": {"learning_rate": rate}}) for rate in (None, 0.01))
    champion = champion_of(same)
    moved = [
        np.abs(
            continued(problem, "xgboost", champion, flipped(NEW), NEWEST).scores(NEWEST) - champion.scores(NEWEST)
        ).mean()
        for problem in (same, slow)
    ]
    assert 0 < moved[1] < 0.5 * moved[0]


def test_parameters_that_were_searched_stay(toy: ToyProblem) -> None:
    problem = with_trees(toy)
    champion = fit(problem, "xgboost", OLD, NEW, parameters={"max_depth": 1})
    added = continued(problem, "xgboost", champion, NEW, NEWEST).estimator
    assert added.parameters["max_depth"] == 1
    assert "yes" in added.booster_[10:].get_dump()[0] and added.booster_[10:].get_dump()[0].count("yes") == 1


def test_a_category_that_is_new_is_to_the_new_trees_what_it_is_to_the_old(toy: ToyProblem) -> None:
    problem = with_trees(toy, **{"columns.shelf.allowed": None})
    cellar = NEW.set_column(NEW.schema.get_field_index("shelf"), "shelf", pa.array(["cellar"] * NEW.num_rows))
    model = continued(problem, "xgboost", champion_of(problem), cellar, NEWEST)
    assert model.unseen(cellar) == {"shelf": NEW.num_rows}
    nothing = cellar.set_column(cellar.schema.get_field_index("shelf"), "shelf", pa.nulls(NEW.num_rows, pa.string()))
    assert np.array_equal(model.scores(cellar), model.scores(nothing))


def test_several_classes_and_numbers_are_continued_too(toy: ToyProblem) -> None:
    gate = {
        "limits": {"log_loss": {"max": 9}},
        "gain_over_baselines": {"log_loss": 0},
        "slices": None,
        "gain_over_champion": {"log_loss": 0},
    }
    counts = {n: {"by": ["shelf"], "function": "count", "window_days": 3} for n in ("shelf_rate_3d", "shelf_count_2d")}
    several = with_trees(
        toy, **{"task": "multiclass", "labels.classes": ["a", "b", "c"], "gate": gate, "features.history": counts}
    )
    values = {n: gate[n] if n == "slices" else {"rmse": {"max": 9.0} if n == "limits" else 0} for n in gate}
    number = with_trees(
        toy, **{"task": "regression", "gate": values, "training.select_by": "rmse", "features.history": counts}
    )
    for problem, label in ((several, lambda t: np.digitize(t, [1.5, 2.5])), (number, lambda t: 3.0 * t)):
        old, new, newest = (with_labels(rows, label(rows["litres"].to_numpy())) for rows in (OLD, NEW, NEWEST))
        champion = fit(problem, "xgboost", old, new)
        model = continued(problem, "xgboost", champion, new, newest)
        truth = newest["label"].to_numpy()
        errors = [
            (
                np.abs(each.scores(newest) - truth).mean()
                if problem is number
                else -np.log(each.scores(newest)[np.arange(len(truth)), truth]).mean()
            )
            for each in (champion, model)
        ]
        assert errors[1] < errors[0]


def test_focal_loss_goes_on_with_its_own_objective(toy: ToyProblem) -> None:
    problem = with_trees(toy, **{"training.imbalance": {"method": "focal"}})
    champion = champion_of(problem)
    model = continued(problem, "xgboost", champion, NEW, NEWEST)
    assert model.estimator.focal == {"gamma": 2.0, "alpha": None}
    assert loss(model, NEW) < loss(champion, NEW)


def test_calibration_is_learnt_anew_on_the_newest_of_the_rows(toy: ToyProblem) -> None:
    problem = with_trees(toy, **{"training.calibration": {"method": "platt", "partitions": 1}})
    champion = champion_of(problem)
    model = continued(problem, "xgboost", champion, NEW, NEWEST)
    assert model.fitted_rows == NEW.num_rows * 2 // 3, "one of three days calibrates"
    assert model.calibration.maps[0].intercept_ != champion.calibration.maps[0].intercept_
    plain = with_trees(toy)
    shifted = recalibrated(plain, champion_of(plain), NEW)
    assert continued(plain, "xgboost", shifted, NEW, NEWEST).calibration is None, "the new trees learn what it mended"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training.update.max_rounds": 10}, "it has 10 rounds, and training.update.max_rounds is 10"),
        ({"features.columns": ["litres"]}, "trained with other features"),
        ({"training.candidates.xgboost": {"model": "logistic"}}, "xgboost is a logistic"),
        (
            {"training.candidates": {"prior": {"model": "prior"}, "trees": {"model": "xgboost"}}},
            "no candidate any more",
        ),
    ],
)
def test_what_cannot_be_continued_says_why(toy: ToyProblem, changes: dict[str, Any], reason: str) -> None:
    champion = champion_of(with_trees(toy))
    today = toy(**{"training.candidates.xgboost.parameters": TREES} | changes)
    assert reason in (why_not_continued(today, "xgboost", champion) or "")
    with pytest.raises(ConfigError, match=f"cannot be continued: .*{reason}") as caught:
        continued(today, "xgboost", champion, NEW, NEWEST)
    assert "from scratch" in caught.value.cure


def test_other_models_are_trained_from_scratch(toy: ToyProblem) -> None:
    problem = toy(**{"training.candidates.logistic": {"model": "logistic"}})
    champion = champion_of(problem, "logistic")
    assert why_not_continued(problem, "logistic", champion) == (
        "only xgboost adds to what it has learnt, and logistic is a logistic"
    )


def test_rows_that_teach_nothing_are_refused(toy: ToyProblem) -> None:
    problem = with_trees(toy)
    champion = champion_of(problem)
    one_class = NEW.filter(pc.equal(NEW["label"], 1))
    with pytest.raises(DataError, match="the same label"):
        continued(problem, "xgboost", champion, one_class, NEWEST)
    with pytest.raises(DataError, match="none of 0 rows has a weight"):
        continued(problem, "xgboost", champion, NEW.slice(0, 0), NEWEST)


# Recalibrate --------------------------------------------------------------------------------------------


def test_scores_mean_again_what_they_say_and_rank_as_before(toy: ToyProblem) -> None:
    problem = with_trees(toy)
    champion = champion_of(problem)
    rng = np.random.default_rng(0)
    rarer = NEW.filter(pa.array((NEW["label"].to_numpy() == 0) | (rng.random(NEW.num_rows) < 0.3)))
    model = recalibrated(problem, champion, rarer)
    off = [abs(each.scores(rarer).mean() - rarer["label"].to_numpy().mean()) for each in (champion, model)]
    assert off[1] < 0.02 < off[0]
    one, two = champion.scores(NEWEST), model.scores(NEWEST)
    assert (np.diff(two[np.argsort(one, kind="stable")]) >= 0).all(), "the ranking stays"
    assert champion.calibration is None and model.estimator is champion.estimator
    assert (model.fitted_rows, model.learnt_from) == (rarer.num_rows, fingerprint(problem, rarer))


@pytest.mark.parametrize(
    ("own", "declared", "wanted"),
    [("none", "none", "Platt"), ("isotonic", "platt", "Isotonic"), ("none", "isotonic", "Isotonic")],
)
def test_the_method_is_the_champions_then_the_problems_then_platts(
    toy: ToyProblem, own: str, declared: str, wanted: str
) -> None:
    champion = champion_of(with_trees(toy, **{"training.calibration.method": own}))
    model = recalibrated(with_trees(toy, **{"training.calibration.method": declared}), champion, NEW)
    assert type(model.calibration.maps[0]).__name__ == wanted


def test_the_threshold_is_chosen_again_as_the_problem_says(toy: ToyProblem) -> None:
    fixed = with_trees(toy, **{"training.threshold.value": 0.4})
    by_cost = with_trees(toy, **{"training.threshold.by": "cost", "costs.matrix": {"0": {"1": 1}, "1": {"0": 9}}})
    champion = champion_of(fixed)
    assert recalibrated(fixed, champion, NEW).threshold == 0.4
    assert recalibrated(by_cost, champion, NEW).threshold < 0.25
    assert continued(by_cost, "xgboost", champion, NEW, NEWEST).threshold < 0.3


def test_any_classifier_can_be_recalibrated_and_no_regression(toy: ToyProblem) -> None:
    problem = toy(
        **{
            "training.candidates.logistic": {"model": "logistic"},
            "training.candidates.both": {"model": "voting", "of": ["xgboost", "logistic"]},
        }
    )
    for name in ("logistic", "both", "prior"):
        model = recalibrated(problem, champion_of(problem, name), NEW)
        assert abs(model.scores(NEW).mean() - NEW["label"].to_numpy().mean()) < 0.02
    champion = champion_of(problem)
    champion.task = "regression"
    with pytest.raises(ConfigError, match="no probabilities to calibrate"):
        recalibrated(problem, champion, NEW)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 40), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_few_rows_give_probabilities_or_a_plain_error(toy: ToyProblem, rows: int, share: float, seed: int) -> None:
    problem = with_trees(toy)
    drawn = kettles(1, rows_a_day=rows, seed=seed, first=6)
    label = (np.random.default_rng(seed).random(rows) < share).astype(np.int8)
    given_rows = with_labels(drawn, label)
    champion = champion_of(problem)
    for update in (
        lambda: recalibrated(problem, champion, given_rows),
        lambda: continued(problem, "xgboost", champion, given_rows, NEWEST),
    ):
        if len(np.unique(label)) < 2:
            with pytest.raises(DataError):
                update()
        else:
            scores = update().scores(NEWEST)
            assert ((scores >= 0) & (scores <= 1)).all()
