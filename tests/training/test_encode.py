from __future__ import annotations

import numpy as np
import pandas as pd  # noqa: TID253
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import SchemaError
from pipelines.training.encode import FrameEncoder

ROWS = pa.table({"n": [1.5, None, 3.0], "shelf": ["top", "bottom", None], "lid": [True, False, True]})
ENCODER = FrameEncoder(["shelf", "n", "lid"], ["shelf", "lid"]).fit(ROWS)


def test_columns_are_found_by_name_in_any_order() -> None:
    assert np.array_equal(
        ENCODER.transform(ROWS), ENCODER.transform(ROWS.select(["lid", "n", "shelf"])), equal_nan=True
    )


def test_pandas_and_arrow_give_the_same_matrix() -> None:
    frame = pd.DataFrame({"n": [1.5, None], "shelf": ["top", "sink"], "lid": [False, True]})
    as_arrow = pa.table({"n": [1.5, None], "shelf": ["top", "sink"], "lid": [False, True]})
    assert np.array_equal(ENCODER.transform(frame), ENCODER.transform(as_arrow), equal_nan=True)


def test_a_missing_column_is_told() -> None:
    with pytest.raises(SchemaError, match="feature columns are missing: lid"):
        ENCODER.transform(ROWS.drop_columns(["lid"]))


@given(values=st.lists(st.one_of(st.none(), st.sampled_from(["top", "bottom", "sink", ""])), min_size=1, max_size=20))
def test_a_row_is_encoded_alike_alone_and_in_a_batch(values: list[str | None]) -> None:
    table = pa.table({"n": [1.0] * len(values), "shelf": pa.array(values, pa.string()), "lid": [True] * len(values)})
    whole = ENCODER.transform(table)
    alone = np.vstack([ENCODER.transform(table.slice(n, 1)) for n in range(len(values))])
    assert np.array_equal(whole, alone, equal_nan=True)
    assert [np.isnan(code) for code in whole[:, 0]] == [value not in ("top", "bottom") for value in values]
