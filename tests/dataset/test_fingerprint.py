from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import store
from pipelines.dataset.fingerprint import fingerprint
from pipelines.problem import Problem
from tests.training.kettles import kettles

ToyProblem = Callable[..., Problem]
ROWS = kettles(4, seed=1)
LITRES = ROWS["litres"].combine_chunks()
GAPS = pc.if_else(pc.greater(LITRES, 2), LITRES, pa.scalar(None, pa.float64()))
ROWS = ROWS.set_column(3, "litres", GAPS)


def replaced(column: str, row: int, value: object) -> pa.Table:
    values = ROWS[column].to_pylist()
    values[row] = value
    return ROWS.set_column(ROWS.schema.get_field_index(column), column, pa.array(values, ROWS[column].type))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, ROWS.num_rows), max_size=5))
def test_batches_may_be_cut_anywhere(toy: ToyProblem, cuts: list[int]) -> None:
    problem = toy()
    ends = sorted({0, *cuts, ROWS.num_rows})
    parts = [ROWS.slice(a, b - a) for a, b in pairwise(ends)]
    batches = [batch for part in parts for batch in part.to_batches()]
    assert fingerprint(problem, iter(batches)) == fingerprint(problem, ROWS) == fingerprint(problem, ds.dataset(ROWS))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(0, ROWS.num_rows - 1), column=st.sampled_from(["litres", "shelf", "label", "weight"]))
def test_one_value_counts_and_so_does_a_null(toy: ToyProblem, row: int, column: str) -> None:
    problem = toy()
    was = ROWS[column][row].as_py()
    other = "attic" if column == "shelf" else (was or 0.0) + 1
    hashes = {fingerprint(problem, replaced(column, row, value))["hash"] for value in (was, other, None)}
    assert len(hashes) == (3 if was is not None else 2)


def test_rows_on_disk_have_the_same(toy: ToyProblem, store_folder: Path) -> None:
    uri = store.store_uri("kettle", "train")
    store.stage(uri, ROWS, ROWS.schema)
    assert fingerprint(toy(), store.staged(uri)) == fingerprint(toy(), ROWS)


def test_order_and_rows_count_and_what_is_no_feature_does_not(toy: ToyProblem) -> None:
    problem = toy()
    found = fingerprint(problem, ROWS)
    assert found["rows"] == 160
    assert found["partitions"] == ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"]
    assert fingerprint(problem, ROWS.drop_columns(["kettle_id"])) == found
    encoded = ROWS.set_column(2, "shelf", ROWS["shelf"].combine_chunks().dictionary_encode())
    assert fingerprint(problem, encoded) == found
    order = pa.array(range(ROWS.num_rows - 1, -1, -1))
    assert fingerprint(problem, ROWS.take(order))["hash"] != found["hash"]
    assert fingerprint(problem, ROWS.slice(1))["rows"] == 159
    assert fingerprint(problem, ROWS.slice(0, 0))["rows"] == 0


@pytest.mark.parametrize(("one", "other"), [(("ab", "c"), ("a", "bc")), (("", None), (None, ""))])
def test_texts_do_not_run_into_each_other(toy: ToyProblem, one: tuple[str, ...], other: tuple[str, ...]) -> None:
    few = ROWS.slice(0, 2)
    hashes = [
        fingerprint(toy(), few.set_column(2, "shelf", pa.array(texts, pa.string())))["hash"] for texts in (one, other)
    ]
    assert hashes[0] != hashes[1]
