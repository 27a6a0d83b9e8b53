from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pipelines.training.boost import BoostedTrees
from pipelines.training.workers.intercept import estimated, marked_estimated

MATRIX = np.random.default_rng(0).normal(size=(900, 2)).astype(np.float32)
WEIGHT = np.random.default_rng(1).uniform(0.3, 3, 900)
IS_WARM, SECONDS = MATRIX[:, 0] > 0.3, np.exp(MATRIX[:, 0].astype(float))


def base_score(booster: Any) -> str:
    return str(json.loads(booster.save_config())["learner"]["learner_model_param"]["base_score"])


@pytest.mark.parametrize(
    ("task", "parameters", "y"),
    [
        ("regression", {"monotone_constraints": [1, 0]}, 61.79 + 7 * SECONDS),
        ("regression", {"objective": "reg:tweedie", "tweedie_variance_power": 1.2}, SECONDS),
        ("regression", {"objective": "reg:pseudohubererror", "huber_slope": 2.0}, SECONDS),
        ("binary", {}, IS_WARM),
        ("binary", {"scale_pos_weight": 3.0}, IS_WARM),
        ("multiclass", {}, np.digitize(MATRIX[:, 1], [0, 0.5])),
    ],
)
def test_boosting_starts_from_what_one_process_estimates(task: str, parameters: dict[str, Any], y: np.ndarray) -> None:
    def trees(**more: Any) -> BoostedTrees:
        given = {"n_estimators": 3, "subsample": 1.0} | parameters | more
        classes = {"binary": 2, "multiclass": 3, "regression": 0}[task]
        return BoostedTrees(given, task, classes, 0, 1, "cpu", [False, False])

    alone = trees().fit(MATRIX, y, WEIGHT)
    settings = trees().settings().on(len(MATRIX), 2, has_held_out=False)
    intercept = estimated(trees().native(settings, "cpu"), y, WEIGHT)
    assert intercept == base_score(alone.booster_)
    given = bytes(trees(base_score=intercept).fit(MATRIX, y, WEIGHT).booster_.save_raw("ubj"))
    assert marked_estimated(given) == bytes(alone.booster_.save_raw("ubj"))


def test_labels_that_an_objective_does_not_take_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="label must be"):
        estimated({"objective": "multi:softprob", "num_class": 3, "nthread": 1}, np.array([0.0, 7.0]), np.ones(2))
