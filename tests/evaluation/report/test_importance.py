"""Importances of models whose Shapley values are known, or add up to what is known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.evaluation.report import importance
from pipelines.evaluation.report.importance import importances, sampled_values
from pipelines.problem import Problem
from pipelines.training.fit import fit
from pipelines.training.model import Model
from tests.conftest import ToyProblem

CANDIDATES: dict[str, Any] = {
    "prior": {"model": "prior"},
    "random": {"model": "random"},
    "rule": {"model": "heuristic", "sql": "0.1 + 0.1 * litres + 0.4 * shelf_rate_3d"},
    "split": {"model": "heuristic", "sql": "CASE WHEN shelf = 'top' AND litres > 2 THEN 0.9 ELSE 0.1 END"},
    "logistic": {"model": "logistic"},
    "xgboost": {"model": "xgboost", "parameters": {"n_estimators": 15, "max_depth": 3}},
    "stump": {"model": "xgboost", "parameters": {"n_estimators": 1, "max_depth": 1, "min_child_weight": 1e9}},
    "forest": {"model": "forest", "parameters": {"n_estimators": 10, "max_depth": 4}},
    "voting": {"model": "voting", "of": ["logistic", "xgboost"]},
}
MULTICLASS: dict[str, Any] = {
    "task": "multiclass",
    "labels.classes": ["a", "b", "c"],
    "features.history": {},
    "gate.limits": {"log_loss": {"max": 9}},
    "gate.gain_over_baselines": {"log_loss": 0},
}
REGRESSION: dict[str, Any] = {
    "task": "regression",
    "training.select_by": "rmse",
    "gate": {
        "limits": {"rmse": {"max": 9}},
        "gain_over_baselines": {"rmse": 0},
        "gain_over_champion": {"rmse": 0},
        "slices": {"metric": "rmse"},
    },
}


def kettles(count: int = 1200) -> pa.Table:
    """Litres decide, the shelf helps a little, the rest is noise."""
    random = np.random.default_rng(0)
    litres, is_top = random.random(count) * 4, random.random(count) < 0.5
    return pa.table(
        {
            "shelf": np.where(is_top, "top", "bottom"),
            "litres": litres,
            "shelf_rate_3d": random.random(count),
            "shelf_count_2d": random.integers(0, 9, count),
            "label": (random.random(count) < 1 / (1 + np.exp(-2 * (litres - 2) - is_top))).astype(np.int64),
            "weight": np.ones(count),
            "partition": np.where(np.arange(count) < count // 2, "2024-01-01", "2024-01-02"),
        }
    )


def fitted(
    toy: ToyProblem, name: str, candidates: dict[str, Any] = CANDIDATES, **changes: Any
) -> tuple[Problem, Model]:
    problem = toy(**{"training.candidates": candidates, "training.threads": 1, **changes})
    rows = kettles()
    if problem.task != "binary":
        values = rows["litres"].to_numpy()
        values = values if problem.task == "regression" else np.minimum(values, 2.9).astype(np.int64)
        rows = rows.set_column(rows.schema.get_field_index("label"), "label", pa.array(values))
    return problem, fit(problem, name, rows, rows)


@pytest.mark.parametrize(
    ("name", "method"),
    [("xgboost", "xgboost"), ("logistic", "linear"), ("forest", "sampling"), ("voting", "sampling")],
)
def test_what_decides_comes_first(toy: ToyProblem, name: str, method: str) -> None:
    problem, model = fitted(toy, name)
    found = importances(problem, model, kettles())
    assert [one["feature"] for one in found][:2] == ["litres", "shelf"]
    assert found[0]["feature"] == "litres"
    assert found[0]["share"] > 0.6
    assert {one["feature"] for one in found} == set(problem.feature_names)
    assert sum(one["share"] for one in found) == pytest.approx(1)
    assert {one["method"] for one in found} == {method}
    sizes = [one["importance"] for one in found]
    assert sizes == sorted(sizes, reverse=True)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert importances(problem, model, kettles()) == found


@pytest.mark.parametrize("name", ["prior", "random"])
def test_models_that_look_at_nothing_have_none(toy: ToyProblem, name: str) -> None:
    assert importances(*fitted(toy, name), kettles()) == []


def test_a_model_that_splits_nowhere_has_shares_of_0(toy: ToyProblem) -> None:
    problem, model = fitted(toy, "stump")
    assert [(one["importance"], one["share"]) for one in importances(problem, model, kettles())] == [(0, 0)] * 4


def test_linear_values_are_coefficients_times_distance(toy: ToyProblem) -> None:
    problem, model = fitted(toy, "logistic")
    rows = kettles(500)
    found = {one["feature"]: one["importance"] for one in importances(problem, model, rows)}
    matrix = model.matrix(rows).astype(np.float64)
    each = (matrix - matrix.mean(axis=0)) * model.estimator.coef_[0]
    for feature in problem.feature_names:
        its = [column for column, origin in enumerate(model.prepared_origin) if origin == feature]
        # The columns of a feature are taken together: top and bottom say the same thing twice.
        assert found[feature] == pytest.approx(np.abs(each[:, its].sum(axis=1)).mean())
    assert len(model.prepared_origin) > len(problem.feature_names)


def test_sampled_values_of_an_additive_model_are_exact_but_for_the_rows_turned_from(toy: ToyProblem) -> None:
    problem, model = fitted(toy, "rule")
    found = {one["feature"]: one for one in importances(problem, model, kettles())}
    assert found["shelf"]["importance"] == found["shelf_count_2d"]["importance"] == 0
    litres, rate = (
        np.abs(values - values.mean()).mean()
        for values in (0.1 * kettles()["litres"].to_numpy(), 0.4 * kettles()["shelf_rate_3d"].to_numpy())
    )
    assert found["litres"]["importance"] == pytest.approx(litres, rel=0.15)
    assert found["shelf_rate_3d"]["importance"] == pytest.approx(rate, rel=0.15)


def test_sampled_values_are_shapleys(toy: ToyProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two features that only count together; by enumeration over all rows turned from."""
    monkeypatch.setattr("pipelines.evaluation.report.importance.PERMUTATIONS", 120)
    _, model = fitted(toy, "split")
    rows = kettles(150)
    is_top, is_full = np.array(rows["shelf"]) == "top", rows["litres"].to_numpy() > 2
    values = sampled_values(model, rows.select(model.features), seed=0)
    top, full = is_top.mean(), is_full.mean()
    both, none = 0.1 + 0.8 * (is_top & is_full), 0.1 + 0.8 * (is_top & is_full).mean()
    given_shelf, given_litres = 0.1 + 0.8 * is_top * full, 0.1 + 0.8 * is_full * top
    shelf = (given_shelf - none + both - given_litres) / 2
    litres = (given_litres - none + both - given_shelf) / 2
    assert np.abs(values[:, 0] - shelf).mean() < 0.05
    assert np.abs(values[:, 1] - litres).mean() < 0.05
    assert np.abs(values[:, 2:]).max() == 0
    assert np.abs(values.sum(axis=1) - (both - none)).mean() < 0.08


