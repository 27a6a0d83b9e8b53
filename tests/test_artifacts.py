from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from docs.commands import commands
from pipelines import store
from pipelines.artifacts import TABLES, table_schema
from pipelines.handoffs import HANDS_ON
from pipelines.problem import ROOT, Problem
from pipelines.stage_names import STAGES
from pipelines.stages import function_of

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
def test_each_stage_has_a_module_and_says_what_it_takes_and_gives(dag: str) -> None:
    for name in STAGES[dag]:
        function = function_of(f"{dag}.{name}")
        assert inspect.getdoc(function)
        hints = get_type_hints(function)
        assert hints["problem_name"] is str
        given = get_args(hints["return"]) or (hints["return"],)  # one hand-off, or a list of them
        assert given == (HANDS_ON[f"{dag}.{name}"],)


def test_pipelines_knows_no_orchestrator() -> None:
    files = list((ROOT / "pipelines").rglob("*.py"))
    assert len(files) > 40
    for path in files:
        assert not re.search(r"\b(?:import|from) airflow\b", path.read_text()), path
