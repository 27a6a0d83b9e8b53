from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import yaml

from benchmarks.left_out import judge_by_duckdb
from pipelines.cli import app as commands
from pipelines.cli.app import main
from pipelines.embedded.runtime import Endpoint
from pipelines.problem import ROOT
from tests.conftest import TOY
from tests.stages.feeds import Feed, day, row

CLEAN = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "EVERGREEN_HOME": "/nonexistent"}


class Done(NamedTuple):
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


def evergreen(*arguments: str, given: str = "", out: io.StringIO | None = None, **environment: str) -> Done:
    """The command as its console script calls it, in an environment of its own and in this process: to start one takes
    longer than most commands."""
    out, err, code = out or io.StringIO(), io.StringIO(), 0
    with (
        patch.dict(os.environ, {**CLEAN, **environment}, clear=True),
        patch.object(sys, "argv", ["evergreen", *arguments]),
        patch.object(sys, "stdin", io.StringIO(given)),
        chdir(ROOT),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def by_a_person(*arguments: str, **environment: str) -> Done:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "pipelines.cli.app", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**CLEAN, **environment}, cwd=ROOT, timeout=120, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_threads_of_a_command_sleep_while_they_wait() -> None:
    with patch.dict(os.environ, CLEAN, clear=True), patch.object(sys, "argv", ["evergreen", "--help"]):
        os.environ.pop("OMP_WAIT_POLICY", None)
        with suppress(SystemExit), redirect_stdout(io.StringIO()):
            main()
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE", "it is read when the first library loads OpenMP"


@pytest.mark.parametrize("run", [evergreen, by_a_person])
def test_a_process_of_its_own_says_the_same(run: Callable[..., Done]) -> None:
    done = run("replay", "flight_delai")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and "did you mean 'flight_delay'" in done.stderr
    assert "next:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["replay", "flight_delai"], "did you mean 'flight_delay'"),
        (["replay", "flight_delay"], "EVERGREEN_AIRFLOW_URL is not set"),
        (["replay", "flight_delay", "--until", "2015-01-01"], "lies after the last partition"),
        (["replay", "flight_delay", "--until", "soon"], "'soon' is no date"),
        (["status"], "EVERGREEN_STORE_URI is not set"),
        (["run", "ingest.valdate", "flight_delay"], "there is no stage 'ingest.valdate'"),
        (["run", "ingest.validate", "flight_delay"], "--input"),
        (["run", "ingest", "flight_delay"], "--first"),
        (["run", "train", "flight_delay"], "MLFLOW_TRACKING_URI is not set"),
        (["run", "monitor.detect", "flight_delay", "--input", "-"], "MLFLOW_TRACKING_URI is not set"),
        (["check", "flight_delai"], "did you mean 'flight_delay'"),
        (["quarantine", "release", "flight_delay", "x"], "a release needs a reason"),
        (["quarantine", "hold", "flight_delay", "2013-04-01"], "a quarantine needs a reason"),
        (["quarantine", "hold", "flight_delay", "2013-04-02", "--reason", "x"], "'2013-04-02' names no partition"),
        (["roll-back", "flight_delay"], "the ledger needs a reason"),
        (["fall-back", "flight_delay"], "the ledger needs a reason"),
        (["quarantine", "release", "flight_delay", "x", "--reason", "y", "--set", "z"], "'z' is no COLUMN=VALUE"),
        (["rebuild", "flight_delay", "--partition", "2013-04-01", "--as-of", "soon"], "'soon' is no moment"),
        (["run", "ingest.validate", "flight_delay", "--input", "/nowhere.json"], "no readable JSON"),
        (["run", "score", "flight_delay", "--partition", "2013-04-02"], "'2013-04-02' names no partition"),
    ],
)
def test_what_goes_wrong_is_a_message_and_no_traceback(tmp_path: Path, arguments: list[str], told: str) -> None:
    store = {} if arguments[0] == "status" else {"EVERGREEN_STORE_URI": tmp_path.as_uri()}
    done = evergreen(*arguments, given="{}", **store)
    said = done.stdout if arguments[0] == "check" else done.stderr
    assert done.returncode == 1
    assert told in said
    assert "next:" in said
    assert "Traceback" not in done.stderr


def test_all_that_a_dag_will_need_is_asked_for_before_it_starts() -> None:
    done = evergreen("run", "train", "flight_delay")
    assert done.returncode == 1
    assert "EVERGREEN_STORE_URI and MLFLOW_TRACKING_URI are not set" in done.stderr
    assert "set MLFLOW_TRACKING_URI to a server's address, or sqlite:////folder/mlflow.db" in done.stderr


@pytest.mark.slow
def test_check_looks_at_the_rows_of_one_problem() -> None:
    done = evergreen("check", "strike_reports")
    assert done.returncode == 0
    assert "events: 17,684 rows in 34 of 34 quarters, usually 5" in done.stdout
    assert "labels: 15,979 rows; 90.4% of 17,684 events have one" in done.stdout
    assert "events:" not in evergreen("check", "strike_reports", "--quick").stdout


def test_a_partition_is_held_and_let_in_by_hand(tmp_path: Path) -> None:
    store, week = (
        {"EVERGREEN_STORE_URI": tmp_path.as_uri()},
        ("flight_delay", "2013-04-01", "--reason", "a dead sensor"),
    )
    assert evergreen("quarantine", "hold", *week, **store).stdout == "held: 2013-04-01\n"
    assert evergreen("quarantine", "hold", *week, **store).stdout == "2013-04-01 was held before\n"
    listed = evergreen("quarantine", "partitions", "flight_delay", **store).stdout
    assert "1 partitions in quarantine" in listed and "a dead sensor" in listed
    assert evergreen("quarantine", "readmit", *week, **store).stdout == "readmitted: 2013-04-01\n"
    assert evergreen("quarantine", "readmit", *week, **store).stdout == "2013-04-01 was not held\n"


