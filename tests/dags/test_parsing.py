"""Parsing is cheap, since the DAG processor does it for ever; and one broken problem breaks no other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import ParamValidationError

from pipelines.problem_folders import folder_of

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

DAGS = Path(__file__).resolve().parents[2] / "dags"
HEAVY = {
    "pandas",
    "xgboost",
    "mlflow",
    "great_expectations",
    "evidently",
    "duckdb",
    "pyarrow",
    "deltalake",
    "sklearn",
    "matplotlib",
    "jinja2",
}
PARSE = """
import sys
from airflow.dag_processing.dagbag import DagBag
before = set(sys.modules)
bag = DagBag(sys.argv[1])
assert bag.dags and not bag.import_errors, bag.import_errors
print(*(set(sys.modules) - before))
"""


def test_parsing_loads_nothing_heavy() -> None:
    parsed = subprocess.run([sys.executable, "-c", PARSE, str(DAGS)], capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
    loaded = {module.partition(".")[0] for module in parsed.stdout.split()}
    assert "pipelines" in loaded
    assert not loaded & HEAVY, "import these inside of the task's body, from pipelines.stages"


def test_dags_of_hours_take_their_keys(
    parse: Callable[[], DagBag], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder_of("flight_delay"), tmp_path / "hourly")
    config = tmp_path / "hourly" / "problem.yaml"
    config.write_text(config.read_text().replace("every: week", "every: hour"))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))

    bag = parse()

    assert not bag.import_errors
    ingest, train = bag.dags["hourly.ingest"], bag.dags["hourly.train"]
    for dag, name in ((ingest, "first"), (ingest, "last"), (train, "window_from")):
        schema = dag.params.get_param(name)
        assert schema.resolve() is None and schema.resolve(value="2013-03-10T06Z") == "2013-03-10T06Z"
        with pytest.raises(ParamValidationError):
            schema.resolve(value="2013-03-10")
    assert ingest.timetable.partitions.last_key == "2013-12-31T04Z"


def test_a_broken_problem_is_shown_and_leaves_the_others_alone(
    parse: Callable[[], DagBag], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("good", "bad", "worse"):
        shutil.copytree(folder_of("flight_delay"), tmp_path / name)
    bad = tmp_path / "bad" / "problem.yaml"
    bad.write_text(bad.read_text().replace("every: week", "every: year"))
    (tmp_path / "worse" / "problem.yaml").write_text("- not\n- settings\n")
    monkeypatch.setenv("EVERGREEN_PROBLEMS", f"{tmp_path}:/nope")

    bag = parse()

    assert sorted(bag.dags) == [
        "good.annotate",
        "good.ingest",
        "good.monitor",
        "good.release",
        "good.score",
        "good.train",
    ]
    [(file, message)] = bag.import_errors.items()
    assert Path(file).name == "broken_problems.py"
    for part in (str(bad), "partitions.every", "'year'", "next:", "worse/problem.yaml", "no folder '/nope'"):
        assert part in message
