from __future__ import annotations

from typing import Any

import pytest

from pipelines.training.beyond_memory import engine_limits, is_large, left_out
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


def test_what_workers_cannot_do_is_told_where_auto_would_take_them(toy: ToyProblem) -> None:
    forest = {"model": "xgboost", "parameters": {"num_parallel_tree": 3}}
    median = {"model": "xgboost", "search": {"objective": {"choices": ["reg:absoluteerror"]}}}
    settings: dict[str, Any] = {
        "task": "regression",
        "gate": {name: {"rmse": 0.0} for name in ("gain_over_baselines", "gain_over_champion")}
        | {"limits": {"rmse": {"max": 9}}, "slices": None},
        "training.select_by": "rmse",
        "training.candidates": {
            "prior": {"model": "prior"},
            "linear": {"model": "linear"},
            "trees": {"model": "xgboost"},
            "forest": forest,
            "median": median,
        },
    }
    assert not engine_limits(toy(**settings)), "one process can do all of it"
    assert not engine_limits(toy(**settings, **{"training.engine.kind": "local"}))
    auto = {"training.engine.kind": "auto", "training.device": "cuda"}
    above = "above training.memory_limit_mb, where training.engine.kind: auto takes workers"
    assert engine_limits(toy(**settings, **auto)) == [
        f"training.device: cuda fails {above}, as they learn on CPUs; set device: auto",
        f"training.candidates.forest.parameters.num_parallel_tree fails {above}; leave it out, or set kind: local",
        f"training.candidates.median.search.objective: reg:absoluteerror fails {above}, as its leaves have quantiles, "
        "of which each worker knows its own rows'; choose another, or set kind: local",
        f"training.candidates.median.search needs all rows at once, and median does not learn {above}; raise the "
        "limit, or leave it out",
    ]
