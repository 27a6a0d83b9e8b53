"""Every block of code in the pages says what it is, and is that: commands exist, settings are valid, code runs.

The blocks of the tutorial are run one after the other by test_tutorial.py.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from docs.commands import commands
from pipelines.artifacts import TABLES, table_schema
from pipelines.problem import ROOT, Problem, parse_problem
from tests.docs.blocks import PAGES, Block, blocks

BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = commands()
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
# Programs of others, whose options are not looked at.
OTHERS = {
    "airflow",
    "cp",
    "curl",
    "docker",
    "export",
    "helm",
    "jq",
    "kubeconform",
    "kubectl",
    "mv",
    "pipx",
    "pytest",
    "python3",
    "rsync",
    "ssh",
    "tar",
    "uv",
}
# Columns that the pages' settings speak of: a fragment is put into a problem that has them all.
COLUMNS = {
    "string": "carrier origin dest tailnum manufacturer shelf serial clay glaze customer plane",
    "float": "distance precip visib temp humid pressure litres",
    "integer": "seats sched_dep_hour air_time age plane_age paid_items",
}
SQL_TYPES = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "float": "DOUBLE",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMPTZ",
}
MINIMAL: dict[str, Any] = {
    "description": "Is it as the page says?",
    "owner": "docs",
    "key": "event_id",
    "partitions": {"every": "week", "first": "2012-12-31"},
    "sources": {"rows": {"path": "rows.csv"}},
    "columns": {
        name: {"type": kind, "available": "cutoff"} for kind, names in COLUMNS.items() for name in names.split()
    },
    "features": {"columns": "all"},
    "training": {"candidates": {name: {"model": name} for name in ("prior", "logistic", "xgboost")}},
}


def of(*kinds: str) -> pytest.MarkDecorator:
    """The blocks of these kinds, each a test."""
    chosen = [block for block in BLOCKS if block.kind in kinds]
    return pytest.mark.parametrize("block", chosen, ids=[f"{block.page}:{block.line}" for block in chosen])


def test_each_block_says_what_it_is() -> None:
    assert len(BLOCKS) > 80
    strange = [f"{block.page}:{block.line} {block.kind!r}" for block in BLOCKS if block.kind not in CHECKS]
    assert strange == [], f"say behind ``` which it is, of {', '.join(CHECKS)}; indented blocks say nothing"


def test_a_block_that_says_nothing_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```\nx\n```\n\n    indented\n\n- a list\n\n    goes on\n\n```console\nmake\n```\n")
    assert [(block.kind, block.line) for block in blocks(page)] == [("", 3), ("", 7), ("console", 13)]


@of("console")
def test_commands_are_there_with_their_options(block: Block) -> None:
    check_console(block)


@of("yaml")
def test_settings_are_valid(block: Block, tmp_path: Path) -> None:
    if block.page != "docs/tutorial.md":
        check_settings(block)


@of("sql", "json", "toml")
def test_what_is_written_in_a_language_is_of_it(block: Block) -> None:
    CHECKS[block.kind](block)


@of("python")
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if block.page != "docs/tutorial.md":
        check_python(block)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("console", "evergreen chekc fog\n"),
        ("console", "evergreen check fog --quik\n"),
        ("console", "evergreen status && evergreen run train\n"),
        ("console", "make dmo\n"),
        ("console", "python -m benchmarks.gone\n"),
        ("console", "everygreen check\n"),
        ("console", "evergreen check 'fog\n"),
        ("yaml", "gate: {min_row: 3}\n"),
        ("yaml", "gate: {min_rows: -3}\n"),
        ("yaml", "features: {columns: [carier]}\n"),
        ("sql", "SELECT label FROM labels WHERE\n"),
        ("sql", "SELECT no_column FROM labels\n"),
        ("json", "{'a': 1}\n"),
        ("toml", "a = \n"),
        ("python", "assert 1 > 2\n"),
    ],
)
def test_a_wrong_block_is_noticed(kind: str, text: str) -> None:
    with pytest.raises(Exception, match=r".*"):
        CHECKS[kind](Block("page.md", 1, kind, text))


def check_console(block: Block) -> None:
    """Each line is a command of the shell; ours have to exist, with these arguments and options."""
    parsed = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert parsed.returncode == 0, parsed.stderr
    for words in _commands(block.text):
        program, *arguments = words
        program = Path(program).name
        if program == "evergreen":
            _check_evergreen(arguments)
        elif program == "make":
            assert {word for word in arguments if "=" not in word} <= TARGETS, f"no target: {arguments}"
        elif program == "python":
            assert arguments[0] == "-m" and importlib.util.find_spec(arguments[1]), f"no module: {arguments}"
        else:
            assert program in OTHERS, f"what is {program!r}? If it is a program of others, name it in OTHERS"


def _commands(text: str) -> Iterator[list[str]]:
    """The commands of a block, each as words, without variables that are set for it and where its output goes."""
    for line in text.replace("\\\n", " ").replace("\n  ", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if word in ("|", "&&", ";", ">", "<"):
                if words:
                    yield words
                words = []
                if word in (">", "<"):
                    break
            elif words or not re.match(r"\w+=", word):
                words.append(word)


def _check_evergreen(arguments: list[str]) -> None:
    if arguments in (["--help"], ["--install-completion"]):
        return
    length = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name, rest = " ".join(arguments[:length]), arguments[length:]
    assert name in COMMANDS, f"there is no `evergreen {name}`"
    COMMANDS[name].make_context(name, rest)


def check_settings(block: Block) -> None:
    """A part of a problem.yaml: valid once the rest is there."""
    _problem(block)


def _problem(block: Block) -> Problem:
    part = yaml.safe_load(block.text)
    if "time" in part or "label" in part:  # a table whose rows are the events
        whole = {name: MINIMAL[name] for name in ("description", "owner", "partitions")} | part
    else:
        whole = merged(MINIMAL, part)
    if part.get("partitions", {}).get("every") == "delivery":  # which have no first
        whole["partitions"] = part["partitions"]
    return parse_problem(whole, Path("/nowhere"))


def merged(base: Any, part: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(part, dict)):
        return part
    return base | {name: merged(base[name], value) if name in base else value for name, value in part.items()}


def check_sql(block: Block) -> None:
    """A query over Evergreen's tables, or over the sources that the page's settings declare."""
    settings = [other for other in BLOCKS if (other.page, other.kind) == (block.page, "yaml")]
    problem = _problem(Block("", 1, "yaml", "{}"))
    with duckdb.connect() as database:
        for name in TABLES:
            database.register(name, table_schema(problem, name).empty_table())
        for other in settings:
            for name, source in yaml.safe_load(other.text).get("sources", {}).items():
                columns = ", ".join(
                    f"NULL::{SQL_TYPES[kind]} AS {column}" for column, kind in source["columns"].items()
                )
                database.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT {columns}")
        for statement in duckdb.extract_statements(block.text):
            database.execute(f"EXPLAIN {statement.query}")


def check_json(block: Block) -> None:
    json.loads(block.text)


def check_toml(block: Block) -> None:
    tomllib.loads(block.text)


def check_python(block: Block) -> None:
    exec(compile(block.text, f"{block.page}:{block.line}", "exec"), {"__name__": "page"})  # noqa: S102


def check_nothing(block: Block) -> None:
    """Output and pictures."""


CHECKS: dict[str, Callable[[Block], None]] = {
    "console": check_console,
    "yaml": check_settings,
    "sql": check_sql,
    "python": check_python,
    "json": check_json,
    "toml": check_toml,
    "text": check_nothing,
    "mermaid": check_nothing,
}
