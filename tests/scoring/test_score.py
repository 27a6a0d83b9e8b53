from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import DataError
from pipelines.scoring.score import score


class Constant:
    """A model that says one thing."""

    def __init__(self, value: float) -> None:
        self.value = value

    def predict_proba(self, rows: Any) -> np.ndarray:
        return np.full((rows.num_rows, 2), self.value)


def test_each_row_gets_its_score_batch_by_batch() -> None:
    batches = pa.table({"litres": [1.0, 2.0, 3.0]}).to_batches(max_chunksize=2)
    found = list(score(Constant(0.25), iter(batches)))  # type: ignore[arg-type]
    assert [batch.num_rows for batch in found] == [2, 1]
    assert pa.Table.from_batches(found).to_pydict() == {"litres": [1.0, 2.0, 3.0], "score": [0.25] * 3}


@pytest.mark.parametrize("value", [float("nan"), 1.1, -0.1, float("inf")])
def test_what_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="no probabilities"):
        list(score(Constant(value), pa.table({"litres": [1.0]}).to_batches()))  # type: ignore[arg-type]
