"""Every row lies in one slice of a cut, and `mask` finds the slice's rows again, whatever the column holds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import SchemaError
from pipelines.evaluation.report.conditions import cut, mask, name_of, ranges

NUMBERS = st.one_of(st.none(), st.floats(width=32), st.integers(-3, 3).map(float))
COLUMNS = st.one_of(
    st.lists(NUMBERS, min_size=1, max_size=60).map(lambda values: pa.array(values, pa.float64())),
    st.lists(st.one_of(st.none(), st.integers(-(2**53), 2**53)), min_size=1, max_size=60).map(
        lambda values: pa.array(values, pa.int64())
    ),
    st.lists(st.sampled_from([None, "a", "b", "it's", ""]), min_size=1, max_size=60).map(
        lambda values: pa.array(values, pa.string())
    ),
    st.lists(st.sampled_from([None, True, False]), min_size=1, max_size=9).map(
        lambda values: pa.array(values, pa.bool_())
    ),
)


@settings(max_examples=60)
@given(column=COLUMNS, min_rows=st.integers(1, 5))
def test_each_row_lies_in_one_slice_and_the_conditions_find_it(column: pa.Array, min_rows: int) -> None:
    rows = pa.table({"x": column})
    axis = cut(rows, "x", min_rows=min_rows)
    masks = [mask(rows, conditions) for conditions in axis.slices]
    assert np.sum(masks, axis=0).tolist() == [1] * rows.num_rows
    assert json.loads(json.dumps(axis.slices, allow_nan=False)) == axis.slices
    for found in (axis, ranges(rows, "x", min_rows=min_rows, at=(0.1, 0.5, 0.9), max_values=2)):
        for position, conditions in enumerate(found.slices):
            assert (mask(rows, conditions) == found.rows_of(position)).all(), name_of(conditions)
        names = [name_of(conditions) for conditions in found.slices]
        assert len(set(names)) == len(names)


def test_numbers_are_cut_into_quarters_and_few_of_them_into_their_values() -> None:
    rows = pa.table({"many": np.arange(1, 101), "few": np.arange(100) % 3})
    assert [name_of(one) for one in cut(rows, "many", min_rows=1).slices] == [
        "many <= 25",
        "many > 25 and many <= 50",
        "many > 50 and many <= 75",
        "many > 75",
    ]
    assert [name_of(one) for one in cut(rows, "few", min_rows=1).slices] == ["few = 0", "few = 1", "few = 2"]


def test_rare_categories_are_one_slice_and_a_search_leaves_them_out() -> None:
    rows = pa.table({"c": ["a"] * 5 + ["b"] * 4 + ["c", "d", None]})
    axis = cut(rows, "c", min_rows=3)
    assert [(name_of(one), int(axis.rows_of(at).sum())) for at, one in enumerate(axis.slices)] == [
        ("c = a", 5),
        ("c = b", 4),
        ("c = any other", 2),
        ("c is missing", 1),
    ]
    searched = ranges(rows, "c", min_rows=3, at=(), max_values=1)
    assert [name_of(one) for one in searched.slices] == ["c = a", "c is missing"]


def test_a_search_looks_at_all_that_lies_below_and_above_a_cut_as_well() -> None:
    axis = ranges(pa.table({"x": np.arange(1, 101)}), "x", min_rows=1, at=(0.2, 0.8), max_values=9)
    assert {name_of(one) for one in axis.slices} == {
        "x <= 20",
        "x > 20",
        "x > 20 and x <= 80",
        "x <= 80",
        "x > 80",
    }


@pytest.mark.parametrize(
    ("column", "slices"),
    [([1.0] * 4, ["x = 1"]), ([None] * 4, ["x is missing"]), ([], []), ([2.0], ["x = 2"])],
)
def test_columns_with_nothing_to_cut(column: list[Any], slices: list[str]) -> None:
    rows = pa.table({"x": pa.array(column, pa.float64())})
    assert [name_of(one) for one in cut(rows, "x", min_rows=1).slices] == slices


def test_a_missing_column_is_named() -> None:
    with pytest.raises(SchemaError, match="no column 'y'"):
        mask(pa.table({"x": [1]}), [{"feature": "y", "op": "=", "value": 1}])
