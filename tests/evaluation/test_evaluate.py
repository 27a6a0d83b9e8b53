from __future__ import annotations

import pytest

from pipelines.config import Candidate, Training
from pipelines.errors import DataError
from pipelines.evaluation.evaluate import pick_challenger

CANDIDATES = {"prior": Candidate(model="prior"), "a": Candidate(model="logistic"), "b": Candidate(model="xgboost")}


def training(**settings: str) -> Training:
    return Training(candidates=CANDIDATES, baseline="prior", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("metric", "best"), [("log_loss", "a"), ("auc", "b")])
def test_the_best_on_validation_is_picked_whichever_way_the_metric_runs(metric: str, best: str) -> None:
    validation = {
        "prior": {"log_loss": 0.1, "auc": 0.9},
        "a": {"log_loss": 0.4, "auc": 0.6},
        "b": {"log_loss": 0.5, "auc": 0.7},
    }
    assert pick_challenger(training(select_by=metric), validation) == best  # type: ignore[arg-type]


def test_a_candidate_without_the_metric_is_passed_over() -> None:
    assert (
        pick_challenger(training(), {"prior": {"log_loss": 0.1}, "a": {"log_loss": None}, "b": {"log_loss": 0.6}})
        == "b"
    )
    with pytest.raises(DataError, match="no candidate has a validation log_loss"):
        pick_challenger(training(), {"prior": {"log_loss": 0.1}, "a": {}, "b": {"log_loss": None}})
