from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipelines.errors import ConfigError, DataError
from pipelines.problem import Problem
from pipelines.training.fit import fit
from pipelines.training.model import Model

ToyProblem = Callable[..., Problem]
TREES = {"model": "xgboost", "parameters": {"n_estimators": 15, "max_depth": 3, "early_stopping_rounds": 4}}


def kettles(count: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    litres, shelf = random.uniform(0, 5, count), random.choice(["top", "bottom"], count)
    chance = 1 / (1 + np.exp(4 - litres - (shelf == "top")))
    return pa.table(
        {
            "shelf": shelf,
            "litres": pa.array(litres, mask=random.random(count) < 0.1),
            "shelf_rate_3d": random.random(count),
            "shelf_count_2d": random.integers(0, 9, count).astype(float),
            "label": (random.random(count) < chance).astype(np.int8),
            "weight": random.choice([0.0, 1.0, 2.0], count),
            "partition": pa.array(["2024-01-01", "2024-01-02"]).take(pa.array(np.arange(count) * 2 // count)),
        }
    )


TRAIN, VALIDATION, TEST = kettles(6000, 1), kettles(500, 2), kettles(1000, 3)


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[[pa.Table], ds.Dataset]:
    def write(rows: pa.Table) -> ds.Dataset:
        for part in range(3):
            pq.write_table(rows.slice(part * 2000, 2000), tmp_path / f"{part}.parquet", row_group_size=500)
        return ds.dataset(tmp_path)

    return write


def problem_of(toy: ToyProblem, candidates: dict[str, dict[str, Any]], **changes: Any) -> Problem:
    more = {"prior": {"model": "prior"}, "trees": TREES}
    return toy(**{"training.candidates": more | candidates, "training.threads": 1, **changes})


def both(config: Problem, name: str, disk: ds.Dataset, rows: pa.Table = TRAIN) -> tuple[Model, Model]:
    return fit(config, name, disk, VALIDATION), fit(config, name, rows, VALIDATION)


def test_trees_from_disk_are_those_from_memory(toy: ToyProblem, on_disk: Callable[[pa.Table], ds.Dataset]) -> None:
    disk = on_disk(TRAIN)
    for spec in ({}, {"imbalance": {"method": "class_weight"}}, {"preprocessing": {"missing": {"method": "drop"}}}):
        config = problem_of(toy, {"trees": TREES | spec}, **{"training.threshold": {"by": "f_beta"}})
        streamed, whole = both(config, "trees", disk)
        assert streamed.scores(TEST) == pytest.approx(whole.scores(TEST), abs=0.02)
        assert streamed.threshold == pytest.approx(whole.threshold, abs=0.05) and streamed.threshold != 0.5
        assert streamed.prepared_names == whole.prepared_names
    plain, counted = (
        fit(problem_of(toy, {"trees": TREES | {"imbalance": {"method": method}}}), "trees", disk, VALIDATION)
        for method in ("none", "class_weight")
    )
    assert counted.scores(TEST).mean() > plain.scores(TEST).mean() + 0.02


def test_baselines_need_only_labels_and_weights(toy: ToyProblem, on_disk: Callable[[pa.Table], ds.Dataset]) -> None:
    disk = on_disk(TRAIN)
    candidates = {"random": {"model": "random"}, "rule": {"model": "heuristic", "sql": "litres / 5"}}
    for name in ("prior", "random", "rule"):
        streamed, whole = both(problem_of(toy, candidates), name, disk)
        assert np.array_equal(streamed.scores(TEST), whole.scores(TEST))


@pytest.mark.parametrize(
    ("candidates", "changes", "said"),
    [
        ({"other": {"model": "hist_boosting"}}, {}, "model hist_boosting cannot"),
        ({"other": {"model": "voting", "of": ["trees"]}}, {}, "model voting cannot"),
        ({"other": TREES | {"selection": {"method": "l1"}}}, {}, "selection cannot"),
        ({"other": TREES | {"calibration": {"method": "platt"}}}, {}, "calibration cannot"),
        ({"other": TREES}, {"dataset.resampling": {"method": "smote"}}, "dataset.resampling cannot"),
        ({"other": TREES}, {"dataset.augmentation": {"method": "mixup"}}, "dataset.augmentation cannot"),
    ],
)
def test_what_needs_all_rows_at_once_is_refused(
    toy: ToyProblem,
    on_disk: Callable[[pa.Table], ds.Dataset],
    candidates: dict[str, Any],
    changes: dict[str, Any],
    said: str,
) -> None:
    with pytest.raises(ConfigError, match=rf"{said}[\s\S]*memory_limit_mb"):
        fit(problem_of(toy, candidates, **changes), "other", on_disk(TRAIN), VALIDATION)


def test_one_class_only_and_wrong_parameters_are_told(
    toy: ToyProblem, on_disk: Callable[[pa.Table], ds.Dataset]
) -> None:
    disk = on_disk(TRAIN)
    with pytest.raises(ConfigError, match="xgboost refuses its parameters"):
        fit(problem_of(toy, {}), "trees", disk, VALIDATION, parameters={"max_dept": 3})
    zeros = TRAIN.set_column(TRAIN.column_names.index("label"), "label", pa.array(np.zeros(6000, np.int8)))
    with pytest.raises(DataError, match="the same label"):
        fit(problem_of(toy, {}), "trees", on_disk(zeros), VALIDATION)
