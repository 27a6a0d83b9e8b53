from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.config import Bootstrap, Candidate, Training
from pipelines.errors import DataError
from pipelines.evaluation.gate.challenger import pick_challenger, selection
from pipelines.metrics.scored import Scored

CANDIDATES = {
    "prior": Candidate(model="prior"),
    "rule": Candidate(model="heuristic", sql="0.5"),
    "old": Candidate(model="linear"),
    "a": Candidate(model="logistic"),
    "b": Candidate(model="xgboost"),
}


def training(**settings: Any) -> Training:
    return Training(candidates=CANDIDATES, baselines=["prior", "old"], **settings)


@pytest.mark.parametrize(
    ("metric", "best"),
    [("log_loss", "a"), ("auc", "b"), ("ece", "a"), ("f_beta", "b"), ("rmse", "a"), ("r2", "b"), ("cost", "a")],
)
def test_the_best_on_validation_is_picked_whichever_way_the_metric_runs(metric: Any, best: str) -> None:
    validation: dict[str, dict[str, float | None]] = {"a": {metric: 0.4}, "b": {metric: 0.5}}
    assert pick_challenger(training(select_by=metric), validation) == best


def test_the_bias_that_is_nearest_to_zero_is_the_best() -> None:
    validation: dict[str, dict[str, float | None]] = {"a": {"bias": -3.0}, "b": {"bias": 1.0}}
    assert pick_challenger(training(select_by="bias"), validation) == "b"


def test_a_baseline_is_never_picked_whether_named_or_by_its_kind() -> None:
    validation: dict[str, dict[str, float | None]] = {
        "prior": {"log_loss": 0.1},
        "rule": {"log_loss": 0.1},
        "old": {"log_loss": 0.1},
        "b": {"log_loss": 0.6},
    }
    assert pick_challenger(training(), validation) == "b"


@pytest.mark.parametrize("missing", [{}, {"log_loss": None}, {"log_loss": float("nan")}, {"auc": 0.9}])
def test_a_candidate_without_the_metric_is_passed_over(missing: dict[str, float | None]) -> None:
    assert pick_challenger(training(), {"a": missing, "b": {"log_loss": 0.6}}) == "b"
    with pytest.raises(DataError, match="no candidate has a validation log_loss"):
        pick_challenger(training(), {"prior": {"log_loss": 0.1}, "a": missing})


def test_a_choice_within_the_noise_is_told_as_a_tie() -> None:
    random = np.random.default_rng(0)
    labels, blocks = random.normal(size=280), np.arange(280) // 40
    near, nearer, far = (
        Scored("regression", (), labels, labels + error * random.normal(size=280), np.ones(280))
        for error in (1.02, 1.0, 2.0)
    )
    rules = training(select_by="rmse")
    found = selection(rules, "b", {"a": near, "b": nearer, "c": far}, blocks, Bootstrap(resamples=100))
    assert (found["metric"], found["chosen"]) == ("rmse", "b")
    assert set(found["ties"]) == {"a"}, "c is worse for sure"
    assert found["ties"]["a"]["low"] <= 0 <= found["ties"]["a"]["value"]
    assert found["values"]["c"] == pytest.approx(2.0, abs=0.2)
    one_row = {name: one.take(np.arange(280) == 0) for name, one in (("a", far), ("b", near))}
    unknown = selection(rules, "b", one_row, blocks[:1], Bootstrap(resamples=100))
    assert set(unknown["ties"]) == {"a"}, "one row proves nothing"
