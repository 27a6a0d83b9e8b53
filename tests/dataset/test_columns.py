from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.dataset.columns import codes, from_codes, from_numbers, is_category, numbers


def chunked(values: list[Any], kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values[:2], kind), pa.array(values[2:], kind)])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["b", None, "a", "b"], pa.string()),
        (["b", None, "a", "b"], pa.dictionary(pa.int32(), pa.string())),
        ([True, None, False, True], pa.bool_()),
        ([3, None, 1, 3], pa.int64()),
    ],
)
def test_codes_and_back(values: list[Any], kind: pa.DataType) -> None:
    column = chunked(values, kind)
    found, distinct = codes(column)
    assert found.tolist() == [0, 2, 1, 0]
    back = from_codes(found, distinct, column)
    assert back.type == kind and back.to_pylist() == values


def test_a_column_without_a_value_has_one_code() -> None:
    found, distinct = codes(chunked([None, None, None], pa.string()))
    assert found.tolist() == [0, 0, 0] and distinct.to_pylist() == [None]


def test_what_is_not_finite_is_missing() -> None:
    values = numbers(chunked([1.5, None, float("nan"), float("-inf")], pa.float64()))
    assert values[0] == 1.5 and np.isnan(values[1:]).all()


def test_numbers_come_back_in_their_type_and_range() -> None:
    integers = chunked([-3, None, 2**63 - 1], pa.int64())
    back = from_numbers(np.array([-9.0, 1.5, np.nan, 1e30]), integers)
    assert back.type == pa.int64()
    assert back.to_pylist()[:3] == [-3, 2, None] and back.to_pylist()[3] > 2**62
    small = from_numbers(np.array([126.6, 300.0]), chunked([0, 127], pa.int8()))
    assert small.type == pa.int8() and small.to_pylist() == [127, 127]
    assert from_numbers(np.array([np.nan]), chunked([None, None], pa.int64())).to_pylist() == [None]
    assert from_numbers(np.array([0.25, 7.0]), chunked([0.0, 1.0], pa.float32())).to_pylist() == [0.25, 1.0]


def test_what_is_no_number_is_a_category() -> None:
    assert is_category(chunked([True, False], pa.bool_()), "a", [])
    assert is_category(chunked(["x", "y"], pa.string()), "a", [])
    assert not is_category(chunked([1, 2], pa.int64()), "a", [])
    assert is_category(chunked([1, 2], pa.int64()), "a", ["a"])
