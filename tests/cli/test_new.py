"""`evergreen new`: files that pass `evergreen check` as they stand, and nothing written over."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.csv as csv
import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipelines.cli import new as command
from pipelines.cli.app import app
from pipelines.errors import ConfigError
from pipelines.problem import load_problem
from pipelines.propose.files import SCHEMA
from tests.propose.table_of import orders


@pytest.fixture
def problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    csv.write_csv(pa.table(orders(1_500)), tmp_path / "orders.csv")
    return tmp_path / "problems"


def _new(folder: Path, *more: str, given: str | None = None) -> str:
    """What it prints on standard output."""
    return _run(folder, *more, given=given).stdout


def _run(folder: Path, *more: str, given: str | None = None) -> Result:
    table = str(folder.parent / "orders.csv")
    result = CliRunner().invoke(
        app, ["new", "orders", "--from", table, "--target", "returned", *more], input=given, catch_exceptions=True
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_what_it_writes_passes_the_check_as_it_stands(problems: Path) -> None:
    shown = _new(problems, "--yes")
    assert "evergreen run train orders" in shown
    problem = load_problem("orders")
    assert problem.partitions.every == "month"
    checked = CliRunner().invoke(app, ["check", "orders"])
    assert checked.exit_code == 0, checked.output
    text = (problems / "orders" / "problem.yaml").read_text()
    assert "# look" in text, "guesses are marked"
    assert "$schema" not in text, "no schema lies beside it"
    (problems / SCHEMA).touch()
    _new(problems, "--yes", "--force")
    assert (problems / "orders" / "problem.yaml").read_text().startswith(f"# yaml-language-server: $schema=../{SCHEMA}")
    assert "-- left out: closed_at: a time that follows the event" in (problems / "orders" / "events.sql").read_text()


def test_it_writes_over_nothing_unless_it_is_told_to(problems: Path) -> None:
    (problems / "orders").mkdir(parents=True)
    (problems / "orders" / "labels.sql").write_text("mine")
    with pytest.raises(ConfigError, match="already, and nothing was changed"):
        _new(problems, "--yes")
    assert [path.name for path in (problems / "orders").iterdir()] == ["labels.sql"]
    _new(problems, "--yes", "--force")
    assert "mine" not in (problems / "orders" / "labels.sql").read_text()


def test_tools_get_json_of_all_choices(problems: Path) -> None:
    chosen = json.loads(_new(problems, "--json"))
    assert chosen["key"]["name"] == "order_id"
    assert chosen["time"] == {"columns": ["placed_at"], "zone": "UTC", "why": chosen["time"]["why"]}
    assert chosen["left_out"]["closed_at"].startswith("a time that follows the event")
    assert chosen["features"] == ["country", "paid"]


def test_in_a_terminal_it_asks_and_enter_takes_what_was_found(problems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_is_terminal", lambda: True)
    asked = _run(problems, given="no\n\n\n\nweek\n")
    assert "predict another value?" in asked.stderr, "a question is no result"
    assert "key: order_id, " in asked.stderr, "nor is what it is about"
    assert asked.stdout.startswith("orders"), "the result alone"
    problem = load_problem("orders")
    assert problem.partitions.every == "week"
    assert "= 'no'" in problem.sql("labels")


@pytest.mark.parametrize(("answers", "sees"), [(True, False), (False, True)])
def test_it_asks_nobody_who_does_not_see_the_question(
    monkeypatch: pytest.MonkeyPatch, answers: bool, sees: bool
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: answers))
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: sees))
    assert not command._is_terminal()
