"""What is loaded before tasks are forked: in which component, with how much memory, and whether forks can use it."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from include import preload

STAGES = "pipelines.stages.ingest.validate"


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that `preload` asks for; none is really imported."""
    names: list[str] = []
    monkeypatch.setattr(preload, "_import", names.extend)
    monkeypatch.setattr(preload, "look_up_installed", lambda: None)
    return names


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["celery", "worker", "--queues", "training"], {*preload.FOR_DAGS, *preload.FOR_TASKS, STAGES}),
        (["dag-processor"], {*preload.FOR_DAGS}),
        (["scheduler", "--skip-serve-logs"], set()),
        (["api-server"], set()),
        (["celery", "flower"], set()),
        ([], set()),
    ],
)
def test_each_component_loads_what_its_forks_import(argv: list[str], expected: set[str], imported: list[str]) -> None:
    preload.preload(["airflow", *argv])
    assert {name for name in imported if not name.startswith("pipelines.") or name == STAGES} == expected
    assert not [name for name in imported if name.startswith(("pipelines.cli", "pipelines.embedded"))]


@pytest.mark.parametrize(("free_mib", "tasks_share"), [(preload.NEEDS_MIB - 1, False), (preload.NEEDS_MIB, True)])
def test_short_memory_is_left_to_the_tasks(
    free_mib: int,
    tasks_share: bool,
    imported: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    memory = SimpleNamespace(available=free_mib * 2**20)
    monkeypatch.setattr(preload.psutil, "virtual_memory", lambda: memory)
    preload.preload_for_tasks()
    assert bool(imported) == tasks_share
    assert ("tasks import for themselves" in caplog.text) != tasks_share


def test_a_module_that_is_not_there_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preload, "FOR_DAGS", ("no_such_module", "include.wiring"))
    preload.preload(["airflow", "dag-processor"])


FORKED = """
import os, sys, threading
import include.fork_server
from include.preload import FOR_TASKS
assert set(FOR_TASKS) <= set(sys.modules)
assert sys.modules["mlflow.utils.requirements_utils"]._MODULES_TO_PACKAGES, "what is installed was looked up"
assert threading.enumerate() == [threading.main_thread()]
child = os.fork()
if child == 0:
    import duckdb, numpy, pyarrow, xgboost
    from deltalake import DeltaTable, write_deltalake
    from sklearn.linear_model import LogisticRegression
    features, label = numpy.random.default_rng(1).normal(size=(5000, 4)), numpy.arange(5000) % 2
    xgboost.train({"nthread": 2, "max_depth": 3}, xgboost.DMatrix(features, label), num_boost_round=5)
    LogisticRegression().fit(features, label)
    write_deltalake(sys.argv[1], pyarrow.table({"x": features[:, 0]}))
    rows = DeltaTable(sys.argv[1]).to_pyarrow_dataset()
    os._exit(0 if duckdb.sql("SELECT x FROM rows").to_arrow_table().num_rows == 5000 else 3)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.slow
def test_a_fork_can_use_all_of_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("table") / "rows"
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED, str(folder)], check=True, timeout=120)
