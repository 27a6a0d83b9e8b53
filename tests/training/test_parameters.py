from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.errors import ConfigError
from pipelines.problem import Problem, load_problem
from pipelines.problem_folders import problem_names
from pipelines.training.parameters import parameter_faults
from tests.conftest import ROOT, ToyProblem

CLASSES = ["calm", "bubbling", "over"]
KINDS = ["logistic", "linear", "forest", "xgboost", "hist_boosting"]


def declared(toy: ToyProblem, task: str, **candidates: dict[str, Any]) -> Problem:
    metric = "rmse" if task == "regression" else "log_loss"
    gate = {name: {metric: {"max": 9.0} if name == "limits" else 0.0} for name in ("limits", "gain_over_baselines")}
    counts = {"shelf_count_2d": {"by": ["shelf"], "function": "count", "window_days": 2}}
    return toy(
        **{
            "task": task,
            "gate": {**gate, "gain_over_champion": {metric: 0.0}, "slices": None},
            "training.select_by": metric,
            "training.candidates": {"prior": {"model": "prior"}, "other": {"model": "forest"}, **candidates},
            **({"labels.classes": CLASSES, "features.history": counts} if task == "multiclass" else {}),
        }
    )


def faults(toy: ToyProblem, spec: dict[str, Any], task: str = "binary", **others: dict[str, Any]) -> list[ConfigError]:
    return parameter_faults(declared(toy, task, it=spec, **others))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_the_library_does_not_know_is_told_with_its_place(toy: ToyProblem, kind: str, task: str) -> None:
    if kind == ("logistic" if task == "regression" else "linear"):
        return
    right = {"logistic": "max_iter", "linear": "alpha", "hist_boosting": "max_iter"}.get(kind, "n_estimators")
    wrong = f"{right[:-1]}z"
    (fault,) = faults(toy, {"model": kind, "parameters": {right: 5, wrong: 5}}, task)
    assert fault.what == f"{kind}: unknown parameter '{wrong}'; did you mean '{right}'?"
    assert fault.where.endswith(f"problem.yaml, training.candidates.it.parameters.{wrong}")
    assert fault.cure.startswith(f"correct the name, or take it out; {kind} takes ") and right in fault.cure
    (fault,) = faults(toy, {"model": kind, "search": {wrong: {"low": 1, "high": 5}}}, task)
    assert fault.where.endswith(f"training.candidates.it.search.{wrong}")


@pytest.mark.parametrize(
    ("spec", "where", "told"),
    [
        ({"model": "logistic", "parameters": {"C": -1}}, "parameters.C", "'C' parameter of LogisticRegression must be"),
        (
            {"model": "logistic", "parameters": {"solver": "lbfgs", "l1_ratio": 0.5}},
            "parameters.l1_ratio",
            "Solver lbfgs supports only",
        ),
        ({"model": "forest", "parameters": {"n_estimators": 0}}, "parameters.n_estimators", "must be an int"),
        ({"model": "hist_boosting", "parameters": {"max_bins": "many"}}, "parameters.max_bins", "must be an int"),
        ({"model": "xgboost", "parameters": {"max_depth": 2.5}}, "parameters.max_depth", "for max_depth expect int"),
        ({"model": "xgboost", "parameters": {"subsample": 2}}, "parameters.subsample", "exceed bound [0,1]"),
        ({"model": "xgboost", "parameters": {"eval_metric": "acu"}}, "parameters.eval_metric", "Unknown metric"),
        ({"model": "xgboost", "parameters": {"n_jobs": 4}}, "parameters.n_jobs", "set by training.threads"),
        (
            {"model": "xgboost", "parameters": {"monotone_constraints": {"litre": 1}}},
            "parameters.monotone_constraints",
            "'litre' is no column of the model's matrix; did you mean 'litres'?",
        ),
        ({"model": "xgboost", "search": {"max_depth": {"low": 2.0, "high": 6}}}, "search.max_depth", "expect int"),
        ({"model": "xgboost", "search": {"gamma": {"choices": [0, -1]}}}, "search.gamma", "greater equal to 0"),
        (
            {
                "model": "logistic",
                "parameters": {"l1_ratio": 1, "solver": "saga"},
                "search": {"solver": {"choices": ["saga", "lbfgs"]}},
            },
            "search.solver",
            "Solver lbfgs supports only",
        ),
        ({"model": "stacking", "of": ["other"], "parameters": {"depth": 1}}, "parameters.depth", "logistic: unknown"),
        (
            {"model": "stacking", "of": ["other"], "parameters": {"other": {"max_dept": 1}}},
            "parameters.other.max_dept",
            "forest: unknown parameter 'max_dept'; did you mean 'max_depth'?",
        ),
    ],
)
def test_a_value_that_the_library_would_refuse_is_told(
    toy: ToyProblem, spec: dict[str, Any], where: str, told: str
) -> None:
    (fault,) = faults(toy, spec)
    assert told in fault.what
    assert fault.where.endswith(f"training.candidates.it.{where}")
    assert fault.cure


