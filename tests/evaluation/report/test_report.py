"""A real model's report, of each task; and the gate's verdict on it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa
import pytest

from pipelines.documents.evaluation import Report
from pipelines.errors import DataError
from pipelines.evaluation.gate.checks import gate
from pipelines.evaluation.report.report import report
from pipelines.evaluation.report.slices import compared_slices
from pipelines.metrics.bootstrap import blocks_of, gains
from pipelines.metrics.metrics import SKILL, measure
from pipelines.metrics.scored import scored
from pipelines.problem import Problem
from pipelines.training.fit import fit
from pipelines.training.model import Model
from tests.conftest import ToyProblem
from tests.declared_keys import assert_declared

SETTINGS: dict[str, dict[str, Any]] = {
    "binary": {
        "costs": {"matrix": {"0": {"1": 1}, "1": {"0": 3}}},
        "evaluation.fairness": {"groups": ["shelf"], "min_rows": 20},
        "evaluation.behaviours": {
            "noise": {"kind": "perturbation", "columns": ["litres"], "noise": 0.01, "max_change": 0.5}
        },
    },
    "multiclass": {
        "task": "multiclass",
        "labels.classes": ["cold", "warm", "hot"],
        "gate.limits": {"auc": {"min": 0.5}},
        "features.history.shelf_rate_3d.function": "count",
    },
    "regression": {
        "task": "regression",
        "training.select_by": "rmse",
        "gate.limits": {"rmse": {"max": 9}},
        "gate.gain_over_baselines": {"rmse": 0.0},
        "gate.gain_over_champion": {"rmse": -0.1},
        "gate.slices": {"metric": "rmse"},
    },
}


def rows(task: str, start: int, days: int, seed: int) -> pa.Table:
    """Fifty kettles a day: litres and the upper shelf make them boil over."""
    random = np.random.default_rng(seed)
    count = 50 * days
    litres, top = random.random(count) * 5, random.random(count) < 0.5
    heat = litres + top + random.normal(size=count)
    label = {"binary": (heat > 3).astype(np.int8), "multiclass": np.digitize(heat, [2, 4]), "regression": heat}[task]
    times = [
        datetime(2024, 1, 1, 12, tzinfo=UTC) + timedelta(days=start + day)
        for day in np.repeat(range(days), 50).tolist()
    ]
    return pa.table(
        {
            "shelf": np.where(top, "top", "bottom"),
            "litres": pa.array(litres, pa.float64(), mask=random.random(count) < 0.1),
            "shelf_rate_3d": random.random(count),
            "shelf_count_2d": pa.array(random.integers(0, 9, count), pa.int64()),
            "label": label,
            "weight": np.ones(count),
            "partition": [f"{time:%Y-%m-%d}" for time in times],
            "event_time": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )


class Fitted:
    def __init__(self, toy: ToyProblem, task: str) -> None:
        self.problem: Problem = toy(**SETTINGS[task])
        self.train, self.test = rows(task, 0, 20, 0), rows(task, 20, 10, 1)
        self.models = {name: fit(self.problem, name, self.train, rows(task, 20, 2, 2)) for name in ("prior", "xgboost")}

    def report(self, name: str, test: pa.Table | None = None, **changes: Any) -> dict[str, Any]:
        test = self.test if test is None else test
        given = {"train_rows": self.train, "groups": test.select(["shelf"])} | changes
        return report(self.problem, self.models[name], test, name=name, run_id=f"run of {name}", **given)

    @cached_property
    def told(self) -> dict[str, Any]:
        return self.report("xgboost")


@pytest.fixture(scope="module", params=list(SETTINGS))
def fitted(toy: ToyProblem, request: pytest.FixtureRequest) -> Fitted:
    return Fitted(toy, request.param)


def test_a_report_has_all_parts_and_is_json(fitted: Fitted) -> None:
    found = fitted.told
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert_declared(Report, found)
    assert set(found) == set(get_type_hints(Report))
    problem, model, test = fitted.problem, fitted.models["xgboost"], fitted.test
    one = scored(problem, test["label"].to_numpy(), model.scores(test), threshold=model.threshold)
    assert {name: interval["value"] for name, interval in found["metrics"].items()} == pytest.approx(measure(one))
    assert (found["candidate"], found["run_id"], found["task"]) == ("xgboost", "run of xgboost", problem.task)
    assert (found["rows"], found["classes"]) == (500, problem.classes)
    assert (found["partitions"][0], found["partitions"][-1]) == ("2024-01-21", "2024-01-30")
    assert found["first_event"] == "2024-01-21T12:00:00+00:00"
    assert found["last_event"] == "2024-01-30T12:00:00+00:00"
    assert found["bootstrap"] == {"block": "day", "blocks": 10, "resamples": 400, "confidence": 0.95}
    assert found["distinct_scores"] > 10
    assert found["size_bytes"] > 1_000
    assert found["latency_ms"] > 0
    assert found["rows_per_s"] > 0
    assert set(found["drift"]["columns"]) == set(problem.feature_names)
    assert {one["feature"] for one in found["importances"]} <= set(problem.feature_names)
    if problem.task == "regression":
        assert found["confusion"] is None
    else:
        assert np.array(found["confusion"]).sum() == pytest.approx(500)
        assert np.array(found["confusion"]).sum(axis=1) == pytest.approx(np.bincount(one.labels))
    if problem.task == "binary":
        assert set(found["curves"]) == {"precision_recall", "roc", "threshold_cost"}
        assert [one["name"] for one in found["behaviours"]] == ["noise"]
        assert set(found["fairness"]) == {"shelf"}
        assert found["declared"] == {"baselines": ["prior"], "behaviours": ["noise"], "groups": ["shelf"]}
    else:
        assert (found["curves"], found["behaviours"], found["fairness"]) == ({}, [], None)


def test_what_depends_on_no_clock_is_the_same_every_time(fitted: Fitted) -> None:
    clocks = {"latency_ms", "rows_per_s"}
    first, second = (
        {k: v for k, v in one.items() if k not in clocks} for one in (fitted.told, fitted.report("xgboost"))
    )
    assert first == second


def test_unseen_categories_and_drift_are_counted(fitted: Fitted) -> None:
    strange = fitted.test.set_column(0, "shelf", pa.array(["cellar"] * 500))
    found = fitted.report("xgboost", strange)
    assert found["unseen"] == {"shelf": 500}
    assert found["drift"]["columns"]["shelf"] > 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_handful_of_rows_has_a_report_too(fitted: Fitted, count: int) -> None:
    found = fitted.report("xgboost", fitted.test.slice(0, count), train_rows=fitted.train.slice(0, 0))
    assert json.dumps(found, allow_nan=False)
    assert found["rows"] == count
    assert found["drift"]["prediction"] is None
    assert found["bootstrap"]["block"] == ("day" if count == 1 else "row")


def test_no_rows_have_none(fitted: Fitted) -> None:
    with pytest.raises(DataError, match="test split has no rows"):
        fitted.report("xgboost", fitted.test.slice(0, 0))


def evaluation(fitted: Fitted, challenger: str) -> dict[str, Any]:
    """What the stage hands the gate; the champion is the prior."""
    problem, test = fitted.problem, fitted.test
    blocks, rule = blocks_of(problem, test), problem.evaluation.bootstrap
    labels, weights = test["label"].to_numpy(), test["weight"].to_numpy()
    found = {
        name: scored(problem, labels, model.scores(test), weights, model.threshold)
        for name, model in fitted.models.items()
    }
    ours, prior = found[challenger], found["prior"]
    skill, fitted_rows = SKILL[problem.task], fitted.train.num_rows
    told = fitted.told if challenger == "xgboost" else fitted.report(challenger)
    measured = {"metrics": measure(prior), "gain": gains(ours, prior, blocks, rule)}
    listed = [*told["slices"]["declared"], *told["slices"]["found"]]
    return {
        "task": problem.task,
        "training": "2024-01-20-00000000",
        "judged": {"training": "2024-01-20-00000000", "run_id": told["run_id"]},
        "test_rows": test.num_rows,
        "train_split": {"rows": fitted_rows, "hash": "7"},
        "makes_rows": False,
        "test_partitions": sorted(set(test["partition"].to_pylist())),
        "leaks": {"checked": True, "findings": []},
        "challenger": told,
        "learnt": {
            "from": {"rows": fitted_rows, "hash": "7"},
            "fitted_rows": fitted_rows,
            "bias": None,
            "shared": {"rows": 1, "champion": measured["metrics"][skill], "gain": measured["gain"][skill]},
        },
        "baselines": {"prior": {"run_id": "run of prior", **measured}},
        "serves": "1",
        "champion": {
            "version": "1",
            "run_id": "another run",
            "trained_until": "2024-01-20",
            "fitted_rows": fitted_rows,
            **measured,
            "promoted": {"metrics": measure(prior), "baselines": {"prior": {"metrics": measure(prior)}}},
            "slices": compared_slices(problem, listed, test, ours, prior, blocks),
        },
    }


def test_the_gate_passes_a_good_model_and_no_prior(fitted: Fitted) -> None:
    thresholds = fitted.problem.gate.model_copy(update={"max_jump": None})  # the champion knows nothing here
    verdict = gate(evaluation(fitted, "xgboost"), thresholds)
    assert verdict.passed, verdict.reason
    refused = gate(evaluation(fitted, "prior"), fitted.problem.gate)
    failed = {check.name for check in refused.checks if not check.passed}
    assert {"challenger", "scores", "other scores"} <= failed


def test_models_are_measured_as_they_decide(fitted: Fitted) -> None:
    model: Model = fitted.models["xgboost"]
    scores = model.scores(fitted.test)
    one = scored(fitted.problem, fitted.test["label"].to_numpy(), scores, threshold=model.threshold)
    assert np.array_equal(one.decisions, model.decide(scores))
