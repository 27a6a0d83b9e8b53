from __future__ import annotations

import ast
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipelines import sql

ROOT = Path(__file__).resolve().parent.parent
KETTLES = pa.table({"partition": ["2024-01-01", "2024-01-02"], "litres": [1.0, 2.0]})


@pytest.mark.parametrize("rows", [KETTLES, ds.dataset(KETTLES)])
@pytest.mark.parametrize(("keys", "litres"), [([], []), (["2024-01-02"], [2.0]), (("2024-01-02", "2024-01-02"), [2.0])])
def test_rows_among_no_values_are_no_rows(rows: pa.Table | ds.Dataset, keys: list[str], litres: list[float]) -> None:
    found = rows.filter(sql.is_among("partition", keys))
    found = found if isinstance(found, pa.Table) else found.to_table()
    assert found["litres"].to_pylist() == litres


def test_rows_of_no_partitions_are_thinned_to_none() -> None:
    kept = sql.query(f"SELECT * FROM t WHERE {sql.thinned('litres', {}, 10)}", {"t": KETTLES})
    assert kept.num_rows == 0


def test_no_membership_test_leaves_it_to_arrow_to_guess_the_type_of_a_list() -> None:
    """Of an empty list Arrow guesses null, and raises when it compares texts with that."""
    code = [path for folder in ("pipelines", "include", "dags", "plugins", "benchmarks")
            for path in sorted((ROOT / folder).rglob("*.py"))]  # fmt: skip
    calls = [(path, call) for path in code for call in ast.walk(ast.parse(path.read_text())) if is_membership(call)]
    assert len(calls) > 30
    untyped = [f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)}" for path, call in calls
               if not is_typed(call)]  # fmt: skip
    assert not untyped, "use sql.is_among, or give pa.array a type:\n" + "\n".join(untyped)


def is_membership(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    is_numpy = ast.unparse(node.func.value) == "np"
    return not is_numpy and node.func.attr in ("isin", "is_in", "index_in")


def is_typed(call: ast.Call) -> bool:
    assert isinstance(call.func, ast.Attribute)
    values = [word.value for word in call.keywords if word.arg == "value_set"] or call.args[-1:]
    if not isinstance(values[0], ast.Call):
        is_array = call.func.attr != "isin" or ast.unparse(values[0]) in (
            "numbers",
            "bad",
        )  # Arrow arrays of row numbers
        return is_array and not isinstance(values[0], (ast.List, ast.Tuple))
    made_by = ast.unparse(values[0].func)
    return made_by != "pa.array" or len(values[0].args) > 1
