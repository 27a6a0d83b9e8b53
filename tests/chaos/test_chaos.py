"""The short form of `make chaos`: a loop to its first predictions, on a real object store and a real MLflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos.stages import read
from pipelines.problem import ROOT
from tests.mlflow_database import mlflow_in
from tests.object_store import installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_loop_whose_stages_are_struck_leaves_what_an_undisturbed_one_leaves(tmp_path: Path) -> None:
    venv = tmp_path / "home" / "object_store" / "venv"
    venv.parent.mkdir(parents=True)
    venv.symlink_to(installed())
    database = tmp_path / "home" / "mlflow"
    database.mkdir()
    mlflow_in(database)
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.chaos", "--short", "--keep", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1190, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (life,) = read(tmp_path)
    struck = [trial for trial in life.trials if trial.struck]
    assert len(struck) >= 10 and sum(trial.fault.is_kill for trial in struck) >= 6
    assert life.broken == [] and life.failures == []
    assert (life.lost, life.more, life.differences) == (0, 0, [])
    assert not {trial.end.end for trial in struck} & {"bare", "hung"}
