"""What commands print for programs: --json, errors, exit codes, and what stays off standard output."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from docs.commands import commands
from pipelines import local_run
from pipelines.cli.exits import MEANINGS, ExitCode
from pipelines.cli.results import RESULTS
from pipelines.cli.terminal import Command
from pipelines.errors import DataError, EvergreenError, GateFailed, NoTraining, ServiceUnavailable
from pipelines.stages import function_of
from tests.cli.test_app import evergreen
from tests.conftest import ROOT

SILENT = {"up", "down", "stack", "demo", "replay"}  # they start and play things, and report nothing
TEXT = {"metrics"}  # its text is for a program already
OTHERS = {"run", "new"}  # `run` prints what its stage hands on
WEEK = ("flight_delay", "2013-04-01", "--reason", "a dead sensor")


def test_every_command_that_reports_something_says_in_json_what_is_documented() -> None:
    with_json = {name for name, command in commands().items() if any("--json" in one.opts for one in command.params)}
    assert with_json == set(commands()) - SILENT - TEXT
    assert {name.partition(" --")[0] for name in RESULTS} == with_json - OTHERS


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("check", ["check", "flight_delay", "--quick"]),
        ("check", ["check", "flight_delai", "--quick"]),
        ("status", ["status", "flight_delay"]),
        ("status --on", ["status", "flight_delay", "--on", "2013-05-20"]),
        ("release", ["release", "flight_delay"]),
        ("cost", ["cost", "flight_delay"]),
        ("decide", ["decide", "flight_delay"]),
        ("quarantine list", ["quarantine", "list", "flight_delay"]),
        ("quarantine hold", ["quarantine", "hold", *WEEK]),
        ("quarantine partitions", ["quarantine", "partitions", "flight_delay"]),
        ("quarantine readmit", ["quarantine", "readmit", *WEEK]),
    ],
)
def test_what_is_printed_is_what_is_documented(tmp_path: Path, name: str, arguments: list[str]) -> None:
    store = {"EVERGREEN_STORE_URI": tmp_path.as_uri()}
    if name == "quarantine partitions":
        evergreen("quarantine", "hold", *WEEK, **store)
    done = evergreen(*arguments, "--json", **store)
    kind = RESULTS[name]
    adapter: TypeAdapter[Any] = TypeAdapter(list[kind[0]] if isinstance(kind, list) else kind)  # type: ignore[valid-type]
    printed = json.loads(done.stdout)
    assert adapter.dump_python(adapter.validate_python(printed), mode="json") == printed, "all of it, and no more"
    assert done.stderr == ""
    assert done.returncode == (1 if "flight_delai" in arguments else 0)


def test_where_nothing_serves_it_is_said_that_the_last_training_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def label(problem_name: str, partition: str | None = None) -> None:
        raise DataError("too little for all three splits")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = {name: (tmp_path / "store").as_uri() for name in local_run.PLACES}
    assert "run flight_delay.ingest, then" in evergreen("status", "flight_delay", **store).stdout
    monkeypatch.setattr(sys.modules[function_of("train.label").__module__], "label", label)
    assert evergreen("run", "train.label", "flight_delay", **store).returncode == 1
    (state,) = json.loads(evergreen("status", "flight_delay", "--json", **store).stdout)
    assert state["failed_training"].startswith("the last training failed in train.label at 20")
    assert "(DataError); look at what `evergreen run` said, or train again: evergreen run" in state["failed_training"]
    shown = evergreen("status", "flight_delay", **store).stdout
    assert "nothing yet: the last training failed in train.label" in " ".join(shown.split())


def test_an_error_is_one_object_on_standard_error() -> None:
    done = evergreen("status", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr) == {
        "error": "ConfigError",
        "what": "EVERGREEN_STORE_URI is not set",
        "where": "environment",
        "next": json.loads(done.stderr)["next"],
    }
    done = evergreen("check", "--quickly", "--json")
    assert done.returncode == ExitCode.USAGE
    message = json.loads(done.stderr)
    assert message["error"] == "UsageError" and "--quickly" in message["what"] and "--help" in message["next"]
    assert "No such option" in evergreen("check", "--quickly").stderr, "and words for a person"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("too few rows"), ExitCode.WRONG),
        (ServiceUnavailable("MLflow does not answer"), ExitCode.TRY_AGAIN),
        (GateFailed("worse than the champion"), ExitCode.REFUSED),
        (NoTraining("nothing has moved"), ExitCode.DONE),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ZeroDivisionError(), ExitCode.WRONG),
    ],
)
def test_scripts_go_by_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, code: ExitCode
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(local_run, "run", fails)
    store = {"EVERGREEN_STORE_URI": tmp_path.as_uri()}
    done = evergreen("run", "train", "flight_delay", **store)
    assert (done.returncode, done.stdout) == (code, ""), "standard output has results alone"
    assert (str(error) or "Error" if isinstance(error, Exception) else "stopped") in done.stderr
    for_programs = evergreen("run", "train", "flight_delay", "--json", **store)
    assert for_programs.returncode == code
    if isinstance(error, NoTraining):
        assert json.loads(for_programs.stdout)["nothing"] == "no training" and not for_programs.stderr
    else:
        assert json.loads(for_programs.stderr)["what"] and not for_programs.stdout
        if isinstance(error, EvergreenError):
            assert json.loads(for_programs.stderr)["error"] == type(error).__name__


def test_each_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ExitCode)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_libraries_print_is_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def prints(*_: object) -> dict[str, int]:
        print("View run prior at: http://127.0.0.1:5000/")
        return {"rows": 3}

    monkeypatch.setattr(local_run, "run", prints)
    for flags in ([], ["--json"]):
        done = evergreen("run", "train", "flight_delay", *flags, EVERGREEN_STORE_URI=tmp_path.as_uri())
        assert json.loads(done.stdout) == {"rows": 3}
        assert "View run prior" in done.stderr
    assert all(isinstance(command, Command) for command in commands().values()), "so it is of every command"


def test_each_question_goes_where_words_go() -> None:
    asked = []
    for file in (ROOT / "pipelines").rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            is_prompt = any(keyword.arg in ("prompt", "confirmation_prompt") for keyword in call.keywords)
            if name in ("typer.prompt", "typer.confirm", "click.prompt", "click.confirm", "input") or is_prompt:
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                asked.append((file.name, options.get("err")))
    assert asked == [("new.py", "True")], "ask with err=True, and print what the question is about by `notices`"


def test_what_child_processes_print_is_no_result() -> None:
    program = """
import os, subprocess, sys
from pipelines.cli.terminal import console, print_json, results_alone
kept = sys.stdout
print("before")
with results_alone():
    kept.write("a library that kept the stream\\n")
    subprocess.run(["echo", "a child"], check=True)
    os.write(1, b"C code\\n")
    console.print("a table")
    print_json({"rows": 3})
print("after")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n", 2)[:2] == ["before", "a table"] and done.stdout.endswith("}\nafter\n")
    assert json.loads(done.stdout[len("before\na table\n") : -len("after\n")]) == {"rows": 3}
    assert set(done.stderr.splitlines()) == {"a library that kept the stream", "a child", "C code"}


def test_a_result_is_printed_for_programs_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local_run, "run", lambda *_: {"rows": 3})
    store = {"EVERGREEN_STORE_URI": tmp_path.as_uri()}
    command = ("run", "ingest.extract", "flight_delay")
    assert json.loads(evergreen(*command, **store).stdout) == {"rows": 3}
    assert evergreen(*command, out=Terminal(), **store).stdout == ""
    assert json.loads(evergreen(*command, "--json", out=Terminal(), **store).stdout) == {"rows": 3}
