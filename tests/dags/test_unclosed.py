"""A partition whose rows are still coming is refused, whoever asks for it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from pipelines import local_run
from pipelines.errors import ConfigError
from pipelines.problem import ROOT, load_problem
from pipelines.stages import stage

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

PROBLEM = "flight_delay"
PARTS = load_problem(PROBLEM).partitions
THIS_WEEK = PARTS.key_of(datetime.now(UTC).date() + timedelta(days=1))
REFUSED = rf"partition {THIS_WEEK} has not closed: it closes at .* America/New_York \(.* UTC\)"


def test_by_the_stage_itself_until_the_moment_at_which_it_closes() -> None:
    closing = PARTS.end("2013-04-01")
    with pytest.raises(ConfigError, match="partition 2013-04-01 has not closed: it closes at 2013-04-08 00:00"):
        stage("ingest.extract")(PROBLEM, "2013-03-25", "2013-04-01", now=closing - timedelta(seconds=1))


@pytest.fixture
def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem without a last partition."""
    folder = tmp_path / "problems" / PROBLEM
    shutil.copytree(ROOT / "include" / "problems" / PROBLEM, folder)
    raw = yaml.safe_load((folder / "problem.yaml").read_text())
    del raw["partitions"]["last"]
    (folder / "problem.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))


@pytest.mark.usefixtures("endless")
def test_by_command(store_folder: Path) -> None:
    with pytest.raises(ConfigError, match=REFUSED):
        local_run.run("ingest", PROBLEM, {"first": THIS_WEEK, "last": THIS_WEEK})


@pytest.mark.usefixtures("endless")
def test_in_the_dag_without_a_retry(bag: DagBag) -> None:
    task: Any = bag.dags[f"{PROBLEM}.ingest"].get_task("extract")
    with pytest.raises(AirflowFailException, match=REFUSED):
        task.python_callable(PROBLEM, dag_run=SimpleNamespace(partition_key=THIS_WEEK), params={})