def test_sampling_agrees_with_xgboosts_own_values(toy: ToyProblem) -> None:
    problem, model = fitted(
        toy, "xgboost", **REGRESSION, candidates={"prior": {"model": "prior"}, "xgboost": CANDIDATES["xgboost"]}
    )
    own = {one["feature"]: one["share"] for one in importances(problem, model, kettles())}
    sampled = np.abs(sampled_values(model, kettles().select(model.features), seed=0)).mean(axis=0)
    for share, feature in zip(sampled / sampled.sum(), model.features, strict=True):
        assert share == pytest.approx(own[feature], abs=0.05)


@pytest.mark.parametrize("kind", ["xgboost", "logistic", "forest"])
def test_several_classes_add_up(toy: ToyProblem, kind: str) -> None:
    candidates = {"prior": {"model": "prior"}, kind: CANDIDATES[kind]}
    found = importances(*fitted(toy, kind, candidates, **MULTICLASS), kettles())
    assert found[0]["feature"] == "litres"
    assert found[0]["share"] > 0.7
    assert sum(one["share"] for one in found) == pytest.approx(1)


def test_a_regression_by_ridge(toy: ToyProblem) -> None:
    candidates = {"prior": {"model": "prior"}, "linear": {"model": "linear"}}
    found = importances(*fitted(toy, "linear", candidates, **REGRESSION), kettles())
    assert (found[0]["feature"], found[0]["method"]) == ("litres", "linear")
    assert found[0]["importance"] == pytest.approx(1, abs=0.05)  # mean distance of a uniform number in 0..4 from 2


def test_so_many_rows_are_looked_at_as_the_config_says(toy: ToyProblem) -> None:
    problem, model = fitted(toy, "logistic")
    few, model = fitted(toy, "logistic", **{"evaluation.importance_rows": 50})
    assert (
        importances(few, model, kettles())[0]["importance"] != importances(problem, model, kettles())[0]["importance"]
    )


@pytest.mark.parametrize("name", ["xgboost", "logistic", "rule"])
@pytest.mark.parametrize("count", [0, 1])
def test_a_row_or_none(toy: ToyProblem, name: str, count: int) -> None:
    problem, model = fitted(toy, name)
    found = importances(problem, model, kettles().slice(0, count))
    assert len(found) == (4 if count else 0)
    assert all(np.isfinite(one["share"]) for one in found)


def test_of_a_large_boosted_model_fewer_rows_are_explained(toy: ToyProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a row costs grows with the leaves of all trees; the shares hardly change."""
    problem, model = fitted(toy, "xgboost")
    leaves, rows = model.estimator.leaves, kettles()
    assert leaves > 1
    before = {row["feature"]: row["share"] for row in importances(problem, model, rows)}
    monkeypatch.setattr(importance, "EXPLAINED_LEAVES", 400 * leaves)
    _, places, values = importance.shapley_values(model, rows, 0)
    assert len(places) == len(values) == 400
    _, everywhere, all_values = importance.shapley_values(model, rows.slice(0, 400), 0)
    assert everywhere.tolist() == list(range(400)) and len(all_values) == 400, "as many as may be: none is left out"
    after = {row["feature"]: row["share"] for row in importances(problem, model, rows)}
    assert after == pytest.approx(before, abs=0.05)
    monkeypatch.setattr(importance, "EXPLAINED_LEAVES", 1)
    assert len(importance.shapley_values(model, rows, 0)[1]) == 200, "never fewer"
