"""Tests of models by changed input, on models whose answer to a change is known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import Behaviour
from pipelines.errors import ConfigError
from pipelines.evaluation.report.behaviour import behaviours, changed
from pipelines.problem import Problem
from pipelines.training.fit import fit
from pipelines.training.model import Model
from tests.conftest import ToyProblem

RULE = "CASE WHEN shelf = 'top' THEN 0.3 ELSE 0.1 END + 0.1 * least(coalesce(litres, 0), 5)"
CALM = {"kind": "perturbation", "columns": ["litres"], "noise": 0.1, "max_change": 0.05}


def kettles(count: int = 400) -> pa.Table:
    random = np.random.default_rng(0)
    return pa.table(
        {
            "shelf": random.choice(["top", "bottom"], count),
            "litres": pa.array(random.random(count) * 4, mask=random.random(count) < 0.1),
            "shelf_rate_3d": random.random(count),
            "shelf_count_2d": random.integers(0, 9, count),
            "label": random.integers(0, 2, count),
            "weight": np.ones(count),
            "partition": np.where(np.arange(count) < count // 2, "2024-01-01", "2024-01-02"),
        }
    )


def ruled(toy: ToyProblem, behaviour: dict[str, Any] | None, **changes: Any) -> tuple[Problem, Model]:
    """A problem with one behaviour, and a model that scores by RULE."""
    changes |= {
        "training.candidates.rule": {"model": "heuristic", "sql": changes.pop("sql", RULE)},
        "training.baselines": ["prior", "rule"],
        "evaluation.behaviours": {"it": behaviour} if behaviour else {},
    }
    problem = toy(**changes)
    rows = kettles()
    if problem.task == "regression":
        rows = rows.set_column(rows.schema.get_field_index("label"), "label", pa.array(np.arange(400) / 100))
    return problem, fit(problem, "rule", rows, rows)


def outcome(toy: ToyProblem, behaviour: dict[str, Any], rows: pa.Table | None = None, **changes: Any) -> dict[str, Any]:
    problem, model = ruled(toy, behaviour, **changes)
    rows = kettles() if rows is None else rows
    labels = np.arange(rows.num_rows) / 100 if problem.task == "regression" else rows["label"].to_numpy()
    (found,) = behaviours(problem, model, rows, labels)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


@pytest.mark.parametrize(
    ("behaviour", "value", "passed"),
    [
        # A tenth for each litre; one in ten has none.
        ({"kind": "directional", "columns": ["litres"], "add": 0.5, "expect": "up"}, 1.0, True),
        ({"kind": "directional", "columns": ["litres"], "add": 0.5, "expect": "down"}, "gaps", False),
        ({"kind": "directional", "columns": ["litres"], "add": 1, "expect": "down", "min_share": 0.05}, "gaps", True),
        ({"kind": "directional", "columns": ["litres"], "multiply": 0.5, "expect": "down"}, 1.0, True),
        ({"kind": "directional", "columns": ["shelf"], "set": "top", "expect": "up", "min_share": 1}, 1.0, True),
        ({"kind": "directional", "columns": ["shelf"], "set": "bottom", "expect": "up"}, "bottom", False),
        ({"kind": "invariance", "columns": ["litres"], "add": 0.5, "max_change": 0.06}, "half a tenth", True),
        ({"kind": "invariance", "columns": ["litres"], "add": 0.5, "max_change": 0.04}, "half a tenth", False),
        ({"kind": "invariance", "columns": ["shelf"], "set": "top", "max_change": 0.5}, "a fifth of bottom", True),
        ({"kind": "invariance", "columns": ["shelf_count_2d"], "add": 3, "max_change": 1e-9}, 0.0, True),
        ({"kind": "invariance", "columns": ["shelf_rate_3d"], "shuffle": True, "max_change": 1e-9}, 0.0, True),
    ],
)
def test_values_are_what_the_rule_says(toy: ToyProblem, behaviour: dict[str, Any], value: Any, passed: bool) -> None:
    rows = kettles()
    missing = float(rows["litres"].null_count) / rows.num_rows
    bottom = float((np.array(rows["shelf"]) == "bottom").mean())
    expected = {
        "gaps": missing,
        "bottom": bottom,
        "half a tenth": 0.05 * (1 - missing),
        "a fifth of bottom": 0.2 * bottom,
    }.get(value, value)
    found = outcome(toy, behaviour)
    assert found["value"] == pytest.approx(expected)
    assert (found["name"], found["kind"], found["passed"]) == ("it", behaviour["kind"], passed)
    assert found["wanted"]


def test_noise_is_in_standard_deviations_and_the_seed_gives_it(toy: ToyProblem) -> None:
    little = outcome(toy, CALM)
    deviation = float(np.nanstd(kettles()["litres"].fill_null(np.nan).to_numpy()))
    # Mean size of a normal number, over the nine tenths that are there.
    assert little["value"] == pytest.approx(0.9 * 0.1 * 0.1 * deviation * np.sqrt(2 / np.pi), rel=0.15)
    assert outcome(toy, CALM) == little
    assert outcome(toy, CALM, **{"evaluation.bootstrap.seed": 1})["value"] != little["value"]
    assert outcome(toy, CALM | {"noise": 0.2})["value"] == pytest.approx(2 * little["value"], rel=0.1)
    assert not outcome(toy, CALM | {"max_change": 0.001})["passed"]


def test_shuffling_keeps_what_belongs_together(toy: ToyProblem) -> None:
    rows = kettles()
    behaviour = Behaviour(kind="invariance", columns=["shelf", "litres"], shuffle=True, max_change=1)
    new = changed(rows, "it", behaviour, seed=0)
    pairs = sorted(zip(rows["shelf"].to_pylist(), map(str, rows["litres"].to_pylist()), strict=True))
    assert sorted(zip(new["shelf"].to_pylist(), map(str, new["litres"].to_pylist()), strict=True)) == pairs
    assert new["shelf"] != rows["shelf"]
    assert new.drop_columns(["shelf", "litres"]) == rows.drop_columns(["shelf", "litres"])


@settings(max_examples=40)
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), min_size=1, max_size=20),
    kind=st.sampled_from([pa.int64(), pa.float64()]),
    change=st.sampled_from([{"add": 1e19}, {"multiply": -1.5}, {"noise": 0.1}, {"set": 2.5}, {"shuffle": True}]),
)
def test_types_stay_and_the_missing_stay_missing(values: list[int | None], kind: pa.DataType, change: Any) -> None:
    rows = pa.table({"n": pa.array(values, pa.int64()).cast(kind, safe=False), "c": ["a"] * len(values)})
    behaviour = Behaviour(kind="invariance", columns=["n"], max_change=1, **change)
    new = changed(rows, "it", behaviour, seed=0)
    assert new.schema == rows.schema
    assert new["c"] == rows["c"]
    if "set" in change:
        assert set(new["n"].to_pylist()) == {2 if kind == pa.int64() else 2.5}
    elif "shuffle" not in change:
        assert new["n"].is_null().to_pylist() == rows["n"].is_null().to_pylist()
    else:
        assert new["n"].null_count == rows["n"].null_count


def test_a_regression_is_measured_in_deviations_of_the_label(toy: ToyProblem) -> None:
    behaviour = {"kind": "invariance", "columns": ["shelf"], "set": "top", "max_change": 1}
    rows = kettles()
    bottom = float((np.array(rows["shelf"]) == "bottom").mean())
    found = outcome(toy, behaviour, **REGRESSION)
    assert found["value"] == pytest.approx(0.2 * bottom / np.std(np.arange(400) / 100))
    problem, model = ruled(toy, behaviour, **REGRESSION)
    (constant,) = behaviours(problem, model, rows, np.ones(400))
    assert (constant["value"], constant["passed"]) == (None, False)


def test_several_classes_are_measured_over_all_probabilities_and_have_no_direction(toy: ToyProblem) -> None:
    multi = {
        "task": "multiclass",
        "labels.classes": ["a", "b", "c"],
        "features.history": {},
        "gate.limits": {"log_loss": {"max": 9}},
        "gate.gain_over_baselines": {"log_loss": 0},
        "sql": "CASE WHEN shelf = 'top' THEN 'a' ELSE 'c' END",
    }
    behaviour = {"kind": "invariance", "columns": ["shelf"], "set": "top", "max_change": 1}
    bottom = float((np.array(kettles()["shelf"]) == "bottom").mean())
    assert outcome(toy, behaviour, **multi)["value"] == pytest.approx(bottom * 2 / 3)
    with pytest.raises(ConfigError, match="no one direction"):
        outcome(toy, {"kind": "directional", "columns": ["shelf"], "set": "top", "expect": "up"}, **multi)


@pytest.mark.parametrize(
    ("columns", "change", "told"),
    [
        (["shelf"], {"add": 1}, "'shelf' is a category"),
        (["litres", "shelf"], {"noise": 0.1}, "'shelf' is a category"),
        (["shelf"], {"set": "tpo"}, r"never 'tpo' in training(.|\n)*'bottom', 'top'"),
        (["shelf"], {"set": 7}, "never '7' in training"),
        (["litres"], {"set": "much"}, "'litres' is a number, and 'much' is none"),
    ],
)
def test_a_change_that_does_not_go_with_its_column_is_refused(
    toy: ToyProblem, columns: list[str], change: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        outcome(toy, {"kind": "invariance", "columns": columns, "max_change": 1, **change})
    assert "evaluation.behaviours.it" in error.value.where


def test_yes_and_no_may_be_set_as_yaml_reads_them() -> None:
    rows = pa.table({"is_old": [True, None, False]})
    for value in (True, 1, "true"):
        behaviour = Behaviour(kind="invariance", columns=["is_old"], max_change=1, set=value)
        assert changed(rows, "it", behaviour, seed=0)["is_old"].to_pylist() == [True] * 3


@pytest.mark.parametrize("kind", ["invariance", "directional"])
def test_without_rows_nothing_is_passed(toy: ToyProblem, kind: str) -> None:
    rest = {"max_change": 1} if kind == "invariance" else {"expect": "up"}
    found = outcome(toy, {"kind": kind, "columns": ["litres"], "add": 1, **rest}, kettles().slice(0, 0))
    assert (found["value"], found["passed"]) == (None, False)


def test_columns_of_nothing_and_problems_without_tests(toy: ToyProblem) -> None:
    rows = kettles().set_column(1, "litres", pa.nulls(400, pa.float64()))
    assert outcome(toy, CALM, rows)["value"] == 0
    problem, model = ruled(toy, None)
    assert behaviours(problem, model, rows, rows["label"].to_numpy()) == []


def test_many_rows_are_sampled(toy: ToyProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.evaluation.report.behaviour.MOST_ROWS", 50)
    found = outcome(toy, CALM)
    assert found["value"] != outcome(toy, CALM, **{"evaluation.bootstrap.seed": 3})["value"]
    assert found["passed"]


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