def test_check_gives_the_columns_that_a_source_has_to_declare(tmp_path: Path) -> None:
    folder = tmp_path / "pots"
    folder.mkdir()
    rows = [f"{n},2024-01-01T08:0{n},007,{n}.50,1,{'true' if n % 2 else 'false'}" for n in range(4)]
    (folder / "pots.csv").write_text("\n".join(["pot_id,fired_at,batch,grams,no,cracked", *rows]) + "\n")
    settings = {
        "description": "Will this pot crack?",
        "owner": "pottery",
        "key": "pot_id",
        "partitions": {"every": "week", "first": "2024-01-01", "last": "2024-01-01"},
        "sources": {"pots": {"path": "pots.csv"}},
        "time": "fired_at",
        "label": "cracked",
        "available": "cutoff",
        "features": {"columns": "all"},
    }
    (folder / "problem.yaml").write_text(yaml.safe_dump(settings))
    done = evergreen("check", EVERGREEN_PROBLEMS=str(tmp_path))
    assert done.returncode == 1
    assert "sources.pots.columns: missing: declare them" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.strip().startswith("columns: ")]
    columns = yaml.safe_load(line)["columns"]
    assert columns == {
        "pot_id": "integer",
        "fired_at": "timestamp",
        "batch": "string",
        "grams": "float",
        "no": "integer",
        "cracked": "boolean",
    }
    settings["sources"] = {"pots": {"path": "pots.csv", "columns": columns}}
    (folder / "problem.yaml").write_text(yaml.safe_dump(settings))
    done = evergreen("check", EVERGREEN_PROBLEMS=str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "pots: 3 features, 3 candidates" in done.stdout
    assert "labels: 4 rows; 100.0% of 4 events have one" in done.stdout
    (folder / "pots.csv").unlink()
    (folder / "problem.yaml").write_text(yaml.safe_dump(settings | {"sources": {"pots": {"path": "pots.csv"}}}))
    assert "pots.csv" in evergreen("check", EVERGREEN_PROBLEMS=str(tmp_path)).stdout


def test_check_names_each_wrong_problem(tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "include/problems/flight_delay/problem.yaml").read_text())
    for name in ("good", "bad", "ugly"):
        (tmp_path / name).mkdir()
        for query in ("events.sql", "labels.sql"):
            text = (ROOT / "include/problems/flight_delay" / query).read_text()
            (tmp_path / name / query).write_text(text.replace("w.visib", "w.view") if name == "ugly" else text)
        changed = {**raw, "owner": 7} if name == "bad" else raw
        (tmp_path / name / "problem.yaml").write_text(yaml.safe_dump(changed))
    done = evergreen("check", "--quick", EVERGREEN_PROBLEMS=f"{tmp_path / 'gone'}:{tmp_path}")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "1 ok, 0 to look at, 2 wrong, 1 place without problems"
    assert f"wrong  there is no folder '{tmp_path / 'gone'}'" in done.stdout
    assert "ok     good" in done.stdout, "what is wrong with the others hides none"
    assert "owner: Input should be a valid string (value: 7)" in done.stdout
    assert "view" in done.stdout
    assert "events.sql" in done.stdout
    assert evergreen("check", "--quick").returncode == 0
    none = evergreen("status", EVERGREEN_PROBLEMS=str(tmp_path / "gone"))
    assert none.returncode == 1 and f"there is no folder '{tmp_path / 'gone'}'" in none.stderr


@pytest.mark.slow
def test_a_stages_result_feeds_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge_by_duckdb(monkeypatch.setattr)
    Feed(tmp_path / "problems", TOY).deliver([row(f"k{n}", n / 60, hot=n % 2) for n in range(1_200)])
    store = {"EVERGREEN_STORE_URI": tmp_path.as_uri(), "EVERGREEN_PROBLEMS": str(tmp_path / "problems")}
    on = ("--partition", day(0))
    extracted = evergreen("run", "ingest.extract", "kettle", *on, **store)
    validated = evergreen("run", "ingest.validate", "kettle", "--input", "-", given=extracted.stdout, **store)
    published = evergreen("run", "ingest.publish", "kettle", "--input", "-", given=validated.stdout, **store)
    assert json.loads(published.stdout)["events"] == json.loads(extracted.stdout)["events"] == 1_200
    whole = evergreen("run", "ingest", "kettle", *on, **store)
    assert json.loads(whole.stdout)["events"] == 1_200
    lines, _, summary = whole.stderr.partition("\n\n")
    assert [line.split()[0] for line in lines.splitlines()] == ["extract", "validate", "publish"]
    assert "1,200 events published" in lines
    assert "rows in    1,200 events" in summary and "evergreen run train kettle" in summary


@pytest.mark.parametrize(
    ("is_new", "shown"), [(True, "password of-airflow"), (False, "password in /home/ada/.evergreen")]
)
def test_passwords_are_printed_by_the_start_that_makes_them(
    is_new: bool, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"airflow": Endpoint("http://127.0.0.1:8080", "admin", "of-airflow")}
    services: Any = SimpleNamespace(is_new=is_new, urls=lambda: places)
    commands._print_addresses(services, Path("/home/ada/.evergreen/secrets.json"))
    output = capsys.readouterr().out
    assert shown in output
    assert ("of-airflow" in output) is is_new
