from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from docs.commands import commands
from pipelines import store
from pipelines.artifacts import TABLES, table_schema
from pipelines.local_run import STAGES
from pipelines.problem import ROOT, Problem

ToyProblem = Callable[..., Problem]


@pytest.mark.parametrize("name", list(TABLES))
def test_each_table_can_be_written_and_read_by_its_contract(toy: ToyProblem, store_folder: Path, name: str) -> None:
    table, schema = TABLES[name], table_schema(toy(), name)
    assert table.partition_by in schema.names
    assert (toy().key in schema.names) is table.keyed
    assert all(field.meaning for field in table.fields)
    store.write_table(toy(), name, schema.empty_table(), ["2024-01-01"])
    kept = DeltaTable(store.table_uri(toy(), name)).to_pyarrow_dataset().schema
    assert [(f.name, f.type) for f in kept] == [(f.name, f.type) for f in schema]
    assert pa.schema(kept).field(table.partition_by).type == pa.string()


def test_the_tables_writers_are_stages_commands_or_alerts() -> None:
    known = {*(f"{dag}.{stage}" for dag, stages in STAGES.items() for stage in stages), *commands(), "alerts"}
    for table in TABLES.values():
        for writer in table.writer.split(", "):
            assert writer in known, f"{table.name} is written by {writer}"


@pytest.mark.parametrize("dag", list(STAGES))
def test_a_dags_module_holds_its_stages_and_no_other_public_function(dag: str) -> None:
    module = import_module(f"pipelines.stages.{dag}")
    public = [
        name
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__.startswith("pipelines.stages.") and name[0] != "_"
    ]
    assert sorted(public) == sorted(STAGES[dag])
    assert all(inspect.getdoc(getattr(module, name)) for name in public)


def test_pipelines_knows_no_orchestrator() -> None:
    files = list((ROOT / "pipelines").rglob("*.py"))
    assert len(files) > 40
    for path in files:
        assert ("import " + "airflow") not in path.read_text(), path
        assert ("from " + "airflow") not in path.read_text(), path
