"""The default problem made small, its store in a folder and MLflow in a file: all stages, no servers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.left_out import JUDGES, draw_nothing, judge_by_duckdb
from pipelines import local_run
from pipelines.ingest import expectations
from pipelines.problem import ROOT, load_problem
from pipelines.stages import stage
from tests.flights import use_first_months
from tests.handed_on import featurized
from tests.made_once import made_once
from tests.mlflow_database import mlflow_in

PROBLEM = "flight_delay"
HISTORY = ("2012-12-31", "2013-02-04")  # six weeks; labels of five
WEEKS = ("2013-02-11", "2013-02-18", "2013-02-25", "2013-03-04")  # and those after it
BOTH = {name: getattr(expectations, name) for name in JUDGES}


def small_problem(folder: Path) -> Path:
    """A copy of the default problem that trains in a second, under `folder`; its flights end in March."""
    shutil.copytree(ROOT / "include" / "problems" / PROBLEM, folder / PROBLEM)
    path = folder / PROBLEM / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    use_first_months(raw, path.parent, 3)
    raw["dataset"]["split"] = {"validation_partitions": 1, "test_partitions": 1}
    quick = {"n_estimators": 40, "learning_rate": 0.2, "min_child_weight": 20, "colsample_bytree": 0.6}
    raw["training"]["candidates"]["xgboost"]["parameters"] |= quick
    del raw["training"]["candidates"]["logistic"]  # a fit, a log and a report more in each training
    raw["training"] |= {"select_by": "log_loss", "refit": False}  # a fit more; test_refit.py is about it
    # One test week has seven days, and intervals over days as wide as that: promotions are not what is tested here.
    raw["gate"]["gain_over_baselines"] = {"auc": -0.1, "log_loss": -0.1}
    raw["gate"]["gain_over_champion"] = {"auc": -0.1, "log_loss": -0.1}
    raw["evaluation"] = {"bootstrap": {"resamples": 100}}
    raw["validation"]["expectation_rows"] = 300  # whatever their number: Great Expectations costs by the rule
    raw["scoring"] = {"batch_rows": 500}  # a week in one shard: each looks back on its own, which is most of its work
    raw["monitoring"]["report_rows"] = None  # Evidently's report takes as long as all the rest of monitoring
    del raw["release"]  # what passes its gate serves at once: tests/stages/release is about the way there
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return folder


def prepared(problem: str) -> dict[str, Any]:
    """Everything before the fit."""
    return stage("train.check")(problem, featurized(problem, stage("train.label")(problem)))


def configure(problem: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = load_problem(problem).folder / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    change(raw)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def in_shards(problem: str) -> None:
    """A week is scored in three, for tests of what they have to do with each other."""
    configure(problem, lambda raw: raw["scoring"].update(shard_rows=3000))


def let_in(problem: str) -> None:
    """A gate for tests of what follows it: one test week says little, and two weeks of training less."""
    lax = {
        "max_champion_fall": None,
        "max_forgotten": 0.9,
        "max_prediction_shift": None,
        "slices": None,
        "limits": {"auc": {"min": 0.5}},
    }
    for over in ("baselines", "champion"):
        lax[f"gain_over_{over}"] = {"auc": -0.5, "log_loss": -0.5}
    configure(problem, lambda raw: (raw["gate"].update(lax), raw["evaluation"].update(bootstrap={"resamples": 50})))


@contextmanager
def judged_by_both() -> Iterator[None]:
    """Great Expectations takes part meanwhile, see `by_duckdb_alone`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, judge in BOTH.items():
            patch.setattr(expectations, name, judge)
        yield


class Kept:
    """A store, a registry and a config as they were at some point, in a folder: copied before they are changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def copy(self, target: Path) -> Kept:
        for name in ("store", "problems"):
            shutil.copytree(self.folder / name, target / name)
        shutil.copyfile(self.folder / "mlflow.db", target / "mlflow.db")
        return Kept(target)

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        patch.setenv("EVERGREEN_PROBLEMS", str(self.folder / "problems"))
        patch.setenv("EVERGREEN_STORE_URI", (self.folder / "store").as_uri())
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{self.folder}/mlflow.db")


def _train(folder: Path) -> None:
    small_problem(folder / "problems")
    mlflow_in(folder)
    with pytest.MonkeyPatch.context() as patch:
        Kept(folder).enter(patch)
        patch.chdir(folder)  # MLflow keeps artifacts beside its database
        judge_by_duckdb(patch.setattr)
        draw_nothing(patch.setattr)
        local_run.ingest(PROBLEM, *HISTORY)
        local_run.train(PROBLEM)


@pytest.fixture(scope="session")
def after(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Kept]:
    """What there is after a history, its first champion, and more weeks, each of them ingested and then scored:
    after(2), or with the newest not scored yet: after(2, is_scored=False); after(3, is_bulk=True) ingests them at once.
    """

    def kept(weeks: int, *, is_scored: bool = True, is_bulk: bool = False) -> Kept:
        def make(folder: Path) -> None:
            before = kept(0) if is_bulk else kept(weeks, is_scored=False) if is_scored else kept(weeks - 1)
            with pytest.MonkeyPatch.context() as patch:
                before.copy(folder).enter(patch)
                judge_by_duckdb(patch.setattr)
                if is_bulk:
                    local_run.ingest(PROBLEM, WEEKS[0], WEEKS[weeks - 1])
                elif is_scored:
                    local_run.score(PROBLEM, WEEKS[weeks - 1])
                else:
                    local_run.ingest(PROBLEM, WEEKS[weeks - 1], WEEKS[weeks - 1])

        if weeks == 0:
            return Kept(made_once(tmp_path_factory, "trained", _train))
        way = "bulk" if is_bulk else "scored" if is_scored else "ingested"
        return Kept(made_once(tmp_path_factory, f"{weeks}-{way}", make))

    return kept


@pytest.fixture(scope="module", autouse=True)
def by_duckdb_alone() -> Iterator[None]:
    """Rules are judged once: Great Expectations, which costs a second or two an ingest, has tests of its own, and takes
    part in those of whole stages that ask for it (`judged_by_both`): of each task, and of each way to cut time."""
    with pytest.MonkeyPatch.context() as patch:
        judge_by_duckdb(patch.setattr)
        yield


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """The pictures of a page, which cost a second or two, have tests of their own; a module whose pages are to have
    them has a fixture of this name that does nothing."""
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch.setattr)
        yield


@pytest.fixture
def loop_after(after: Callable[..., Kept], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The trained problem's name after so many weeks (see `after`), in a store, a registry and a config of this test's
    own."""

    def entered(weeks: int, **way: bool) -> str:
        after(weeks, **way).copy(tmp_path).enter(monkeypatch)
        return PROBLEM

    return entered


@pytest.fixture
def loop(loop_after: Callable[..., str]) -> str:
    """The trained problem's name, and no week after its history: in a store, a registry and a config of this test's
    own."""
    return loop_after(0)