@pytest.mark.parametrize(
    ("task", "spec"),
    [
        ("binary", {"model": "forest", "parameters": {"max_samples": 500, "max_features": 40, "n_jobs": 1}}),
        ("binary", {"model": "hist_boosting", "parameters": {"max_iter": 2_000, "monotonic_cst": {"litres": 1}}}),
        ("binary", {"model": "xgboost", "parameters": {"monotone_constraints": [1, 0, 0, 0, 0, 0, 0]}}),
        ("binary", {"model": "xgboost", "parameters": {"interaction_constraints": [["litres", "shelf"], [9, 11]]}}),
        (
            "binary",
            {
                "model": "xgboost",
                "parameters": {"monotone_constraints": {"shelf=top": 1, "litres is missing": -1}, "gamma": None},
                "preprocessing": {"encoding": "one_hot", "missing": {"method": "mean", "indicator": True}},
            },
        ),
        ("multiclass", {"model": "logistic", "parameters": {"class_weight": {0: 1, 1: 2, 2: 9}, "max_iter": 10**9}}),
        (
            "regression",
            {
                "model": "xgboost",
                "search": {
                    "objective": {"choices": ["reg:quantileerror"]},
                    "quantile_alpha": {"low": 0.1, "high": 0.9},
                    "n_estimators": {"low": 10, "high": 1000, "log": True},
                },
            },
        ),
    ],
)
def test_what_only_the_rows_decide_about_is_left_to_the_training(
    toy: ToyProblem, task: str, spec: dict[str, Any]
) -> None:
    assert not faults(toy, spec, task)


def test_each_candidate_says_all_names_that_are_wrong(toy: ToyProblem) -> None:
    spec = {"model": "xgboost", "parameters": {"eta": 0.1, "max_dept": 3}, "search": {"sub_sample": {"choices": [1]}}}
    found = faults(toy, spec, another={"model": "xgboost", "parameters": {"eta": 0.1}})
    assert [fault.where.split("training.candidates.")[1] for fault in found] == [
        "it.parameters.eta",
        "it.parameters.max_dept",
        "it.search.sub_sample",
        "another.parameters.eta",
    ]


@pytest.mark.parametrize("name", problem_names())
def test_the_shipped_problems_have_parameters_that_are_taken(name: str) -> None:
    assert not parameter_faults(load_problem(name))


def test_check_refuses_a_problem_for_its_parameters(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = yaml.safe_load((ROOT / "include/problems/strike_reports/problem.yaml").read_text())
    raw["training"]["candidates"]["xgboost"]["parameters"] = {"max_dept": 4}
    raw["training"]["candidates"]["forest"] = {"model": "xgboost", "parameters": {"num_parallel_tree": 5}}
    raw["training"]["engine"] = {"kind": "auto"}
    folder = tmp_path / "strikes"
    shutil.copytree(ROOT / "include/problems/strike_reports", folder)
    (folder / "problem.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    done = CliRunner().invoke(app, ["check", "strikes", "--json"])
    assert done.exit_code == 1
    (checked,) = json.loads(done.stdout)["problems"]
    assert checked["state"] == "wrong"
    (remark,) = checked["remarks"]  # no row is read for what is wrong
    assert remark["level"] == "odd" and "forest.parameters.num_parallel_tree fails above" in remark["text"]
    (fault,) = checked["faults"]
    assert fault["what"] == "xgboost: unknown parameter 'max_dept'; did you mean 'max_depth'?"
    assert fault["where"] == f"{folder / 'problem.yaml'}, training.candidates.xgboost.parameters.max_dept"
