"""A problem.yaml with nothing in it but what is required, for each task: the defaults are run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines import ledger, local_run, store, tracking
from pipelines.paths import manifest_uri
from pipelines.problem import load_problem
from pipelines.stage_names import STAGES
from tests.dags.run import Run
from tests.mlflow_database import mlflow_in
from tests.required import OF_TASK, REQUIRED
from tests.stages.conftest import judged_by_both

pytestmark = pytest.mark.slow

WEEKS, A_WEEK = 11, 150
HISTORY = ("2024-01-01", "2024-02-26")
SCORED = ["2024-03-04", "2024-03-11"]
DAGS = Path(__file__).resolve().parents[2] / "dags"


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> None:
    """Pages have their pictures here."""


@pytest.fixture(scope="module", params=OF_TASK)
def kitchen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The problem of a task, its history ingested."""
    root = tmp_path_factory.mktemp(request.param)
    folder = root / "problems" / "kettle"
    folder.mkdir(parents=True)
    (folder / "problem.yaml").write_text(yaml.safe_dump(REQUIRED | OF_TASK[request.param]))
    (folder / "events.sql").write_text("SELECT kettle_id, filled AS event_time, litres, watts, shelf FROM kettles")
    (folder / "labels.sql").write_text(
        "SELECT kettle_id, filled AS event_time, filled + INTERVAL 1 HOUR AS known_time, label FROM kettles"
    )
    pq.write_table(kettles(request.param), folder / "kettles.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
        patch.setenv("EVERGREEN_STORE_URI", (root / "store").as_uri())
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_in(root))
        patch.chdir(root)  # MLflow keeps artifacts beside its database
        with judged_by_both():
            local_run.ingest("kettle", *HISTORY)
        yield "kettle"


@pytest.fixture(scope="module")
def bag(kitchen: str) -> Any:
    """The problem's DAGs."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(DAGS))
    assert not bag.import_errors
    return bag


@pytest.fixture(scope="module")
def trained(kitchen: str, bag: Any) -> Run:
    """The run of the train DAG that made the first version."""
    run = Run(bag, kitchen, "train")
    run.play()
    return run


def kettles(task: str) -> pa.Table:
    random, count = np.random.default_rng(5), WEEKS * A_WEEK
    litres, watts, shelf = random.normal(size=count), random.normal(size=count), random.choice(["top", "low"], count)
    minutes = litres + watts**2 + 2 * (shelf == "top") + random.normal(size=count)
    label: Any = minutes
    if task == "binary":
        label = (minutes > 2).astype(np.int8)
    elif task == "multiclass":
        label = np.array(["fast", "slow", "never"])[np.digitize(minutes, [1.0, 3.0])]
    start, between = datetime(2024, 1, 1, tzinfo=UTC), timedelta(weeks=WEEKS) / count
    return pa.table(
        {
            "kettle_id": [f"k{n}" for n in range(count)],
            "filled": pa.array([start + n * between for n in range(count)], pa.timestamp("us", "UTC")),
            "litres": litres,
            "watts": watts,
            "shelf": shelf,
            "label": label,
        }
    )


def test_a_problem_with_the_required_settings_alone_is_trained(kitchen: str, trained: Run) -> None:
    """Among the defaults: labels that arrive without a delay, so that no partition is too young to be learnt from."""
    assert trained.errors == {}
    labelled = trained.values["label"]
    assert labelled["too_young"] == [], "what has no delay is never too young"
    assert labelled["held_out"] == {"validation": 1, "test": 2}, "a fifth of nine weeks is no more"
    assert trained.values["promote"]["version"] == "1"
    config = load_problem(kitchen)
    assert tracking.serving(config).version == 1
    (gate,) = ledger.decisions(config, "gate")
    evaluation = gate["evidence"]["evaluation"]
    metric = config.training.select_by
    assert evaluation["power"]["validation"]["detectable"][metric] > 0, "what the rows can show was said"
    assert evaluation["selection"]["metric"] == metric
    assert evaluation["selection"]["chosen"] == evaluation["challenger"]["candidate"]
    (sheet,) = (Path(store.store_uri(kitchen, "datasheets").removeprefix("file://"))).glob("*.md")
    assert "show a difference between two models of" in sheet.read_text()


def test_its_partitions_go_through_all_dags(kitchen: str, bag: Any, trained: Run) -> None:
    for partition in SCORED:
        for dag in ("ingest", "score", "monitor"):
            run = Run(bag, kitchen, dag, partition)
            run.play()
            assert run.errors == {}
            has_run = {task for task, states in run.states.items() if set(states) == {"success"}}
            assert set(STAGES[dag]) - has_run <= {"estimate", "act"}, "what may have nothing to do"
        assert store.read_json(manifest_uri(load_problem(kitchen), partition))["rows"] == A_WEEK
    told = {row["partition"]: row["verdict"] for row in ledger.decisions(load_problem(kitchen), "monitoring")}
    assert list(told) == SCORED
    assert "data fault" not in told.values()
