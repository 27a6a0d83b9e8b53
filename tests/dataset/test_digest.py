from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.dataset.digest import digest
from pipelines.problem import Problem
from tests.training.kettles import kettles

ToyProblem = Callable[..., Problem]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), row=st.integers(0, 199), column=st.sampled_from(["litres", "shelf", "label", "weight"]))
def test_the_order_of_rows_says_nothing_and_every_value_does(toy: ToyProblem, seed: int, row: int, column: str) -> None:
    problem, rows = toy(), kettles(4, seed=1)
    random = np.random.default_rng(seed)
    shuffled = rows.take(pa.array(random.permutation(rows.num_rows)))
    row %= rows.num_rows
    other = "attic" if column == "shelf" else rows[column][row].as_py() + 1
    values = rows[column].to_pylist()
    values[row] = other
    changed = rows.set_column(rows.schema.get_field_index(column), column, pa.array(values, rows[column].type))
    found, same, different, fewer, double = (
        digest(problem, "FROM rows", {"rows": one})
        for one in (rows, shuffled, changed, rows.slice(1), pa.concat_tables([rows, rows.slice(row, 1)]))
    )
    assert found["rows"] == rows.num_rows
    assert found == same
    assert found != different
    assert found["sum"] not in (fewer["sum"], double["sum"])


def test_no_rows_have_a_digest_too(toy: ToyProblem) -> None:
    assert digest(toy(), "FROM rows", {"rows": kettles(4, seed=1).slice(0, 0)}) == {"rows": 0, "sum": "0"}
