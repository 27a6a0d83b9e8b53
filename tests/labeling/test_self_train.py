from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import ConfigError, NothingToDo
from pipelines.labeling.self_train import self_train
from pipelines.problem import Problem

CANDIDATES = {
    "prior": {"model": "prior"},
    "logistic": {"model": "logistic"},
    "xgboost": {
        "model": "xgboost",
        "parameters": {"n_estimators": 30, "max_depth": 2, "learning_rate": 0.3, "early_stopping_rounds": 5},
    },
    "wrong": {"model": "logistic", "parameters": {"no_such": 1}},
}


def declared(toy: Callable[..., Problem], candidate: str, threshold: float = 0.95) -> Problem:
    return toy(
        **{
            "features.columns": ["litres", "age"],
            "features.history": {},
            "training.candidates": CANDIDATES,
            "labels.self_training": {"candidate": candidate, "threshold": threshold},
        }
    )


def rows(labelled: int, unlabelled: int, seed: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Full kettles boil over; near the middle it is a toss-up."""
    rng = np.random.default_rng(seed)
    count = labelled + unlabelled
    litres = rng.uniform(0, 5, count)
    truth = (litres + rng.normal(0, 0.7, count) > 2.5).astype(int)
    known = rng.permutation(count) < labelled
    return pa.table(
        {
            "kettle_id": [f"k{row}" for row in range(count)],
            "partition": ["2024-01-01"] * count,
            "event_time": pa.array([datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=row) for row in range(count)]),
            "litres": litres,
            "age": pa.array(rng.integers(0, 9, count)),
            "label": pa.array(
                [int(value) if is_known else None for value, is_known in zip(truth, known, strict=True)], pa.int8()
            ),
        }
    ), truth


@pytest.mark.parametrize("candidate", ["logistic", "xgboost"])
def test_it_labels_what_it_is_sure_of_and_is_right_about_it(toy: Callable[..., Problem], candidate: str) -> None:
    table, truth = rows(300, 700)
    found = self_train(declared(toy, candidate), table)
    assert found.column_names == ["kettle_id", "event_time", "label", "confidence"]
    position = [int(key[1:]) for key in found["kettle_id"].to_pylist()]
    assert position == sorted(position)
    assert table["label"].take(pa.array(position)).null_count == len(position), "labelled rows are left alone"
    assert 200 < len(position) < 700, "not all: the middle is a toss-up"
    assert min(found["confidence"].to_pylist()) > 0.95
    assert np.mean(truth[position] == found["label"].to_numpy()) > 0.97


def test_a_lower_threshold_labels_more(toy: Callable[..., Problem]) -> None:
    table, _ = rows(200, 300)
    counts = [self_train(declared(toy, "logistic", at), table).num_rows for at in (0.99, 0.9, 0.6)]
    assert counts == sorted(counts)
    assert counts[0] < counts[2]


def test_the_same_rows_give_the_same_labels_and_stay_as_they_are(toy: Callable[..., Problem]) -> None:
    table, _ = rows(100, 100)
    problem = declared(toy, "xgboost")
    assert self_train(problem, table).equals(self_train(problem, table))


def test_a_model_that_knows_nothing_labels_nothing(toy: Callable[..., Problem]) -> None:
    assert self_train(declared(toy, "prior"), rows(100, 100)[0]).num_rows == 0


def test_nothing_unlabelled_gives_nothing(toy: Callable[..., Problem]) -> None:
    assert self_train(declared(toy, "logistic"), rows(50, 0)[0]).num_rows == 0


@pytest.mark.parametrize("label", [None, 1])
def test_one_class_is_nothing_to_learn_from(toy: Callable[..., Problem], label: int | None) -> None:
    table, _ = rows(20, 20)
    column = pa.array([label, *([None] * (table.num_rows - 1))], pa.int8())
    table = table.set_column(table.column_names.index("label"), "label", column)
    with pytest.raises(NothingToDo, match="of the two classes"):
        self_train(declared(toy, "logistic"), table)


def test_wrong_parameters_are_told(toy: Callable[..., Problem]) -> None:
    with pytest.raises(ConfigError, match="logistic refuses its parameters"):
        self_train(declared(toy, "wrong"), rows(20, 20)[0])
