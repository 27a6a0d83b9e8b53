from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import Gate, Limit
from pipelines.evaluation.gate import gate

THRESHOLDS = Gate(
    limits={"auc": Limit(min=0.6), "brier": Limit(max=0.25)},
    gain_over_baseline={"auc": 0.05, "log_loss": 0.0},
    gain_over_champion={"auc": -0.01, "log_loss": 0.0},
    min_rows=100,
)
GOOD = {"auc": 0.7, "log_loss": 0.5, "brier": 0.2, "average_precision": 0.4}
EVALUATION: dict[str, Any] = {
    "test_rows": 500,
    "test_partitions": ["2024-01-08", "2024-01-09"],
    "challenger": {"run_id": "new", "metrics": GOOD},
    "baseline": {"metrics": {"auc": 0.5, "log_loss": 0.6, "brier": 0.25}},
    "champion": {"version": "3", "run_id": "old", "trained_until": "2024-01-05", "metrics": dict(GOOD)},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    evaluation = copy.deepcopy(EVALUATION)
    *parents, last = path.split(".")
    place = evaluation
    for parent in parents:
        place = place[parent]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return evaluation


def test_a_good_challenger_passes_and_every_check_says_why() -> None:
    verdict = gate(EVALUATION, THRESHOLDS)
    assert verdict.passed
    assert all(check.reason for check in verdict.checks)


def test_the_first_model_needs_no_champion() -> None:
    verdict = gate(changed("champion", None), THRESHOLDS)
    assert verdict.passed
    assert "no champion serves yet" in verdict.reason


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("challenger.metrics.auc", 0.59, "auc 0.5900, wanted at least 0.6"),
        ("challenger.metrics.brier", 0.26, "brier 0.2600, wanted at most 0.25"),
        ("baseline.metrics.auc", 0.66, "auc 0.7000 against baseline 0.6600, wanted a gain of at least 0.05"),
        ("baseline.metrics.log_loss", 0.49, "log_loss 0.5000 against baseline 0.4900"),
        ("champion.metrics.auc", 0.72, "auc 0.7000 against champion 0.7200, wanted a gain of at least -0.01"),
        ("champion.metrics.log_loss", 0.499, "log_loss 0.5000 against champion 0.4990"),
        ("champion.run_id", "new", "challenger and champion are the same run"),
        (
            "champion.trained_until",
            "2024-01-08",
            "champion learnt from data until 2024-01-08, the test starts at 2024-01-08",
        ),
        ("champion.trained_until", None, "champion learnt from data until None"),
        ("test_rows", 99, "99 test rows, wanted at least 100"),
        # Evidence that is missing or no number fails.
        ("challenger.metrics.auc", None, "auc missing"),
        ("challenger.metrics.auc", math.nan, "auc missing"),
        ("challenger.metrics.auc", math.inf, "auc missing"),
        ("challenger.metrics.auc", "0.9", "auc missing"),
        ("challenger.metrics.auc", True, "auc missing"),
        ("challenger.metrics", KeyError, "auc missing"),
        ("baseline", None, "against baseline missing"),
        ("champion", KeyError, "no evidence about the champion"),
        ("champion.metrics", {}, "against champion missing"),
        ("test_partitions", [], "the test starts at ?"),
        ("test_rows", None, "0 test rows"),
    ],
)
def test_each_fault_fails_with_its_reason(path: str, value: Any, told: str) -> None:
    verdict = gate(changed(path, value), THRESHOLDS)
    assert not verdict.passed
    assert told in verdict.reason


METRIC = st.floats(0, 1)


@given(auc=METRIC, log_loss=METRIC, champion_auc=METRIC, champion_loss=METRIC)
def test_a_worse_challenger_never_passes(
    auc: float, log_loss: float, champion_auc: float, champion_loss: float
) -> None:
    evaluation = changed("challenger.metrics", {**GOOD, "auc": auc, "log_loss": log_loss})
    evaluation["champion"]["metrics"] = {"auc": champion_auc, "log_loss": champion_loss}
    if gate(evaluation, THRESHOLDS).passed:
        assert auc >= 0.6
        assert auc - champion_auc >= -0.01
        assert log_loss <= champion_loss


def test_the_verdict_survives_json() -> None:
    verdict = gate(EVALUATION, THRESHOLDS).to_dict()
    assert json.loads(json.dumps(verdict)) == verdict
