"""From the gate to serving by steps, with nothing but stages: a good challenger, then one that does harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pytest
import yaml

from pipelines import ledger, local_run, store, summary, tracking
from pipelines.errors import NothingToDo
from pipelines.problem import load_problem
from pipelines.release import ladder
from pipelines.stages import stage
from tests.mlflow_database import mlflow_in

pytestmark = pytest.mark.slow

NAME = "kiln"
START = datetime(2024, 1, 1, 6, tzinfo=UTC)
DAYS, A_DAY = 24, 400
HISTORY = ("2024-01-01", "2024-01-10")
NEXT = [f"2024-01-{day}" for day in range(11, 24)]

PROBLEM = """
description: Will this pot crack?
owner: pottery
key: pot
partitions: {every: day, first: 2024-01-01, last: 2024-01-24}
sources:
  pots:
    path: pots.csv
    columns: {pot: string, fired_at: timestamp, potter: string, heat: float, size: float, cracked: integer}
columns:
  potter: {type: string, available: cutoff}
  heat: {type: float, available: cutoff}
  size: {type: float, available: cutoff}
validation: {shape: null, expectation_rows: 100}
dataset: {split: {validation_partitions: 2, test_partitions: 3}}
features: {columns: [heat, size]}
training:
  refit: false
  baselines: [prior]
  candidates:
    prior: {model: prior}
    xgboost: {model: xgboost, parameters: {n_estimators: 25, max_depth: 2, learning_rate: 0.3}}
evaluation: {bootstrap: {resamples: 50}}
gate: # whatever learns at all passes: the way from there on is what is tested
  limits: {auc: {min: 0.4}}
  gain_over_baselines: {auc: -0.5, log_loss: -9}
  gain_over_champion: {auc: -0.6, log_loss: -9}
  max_champion_fall: null
  max_forgotten: 1
  max_prediction_shift: null
  min_rows: 50
monitoring: {report_rows: null}
release:
  path: [shadow, canary, full]
  margin: 0.05
  shadow: {partitions: 1, max_partitions: 4}
  canary: {shares: [0.5], partitions: 1, max_partitions: 4}
"""
EVENTS = "SELECT pot, fired_at AS event_time, potter, heat, size FROM pots"
LABELS = "SELECT pot, fired_at AS event_time, fired_at + INTERVAL 1 HOUR AS known_time, cracked AS label FROM pots"


def pots() -> pa.Table:
    """400 pots a day, which crack where it was hot."""
    random, count = np.random.default_rng(5), DAYS * A_DAY
    heat, size = random.normal(0, 1, count), random.normal(0, 1, count)
    cracked = random.random(count) < 1 / (1 + np.exp(0.5 - 2 * heat - 0.5 * size))
    return pa.table(
        {
            "pot": [f"p{number}" for number in range(count)],
            "fired_at": pa.array(
                [START + timedelta(days=number // A_DAY, seconds=number % A_DAY) for number in range(count)],
                pa.timestamp("s", "UTC"),
            ),
            "potter": [f"potter {number}" for number in random.integers(0, 60, count)],
            "heat": heat.round(4),
            "size": size.round(4),
            "cracked": cracked.astype(int),
        }
    )


def write_problem(folder: Path, **release: Any) -> None:
    """The problem and its CSV, below a folder of problems; `release`: over its settings."""
    home = folder / NAME
    home.mkdir(parents=True)
    raw = yaml.safe_load(PROBLEM)
    raw["release"] |= release
    (home / "problem.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    (home / "events.sql").write_text(EVENTS)
    (home / "labels.sql").write_text(LABELS)
    csv.write_csv(pots(), home / "pots.csv")


def learn(trees: int, columns: list[str] | None = None) -> None:
    """Have the next training grow so many trees, of these features alone."""
    path = load_problem(NAME).folder / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["training"]["candidates"]["xgboost"]["parameters"]["n_estimators"] = trees
    raw["features"]["columns"] = columns or ["heat", "size"]
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Version 1 serves, and version 2, as good, has passed its gate."""
    folder = tmp_path_factory.mktemp(NAME)
    write_problem(folder / "problems")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_PROBLEMS", str(folder / "problems"))
        patch.setenv("EVERGREEN_STORE_URI", (folder / "store").as_uri())
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_in(folder))
        patch.chdir(folder)  # MLflow keeps artifacts beside its database
        local_run.ingest(NAME, *HISTORY)
        local_run.train(NAME, HISTORY[1])
        learn(trees=30)
        local_run.train(NAME, HISTORY[1])
        yield


