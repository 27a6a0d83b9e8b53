from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import skops.io

from pipelines.config import Candidate
from pipelines.errors import ConfigError
from pipelines.evaluation.metrics import auc
from pipelines.problem import Problem
from pipelines.tracking import TRUSTED_TYPES
from pipelines.training.candidates import fit_candidate, positive_scores

ToyProblem = Callable[..., Problem]


def kettles(count: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    litres, shelf = random.uniform(0, 5, count), random.choice(["top", "bottom"], count)
    chance = 1 / (1 + np.exp(3 - litres - (shelf == "top")))
    return pa.table(
        {
            "shelf": shelf,
            "litres": pa.array(litres, mask=random.random(count) < 0.1),
            "shelf_rate_3d": random.random(count),
            "shelf_count_2d": random.integers(0, 9, count).astype(float),
            "label": (random.random(count) < chance).astype(np.int8),
            "weight": np.ones(count),
        }
    )


TRAIN, VALIDATION, TEST = kettles(2000, 1), kettles(500, 2), kettles(2000, 3)


@pytest.mark.parametrize(
    ("model", "parameters", "at_least"),
    [
        ("prior", {}, 0.5),
        ("logistic", {"C": 1.0}, 0.7),
        ("xgboost", {"n_estimators": 50, "early_stopping_rounds": 5}, 0.7),
    ],
)
def test_a_candidate_learns_and_its_file_gives_the_same_scores(
    toy: ToyProblem, model: str, parameters: dict, at_least: float
) -> None:
    fitted = fit_candidate(toy(), Candidate(model=model, parameters=parameters), TRAIN, VALIDATION)  # type: ignore[arg-type]
    scores = positive_scores(fitted, TEST)
    assert (auc(TEST["label"].to_numpy(), scores) or 0) >= at_least
    again = skops.io.loads(skops.io.dumps(fitted), trusted=TRUSTED_TYPES)
    assert np.array_equal(positive_scores(again, TEST), scores)
    assert positive_scores(fitted, TEST.slice(7, 1)) == pytest.approx(scores[7:8], abs=1e-6), (
        "a row alone scores the same"
    )


def test_weights_reach_the_fit(toy: ToyProblem) -> None:
    only_top = TRAIN.set_column(
        TRAIN.schema.get_field_index("weight"), "weight", pa.array(np.where(TRAIN["label"].to_numpy() == 1, 9.0, 1.0))
    )
    for candidate in (Candidate(model="prior"), Candidate(model="logistic"), Candidate(model="xgboost")):
        plain, weighted = (fit_candidate(toy(), candidate, table, VALIDATION) for table in (TRAIN, only_top))
        assert positive_scores(weighted, TEST).mean() > positive_scores(plain, TEST).mean() + 0.1


def test_the_seed_decides(toy: ToyProblem) -> None:
    candidate = Candidate(model="xgboost", parameters={"subsample": 0.5, "n_estimators": 5})
    one, same, other = (
        positive_scores(fit_candidate(toy(**{"training.seed": seed}), candidate, TRAIN, VALIDATION), TEST)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_parameters_that_a_model_does_not_know_are_told(toy: ToyProblem) -> None:
    with pytest.raises(ConfigError, match="logistic refuses its parameters"):
        fit_candidate(toy(), Candidate(model="logistic", parameters={"depth": 3}), TRAIN, VALIDATION)
