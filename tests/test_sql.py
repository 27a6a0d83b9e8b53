from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipelines import sql
from pipelines.errors import ConfigError

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
    code = [
        path
        for folder in ("pipelines", "include", "dags", "plugins", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    calls = [(path, call) for path in code for call in ast.walk(ast.parse(path.read_text())) if is_membership(call)]
    assert len(calls) > 30
    untyped = [
        f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)}" for path, call in calls if not is_typed(call)
    ]
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


def test_queries_at_the_same_time_do_not_see_each_other() -> None:
    with sql.connection({"t": KETTLES}) as one, sql.connection({"t": KETTLES.slice(0, 1)}, "Asia/Tokyo") as other:
        one.execute("CREATE TEMP TABLE kept AS SELECT * FROM t")
        assert one.sql("SELECT count(*) FROM t").fetchall() == [(2,)]
        assert other.sql("SELECT count(*) FROM t").fetchall() == [(1,)]
        with pytest.raises(duckdb.CatalogException):
            other.sql("SELECT * FROM kept").fetchall()
        zones = [database.sql("SELECT current_setting('TimeZone')").fetchall() for database in (one, other)]
        assert zones == [[("UTC",)], [("Asia/Tokyo",)]]
    with sql.connection({}) as later, pytest.raises(duckdb.CatalogException):
        later.sql("SELECT * FROM kept").fetchall()


def test_only_a_private_database_keeps_its_settings_to_itself() -> None:
    setting = "SELECT current_setting('threads')"
    with sql.connection({}) as database:
        (before,) = database.sql(setting).fetchall()
    with sql.connection({}, is_private=True) as private:
        private.execute(f"SET threads = {before[0] + 1}")
    with sql.connection({}) as database:
        assert database.sql(setting).fetchall() == [before]


def test_a_private_database_comes_back_as_new_unless_it_failed() -> None:
    state = """
        SELECT list(name || '=' || value ORDER BY name), (SELECT count(*) FROM duckdb_functions()),
        (SELECT list(view_name) FROM duckdb_views() WHERE NOT internal), (SELECT list(table_name) FROM duckdb_tables())
        FROM duckdb_settings() WHERE name <> 'temp_directory'
    """
    with sql.connection({}, is_private=True, is_new=True) as new:
        before = new.sql(state).fetchall()
    with sql.connection({"t": KETTLES}, "Asia/Tokyo", is_private=True) as first:
        for name, value in zip(sql.SETTINGS, ("'10MB'", "1", "'filter_pushdown'"), strict=True):
            first.execute(f"SET {name} = {value}")
        first.execute("CREATE TEMP VIEW v AS SELECT * FROM t; CREATE TEMP TABLE kept AS SELECT * FROM t")
        folder = first.sql("SELECT current_setting('temp_directory')").fetchall()
    with sql.connection({}, is_private=True) as second, sql.connection({}, is_private=True) as beside:
        assert second.sql("SELECT current_setting('temp_directory')").fetchall() == folder, "the same one"
        assert beside.sql("SELECT current_setting('temp_directory')").fetchall() != folder, "is nobody else's meanwhile"
        assert second.sql(state).fetchall() == before
    with pytest.raises(ZeroDivisionError), sql.connection({}, is_private=True) as third:
        (kept,) = third.sql("SELECT current_setting('temp_directory')").fetchall()
        raise ZeroDivisionError
    with sql.connection({}, is_private=True) as fourth:
        assert fourth.sql("SELECT current_setting('temp_directory')").fetchall() != [kept]
        assert not Path(kept[0]).exists()


def test_what_is_made_in_a_database_that_others_get_is_temporary() -> None:
    code = {path: path.read_text() for path in sorted((ROOT / "pipelines").rglob("*.py"))}
    made = [found for text in code.values() for found in re.findall(r"CREATE (?:OR REPLACE )?(\w+ \w+)", text)]
    assert len(made) > 15
    assert {of for of in made if not of.startswith("TEMP ")} == set(), "make it TEMP: it would be there for the next"
    private = [text for text in code.values() if "is_private=True" in text or "DuckDBPyConnection" in text]
    changed = {name for text in private for name in re.findall(r"\bSET (\w+) =", text)}
    assert {"threads", "memory_limit"} <= changed
    assert changed - {*sql.SETTINGS, "TimeZone"} == {"enable_external_access"}, "name it in sql.SETTINGS"
    functions = [text.count("create_function(") - text.count("remove_function(") for text in private]
    assert set(functions) == {0}, "remove it: the next one could not make it again"


def test_joins_stay_as_written_where_that_is_asked_for() -> None:
    setting = "SELECT current_setting('disabled_optimizers')"
    with sql.connection({}, joins_as_written=True) as written, sql.connection({}) as free:
        assert "join_order" in written.sql(setting).fetchall()[0][0]
        assert free.sql(setting).fetchall() == [("",)]


def test_a_forked_process_has_a_database_of_its_own() -> None:
    assert sql.query("SELECT 1 AS x", {})["x"].to_pylist() == [1]
    child = os.fork()
    if child == 0:
        try:
            found = sql.query("SELECT count(*) AS n FROM t", {"t": KETTLES})["n"].to_pylist()
            os._exit(0 if found == [2] else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_no_amount_of_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_DUCKDB_MEMORY", "a lot")
    for is_private in (False, True):
        with pytest.raises(ConfigError, match="'a lot' is no amount of memory"):  # noqa: SIM117
            with sql.connection({}, is_private=is_private):
                pass


def test_a_query_that_takes_too_much_memory_is_not_called_wrong() -> None:
    with pytest.raises(ConfigError, match="Out of Memory") as failure, sql.explained("problem.yaml"):
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate data of size 16.0 MiB")
    assert "EVERGREEN_DUCKDB_MEMORY" in failure.value.cure