def day(key: str) -> Any:
    """One partition through ingest, score and release; what the step did, or why none was taken."""
    local_run.ingest(NAME, key, key)
    local_run.score(NAME, key)
    try:
        return local_run.release(NAME, key).action
    except NothingToDo as reason:
        return reason.what


def served(key: str) -> dict[tuple[str, str], int]:
    rows = {(version.version, version.variant): version.rows for version in summary.served(load_problem(NAME), key)}
    assert sum(rows.values()) == A_DAY, "one row per event"
    return rows


def test_a_good_challenger_comes_to_serve_by_steps(begun: None) -> None:
    problem = load_problem(NAME)
    assert str(tracking.serving(problem).version) == "1"
    assert ledger.decisions(problem, "promotion")[-1]["model_version"] == "1"

    assert day(NEXT[0]) == "stepped"
    assert served(NEXT[0]) == {("1", "champion"): A_DAY}, "a shadow serves nobody"
    shadow = store.dataset(problem, "shadow_predictions").to_table(filter=pc.field("partition") == NEXT[0])
    assert set(shadow["model_version"].to_pylist()) == {"2"} and shadow.num_rows == A_DAY

    assert day(NEXT[1]) == "promoted"
    shares = served(NEXT[1])
    assert set(shares) == {("1", "champion"), ("2", "challenger")}
    assert abs(shares["2", "challenger"] - A_DAY / 2) < 4 * (A_DAY / 4) ** 0.5
    assert str(tracking.serving(problem).version) == "2"

    assert "no release is under way" in day(NEXT[2])
    assert served(NEXT[2]) == {("2", "champion"): A_DAY}
    (promotion,) = [row for row in ledger.decisions(problem, "promotion") if row["model_version"] == "2"]
    assert (promotion["evidence"]["release"], promotion["evidence"]["replaced"]) == ("v1-v2", "1")


def test_scored_again_nothing_changes_hands(begun: None) -> None:
    problem, columns = (
        load_problem(NAME),
        ["pot", "model_version", "variant", "experiment", "unit", "propensity", "score"],
    )

    def rows(key: str) -> list[dict[str, Any]]:
        found = store.dataset(problem, "predictions").to_table(columns, filter=pc.field("partition") == key)
        return found.sort_by("pot").to_pylist()

    before = {key: rows(key) for key in NEXT[:3]}
    for key in NEXT[:3]:
        local_run.score(NAME, key)
        assert rows(key) == before[key]


def test_one_that_does_harm_is_taken_back_by_itself(begun: None) -> None:
    problem = load_problem(NAME)
    learn(trees=30, columns=["size"])
    assert local_run.train(NAME, NEXT[2]).how == "released"
    learn(trees=30)
    assert day(NEXT[3]) == "rolled back"
    assert served(NEXT[3]) == {("2", "champion"): A_DAY}
    assert str(tracking.serving(problem).version) == "2"
    assert "shown to be worse" in ladder.read(problem).rollouts[-1].reason
    assert "no release is under way" in day(NEXT[4])


def test_the_monitor_follows_the_champion(begun: None) -> None:
    for key in NEXT[:2]:
        profiled = stage("monitor.profile")(NAME, key)
        assert profiled.version == "1"
        assert profiled.rows == served(key)["1", "champion"]


def test_each_assessment_left_its_page(begun: None) -> None:
    for key in (NEXT[0], NEXT[1], NEXT[3]):
        page = store.read_bytes(store.store_uri(NAME, "reports", key, "release.html")).decode()
        assert "Release v" in page


def test_the_command_says_how_it_went(begun: None, run_command: Callable[..., str]) -> None:
    shown = run_command("release", NAME)
    assert "version 3 against version 2: rolled back" in shown
    assert "shadow → canary of 50% → full" in shown
    on = run_command("status", NAME, "--on", NEXT[1])
    assert "challenger" in on and "50%" in on


@pytest.fixture
def run_command() -> Callable[..., str]:
    from typer.testing import CliRunner

    from pipelines.cli.app import app

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    return run
