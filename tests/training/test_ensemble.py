from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import skops.io

from pipelines.errors import ConfigError, DataError
from pipelines.problem import Problem
from pipelines.training import fit as module
from pipelines.training.fit import fit
from pipelines.training.model import TRUSTED_TYPES, Model

ToyProblem = Callable[..., Problem]
CLASSES = ["calm", "bubbling", "over"]
PARTS: dict[str, dict[str, Any]] = {
    "linear_one": {"model": "logistic"},
    "trees": {"model": "xgboost", "parameters": {"n_estimators": 15, "max_depth": 2, "early_stopping_rounds": 4}},
}
DAYS = [f"2024-01-{day:02d}" for day in range(1, 7)]


def kettles(count: int, seed: int, task: str = "binary") -> pa.Table:
    """Two signals: one that a line sees, and one (a bump) that only trees see."""
    random = np.random.default_rng(seed)
    litres, rate = random.uniform(0, 5, count), random.random(count)
    pressure = litres - 2.5 + 3 * (np.abs(rate - 0.5) < 0.2) - 1
    if task == "binary":
        label = (random.random(count) < 1 / (1 + np.exp(-pressure))).astype(np.int8)
    elif task == "multiclass":
        label = np.digitize(pressure + random.normal(size=count), [-1, 1])
    else:
        label = 10 * pressure + random.normal(size=count)
    return pa.table(
        {
            "shelf": random.choice(["top", "bottom"], count),
            "litres": litres,
            "shelf_rate_3d": rate,
            "shelf_count_2d": random.integers(0, 9, count).astype(float),
            "label": label,
            "weight": np.ones(count),
            "partition": pa.array(DAYS).take(pa.array(np.arange(count) * 6 // count)),
        }
    )


ROWS = {
    task: [kettles(rows, seed, task) for rows, seed in ((1200, 1), (400, 2), (800, 3))]
    for task in ("binary", "multiclass", "regression")
}
TRAIN, VALIDATION, TEST = ROWS["binary"]


@pytest.fixture
def problem(toy: ToyProblem) -> ToyProblem:
    """A toy problem with the two parts and an ensemble of them: problem("voting", weights=[1, 2])."""

    def build(kind: str, task: str = "binary", changes: dict[str, Any] | None = None, **spec: Any) -> Problem:
        parts = PARTS | ({"linear_one": {"model": "linear"}} if task == "regression" else {})
        metric = "rmse" if task == "regression" else "log_loss"
        gate = {
            "limits": {metric: {"max": 9.0}},
            "gain_over_baselines": {metric: 0.0},
            "gain_over_champion": {metric: 0.0},
            "slices": None,
        }
        counts = {
            name: {"by": ["shelf"], "function": "count", "window_days": 3}
            for name in ("shelf_rate_3d", "shelf_count_2d")
        }
        labels = {"labels.classes": CLASSES, "features.history": counts} if task == "multiclass" else {}
        candidates = {**parts, "both": {"model": kind, "of": list(parts), **spec}, "prior": {"model": "prior"}}
        return toy(
            **{
                "task": task,
                "gate": gate,
                "training.select_by": metric,
                "training.threads": 1,
                "training.search.folds": 2,
                "training.candidates": candidates,
                **labels,
                **(changes or {}),
            }
        )

    return build


def loss(model: Model, test: pa.Table) -> float:
    y, scores = test["label"].to_numpy(), model.scores(test)
    if model.task == "regression":
        return float(np.mean((y - scores) ** 2))
    probabilities = model.predict_proba(test)[np.arange(len(y)), y]
    return float(-np.log(np.clip(probabilities, 1e-9, 1)).mean())


@pytest.mark.parametrize("task", list(ROWS))
@pytest.mark.parametrize("kind", ["voting", "stacking"])
def test_together_they_are_better_and_the_file_gives_the_same_scores(problem: ToyProblem, kind: str, task: str) -> None:
    train, validation, test = ROWS[task]
    config = problem(kind, task)
    model = fit(config, "both", train, validation)
    parts = [loss(fit(config, name, train, validation), test) for name in PARTS]
    assert loss(model, test) < (min(parts) + 0.01 if kind == "stacking" else max(parts))
    scores = model.scores(test)
    again = skops.io.loads(skops.io.dumps(model), trusted=TRUSTED_TYPES)
    assert np.array_equal(again.scores(test), scores)
    assert np.array_equal(fit(config, "both", train, validation).scores(test), scores)
    assert model.scores(test.slice(7, 1)) == pytest.approx(scores[7:8], abs=1e-6)
    assert len(model.scores(test.slice(0, 0))) == 0
    if task == "multiclass":
        assert scores.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_voting_is_the_weighted_mean_of_calibrated_scores(problem: ToyProblem) -> None:
    calibrated = {"training.calibration": {"method": "platt"}}
    config = problem("voting", changes=calibrated, weights=[1.0, 3.0])
    model = fit(config, "both", TRAIN, VALIDATION)
    one, other = (fit(config, name, TRAIN, VALIDATION) for name in PARTS)
    assert one.calibration is not None and model.calibration is None
    assert model.scores(TEST) == pytest.approx((one.scores(TEST) + 3 * other.scores(TEST)) / 4)
    even = fit(problem("voting", changes=calibrated), "both", TRAIN, VALIDATION)
    assert even.scores(TEST) == pytest.approx((one.scores(TEST) + other.scores(TEST)) / 2)


def test_an_ensemble_calibrates_where_it_says_so_itself(problem: ToyProblem) -> None:
    model = fit(problem("voting", calibration={"method": "platt"}), "both", TRAIN, VALIDATION)
    assert model.calibration is not None and not np.array_equal(model.scores(TEST), model.raw_scores(TEST))
    older = TRAIN.filter(pc.not_equal(TRAIN["partition"], DAYS[-1]))
    assert np.array_equal(model.raw_scores(TEST), fit(problem("voting"), "both", older, VALIDATION).scores(TEST))


def test_stacking_learns_from_scores_of_rows_newer_than_all_its_parts_had(
    problem: ToyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, list[str]]] = []
    plain = module.fit_scorer

    def watched(config: Problem, name: str, train: pa.Table, *rest: Any) -> Model:
        calls.append((name, sorted(set(train["partition"].to_pylist()))))
        return plain(config, name, train, *rest)

    monkeypatch.setattr(module, "fit_scorer", watched)
    fit(problem("stacking"), "both", TRAIN, VALIDATION)
    assert calls == [
        ("both", DAYS),
        ("linear_one", DAYS),
        ("trees", DAYS),
        ("linear_one", DAYS[:4]),
        ("trees", DAYS[:3]),
        ("linear_one", DAYS[:5]),
        ("trees", DAYS[:4]),
    ]


def test_parameters_reach_the_level_above_and_the_parts(problem: ToyProblem) -> None:
    loose, tight = (fit(problem("stacking", parameters={"C": c}), "both", TRAIN, VALIDATION) for c in (10.0, 1e-4))
    assert np.abs(tight.estimator.final_.coef_).sum() < 0.3 * np.abs(loose.estimator.final_.coef_).sum()
    searched = fit(problem("voting"), "both", TRAIN, VALIDATION, parameters={"trees": {"n_estimators": 2}})
    assert searched.estimator.models[1].estimator.rounds_ == 2


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("voting", {"parameters": {"C": 1}}, "no use for parameters.C: remove them"),
        ("voting", {"weights": [0.0, 0.0]}, "not all 0"),
        ("voting", {"weights": [-1.0, 2.0]}, "not negative"),
        ("stacking", {"parameters": {"depth": 1}}, "stacking refuses its parameters: unknown parameter 'depth'"),
        ("stacking", {"parameters": {"trees": 3}}, "the parameters of trees are a mapping, not 3"),
        ("stacking", {"imbalance": {"method": "class_weight"}}, "give them to linear_one, trees"),
    ],
)
def test_wrong_settings_are_told(problem: ToyProblem, kind: str, spec: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fit(problem(kind, **spec), "both", TRAIN, VALIDATION)


def test_stacking_needs_partitions_to_fold(problem: ToyProblem) -> None:
    with pytest.raises(DataError, match="partition"):
        fit(problem("stacking"), "both", TRAIN.slice(0, 200), VALIDATION)
