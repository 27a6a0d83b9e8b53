from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.artifacts import TABLES, arrow_type
from pipelines.errors import DataError
from pipelines.scoring.score import score
from pipelines.training.model import Model


class Constant(Model):
    """A model that says one thing of every row."""

    def __init__(self, task: str, value: Any, threshold: float = 0.5, costs: Any = None) -> None:
        classes = {"binary": ["0", "1"], "multiclass": ["a", "b", "c"], "regression": []}[task]
        super().__init__(task, classes, None, None, None, threshold=threshold, costs=costs)  # type: ignore[arg-type]
        self.value = value

    def scores(self, rows: Any) -> np.ndarray:
        return np.array([self.value] * rows.num_rows)


def scored(model: Model) -> dict[str, Any]:
    """Columns of two rows that were scored."""
    return pa.Table.from_batches(list(score(model, pa.table({"litres": [1.0, 2.0]}).to_batches()))).to_pydict()


def test_each_row_gets_its_score_batch_by_batch() -> None:
    batches = pa.table({"litres": [1.0, 2.0, 3.0]}).to_batches(max_chunksize=2)
    found = list(score(Constant("binary", 0.25), iter(batches)))
    assert [batch.num_rows for batch in found] == [2, 1]
    assert pa.Table.from_batches(found).to_pydict() == {
        "litres": [1.0, 2.0, 3.0],
        "score": [0.25] * 3,
        "decision": ["0"] * 3,
        "probabilities": [None] * 3,
    }


def test_a_decision_is_by_the_models_own_threshold() -> None:
    assert scored(Constant("binary", 0.25, threshold=0.25))["decision"] == ["1", "1"]


def test_of_several_classes_the_score_is_that_of_the_one_decided_for() -> None:
    found = scored(Constant("multiclass", [0.5, 0.3, 0.2]))
    assert (found["score"], found["decision"]) == ([0.5, 0.5], ["a", "a"])
    assert found["probabilities"] == [[0.5, 0.3, 0.2]] * 2
    dear = scored(Constant("multiclass", [0.5, 0.3, 0.2], costs=[[0, 1, 1], [9, 0, 9], [1, 1, 0]]))
    assert (dear["score"], dear["decision"]) == ([0.3, 0.3], ["b", "b"]), "the least expected cost decides"


def test_a_number_is_no_decision() -> None:
    found = scored(Constant("regression", -12.5))
    assert (found["score"], found["decision"], found["probabilities"]) == ([-12.5] * 2, [None] * 2, [None] * 2)


def test_no_rows_are_scored_too() -> None:
    empty = pa.table({"litres": pa.array([], pa.float64())}).to_batches(max_chunksize=1) or [
        pa.record_batch({"litres": pa.array([], pa.float64())})
    ]

    class Empty(Constant):
        def scores(self, rows: Any) -> np.ndarray:
            return np.zeros((0, 3))

    (found,) = score(Empty("multiclass", None), empty)
    assert found.num_rows == 0 and found.schema.names[-1] == "probabilities"


@pytest.mark.parametrize(("task", "value"), [("binary", 0.5), ("multiclass", [0.2, 0.2, 0.6]), ("regression", 1e9)])
def test_the_columns_are_of_the_contracts_types(task: str, value: Any) -> None:
    (found,) = score(Constant(task, value), pa.table({"litres": [1.0]}).to_batches())
    for field in TABLES["predictions"].fields:
        if field.name in ("score", "decision", "probabilities"):
            assert found.schema.field(field.name).type == arrow_type(field.type)


@pytest.mark.parametrize(
    ("task", "value", "told"),
    [
        *(("binary", value, "no probabilities") for value in (float("nan"), 1.1, -0.1, float("inf"))),
        *(
            ("multiclass", value, "no probabilities")
            for value in ([0.5, 0.5, 0.5], [1.5, -0.5, 0.0], [float("nan"), 0.5, 0.5])
        ),
        *(("regression", value, "no finite numbers") for value in (float("nan"), float("-inf"))),
    ],
)
def test_what_is_no_score_is_refused(task: str, value: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        list(score(Constant(task, value), pa.table({"litres": [1.0]}).to_batches()))
