from __future__ import annotations

from typing import Any

import pytest

from pipelines.training.beyond_memory import is_large, left_out
from tests.conftest import ToyProblem

CANDIDATES: dict[str, Any] = {
    "prior": {"model": "prior"},
    "linear": {"model": "logistic"},
    "calibrated": {"model": "xgboost", "calibration": {"method": "platt"}},
    "encoded": {"model": "xgboost", "preprocessing": {"encoding": "target"}},
    "searched": {"model": "xgboost", "search": {"max_depth": {"low": 2, "high": 9}}},
    "trees": {"model": "xgboost"},
}
MANY = 1_000  # rows; of a megabyte there is room for 65,536 rows of four columns


def out(toy: ToyProblem, rows: int, memory_limit_mb: float = 0.01, **settings: Any) -> dict[str, str]:
    settings = {"training.candidates": CANDIDATES, "training.baselines": ["prior"], **settings}
    return left_out(toy(**{"training.memory_limit_mb": memory_limit_mb, **settings}), rows)


def test_of_rows_beyond_memory_those_compete_that_can_learn_from_disk(toy: ToyProblem) -> None:
    assert out(toy, MANY, memory_limit_mb=1) == {}
    reasons = out(toy, MANY)
    assert {name: reason.partition("; ")[2] for name, reason in reasons.items()} == {
        "linear": "model logistic cannot do that",
        "calibrated": "training.candidates.calibrated.calibration cannot do that",
        "encoded": "training.candidates.encoded.preprocessing.encoding: target cannot do that",
        "searched": "training.candidates.searched.search cannot do that",
    }
    assert all("more than training.memory_limit_mb (0.01)" in reason for reason in reasons.values())


def test_where_none_would_be_left_each_is_refused_in_its_task(toy: ToyProblem) -> None:
    resampled = {"dataset.resampling": {"method": "oversample"}}
    assert out(toy, MANY, **resampled) == {}
    linear = {name: CANDIDATES[name] for name in ("prior", "linear")}
    assert out(toy, MANY, **{"training.candidates": linear}) == {}


def test_what_the_gate_asks_for_is_not_left_out(toy: ToyProblem) -> None:
    assert "linear" not in out(toy, MANY, **{"training.baselines": ["prior", "linear"]})


@pytest.mark.parametrize(("rows", "large"), [(60_000, False), (70_000, True)])
def test_a_matrix_has_four_bytes_a_value(toy: ToyProblem, rows: int, large: bool) -> None:
    problem = toy(**{"training.memory_limit_mb": 1})
    assert len(problem.feature_names) == 4
    assert is_large(problem, rows) == large
