"""The default problem made small, its store in a folder and MLflow in a file: all stages, no servers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import local_run
from pipelines.ingest.sources import opened
from pipelines.problem import ROOT, load_problem
from pipelines.stages import train
from tests.mlflow_database import mlflow_in

PROBLEM = "flight_delay"
HISTORY = ("2012-12-31", "2013-02-04")  # six weeks; labels of five


def small_problem(folder: Path) -> Path:
    """A copy of the default problem that trains in a second, under `folder`; its flights end in March."""
    shutil.copytree(ROOT / "include" / "problems" / PROBLEM, folder / PROBLEM)
    path = folder / PROBLEM / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    with opened(load_problem(PROBLEM), *HISTORY) as sources:
        flights = folder / PROBLEM / "flights.parquet"
        sources.database.execute(f"COPY (FROM flights WHERE month <= 3) TO '{flights}'")
    raw["sources"]["flights"] = {"path": "flights.parquet", "columns": raw["sources"]["flights"]["columns"]}
    raw["dataset"]["split"] = {"validation_partitions": 1, "test_partitions": 1}
    quick = {"n_estimators": 40, "learning_rate": 0.2, "min_child_weight": 20, "colsample_bytree": 0.6}
    raw["training"]["candidates"]["xgboost"]["parameters"] |= quick
    raw["training"] |= {"select_by": "log_loss", "refit": False}  # a fit more; test_refit.py is about it
    # One test week has seven days, and intervals over days as wide as that: promotions are not what is tested here.
    raw["gate"]["gain_over_baselines"] = {"auc": -0.1, "log_loss": -0.1}
    raw["gate"]["gain_over_champion"] = {"auc": -0.1, "log_loss": -0.1}
    raw["evaluation"] = {"bootstrap": {"resamples": 100}}
    raw["scoring"] = {"shard_rows": 3000, "batch_rows": 500}
    raw["monitoring"]["report_rows"] = None  # Evidently's report takes as long as all the rest of monitoring
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return folder


def prepared(problem: str) -> dict[str, Any]:
    """Everything before the fit."""
    return train.check(problem, train.featurize(problem, train.sample(problem, train.label(problem))))


def configure(problem: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = load_problem(problem).folder / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    change(raw)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def let_in(problem: str) -> None:
    """A gate for tests of what follows it: one test week says little, and two weeks of training less."""
    lax = {"max_champion_fall": None, "max_forgotten": 0.9, "max_prediction_shift": None, "slices": None,
           "limits": {"auc": {"min": 0.5}}}  # fmt: skip
    for over in ("baselines", "champion"):
        lax[f"gain_over_{over}"] = {"auc": -0.5, "log_loss": -0.5}
    configure(problem, lambda raw: (raw["gate"].update(lax), raw["evaluation"].update(bootstrap={"resamples": 50})))


@pytest.fixture(scope="session")
def trained_store(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a store with a history and a first champion: copy it before you change it."""
    folder = tmp_path_factory.mktemp("loop")
    environment = {
        "EVERGREEN_PROBLEMS": str(small_problem(folder / "problems")),
        "EVERGREEN_STORE_URI": (folder / "store").as_uri(),
        "MLFLOW_TRACKING_URI": mlflow_in(folder),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(folder)  # MLflow keeps artifacts beside its database
        local_run.ingest(PROBLEM, *HISTORY)
        local_run.train(PROBLEM)
    return environment


@pytest.fixture
def loop(trained_store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The trained problem's name, in a store, a registry and a config of this test's own."""
    for name, value in trained_store.items():
        monkeypatch.setenv(name, value)
    store, problems = tmp_path / "store", tmp_path / "problems"
    shutil.copytree(trained_store["EVERGREEN_STORE_URI"].removeprefix("file://"), store)
    shutil.copytree(trained_store["EVERGREEN_PROBLEMS"], problems)
    database = tmp_path / "mlflow.db"
    shutil.copyfile(trained_store["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"), database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setenv("EVERGREEN_STORE_URI", store.as_uri())
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(problems))
    yield PROBLEM
