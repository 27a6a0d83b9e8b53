"""What monitoring decides, through a real Airflow: a broken feed is held back, a changed world is learnt, once.

Real flights, harmed in their SQL from a known week on. The shape rules of ingest are off: they would stop the feed
before monitoring saw it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pipelines import quarantine, replay, tracking
from pipelines.airflow_client import AirflowClient, run_path
from pipelines.embedded import Embedded
from pipelines.problem import ROOT, Problem, load_problem
from pipelines.release import ledger
from tests.end_to_end.conftest import PROBLEM
from tests.end_to_end.test_loop import wait

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1500)]

HISTORY = "2013-02-18"
CELSIUS = (
    "CASE WHEN f.time_hour >= '2013-03-04' AND f.time_hour < '2013-03-11' THEN (w.temp - 32) * 5 / 9 ELSE w.temp END"
)


def write_problem(folder: Path, name: str, policy: dict[str, Any]) -> Problem:
    """The default problem, with six weeks of history, a quick model and no shape rules."""
    shutil.copytree(ROOT / "include" / "problems" / PROBLEM, folder / name)
    path = folder / name / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["replay"] = {"history_until": HISTORY, "until": "2013-04-01"}
    raw["validation"] |= {"shape": None, "rules": {}}
    raw["labels"] = {name: value for name, value in raw["labels"].items() if name in ("description", "delay_days")}
    raw["dataset"]["split"] = {"validation_partitions": 1, "test_partitions": 1, "embargo": False}
    raw["training"]["baselines"] = ["prior"]
    raw["training"]["candidates"] = {name: raw["training"]["candidates"][name] for name in ("prior", "xgboost")}
    quick = {"n_estimators": 80, "learning_rate": 0.1, "min_child_weight": 20, "monotone_constraints": None}
    xgboost = raw["training"]["candidates"]["xgboost"]["parameters"] | quick
    raw["training"]["candidates"]["xgboost"]["parameters"] = {k: v for k, v in xgboost.items() if v is not None}
    raw["gate"] |= {"limits": {"auc": {"min": 0.51}}, "gain_over_baselines": {"auc": 0.0}, "slices": None,
                    "gain_over_champion": {"auc": 0.0}, "max_prediction_shift": None}  # fmt: skip
    raw["evaluation"] |= {"behaviours": {}}
    raw["monitoring"] = {"report_rows": 500, "policy": policy}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load_problem(name)


def harm(problem: Problem, query: str, old: str, new: str) -> None:
    path = problem.folder / f"{query}.sql"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def decisions(problem: Problem) -> dict[str, dict[str, Any]]:
    return {row["partition"]: row for row in ledger.decisions(problem, "monitoring")}


def play(airflow: AirflowClient, problem: Problem, weeks: list[str]) -> None:
    for week in weeks:
        replay.play(airflow, problem, week, print)


@pytest.fixture(scope="module")
def celsius(services: Embedded, airflow: AirflowClient) -> Problem:
    """History, one sound week, one with temperatures in Celsius, and sound ones again."""
    problem = write_problem(Path(load_problem(PROBLEM).folder).parent, "celsius", {"cool_down_partitions": 0})
    harm(problem, "events", "w.temp,", f"{CELSIUS} AS temp,")
    replay.prepare(airflow, problem)
    replay.start(airflow, problem, print)
    play(airflow, problem, ["2013-02-25", "2013-03-04"])
    return problem


def test_a_change_of_units_ends_in_quarantine_and_an_alert_and_trains_nothing(
    airflow: AirflowClient, celsius: Problem
) -> None:
    found = decisions(celsius)
    assert found["2013-03-04"]["action"] == "quarantine"
    assert found["2013-03-04"]["verdict"] == "data fault" and "temp" in found["2013-03-04"]["reason"]
    assert "Celsius" in found["2013-03-04"]["reason"]
    assert found["2013-02-25"]["action"] in ("none", "alert")
    assert set(quarantine.held(celsius)) == {"2013-03-04"}
    assert len(airflow.runs("celsius.train")) == 1, "the first model, and no other"
    monitored = airflow.run_of("celsius.monitor", "2013-03-04")
    assert monitored and "data fault" in airflow.xcom(monitored, "act", "verdict")
    login = {"Authorization": airflow._http.headers["Authorization"]}
    page = httpx.get(f"{airflow.url}/evergreen/pages/celsius/reports/2013-03-04/monitoring.html", headers=login)
    assert page.status_code == 200 and "temp has another unit" in page.text


def test_what_is_in_quarantine_is_not_learnt_from(airflow: AirflowClient, celsius: Problem) -> None:
    play(airflow, celsius, ["2013-03-11", "2013-03-18"])
    run = airflow.trigger("celsius.train", "after_the_fault")
    airflow.follow(run, lambda *_: None, 600)
    assert airflow.xcom(run, "label")["left_out"]["quarantined partition"] > 0


@pytest.mark.parametrize(("while_training", "more"), [("none", 0), ("one", 1)])
def test_two_verdicts_during_a_training_start_one_more_or_none(
    airflow: AirflowClient, celsius: Problem, while_training: str, more: int
) -> None:
    path = celsius.folder / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["monitoring"]["policy"] = {"updates": "scheduled", "every_partitions": 1, "while_training": while_training}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    before = {run["dag_run_id"] for run in airflow.runs("celsius.train")}
    pool = airflow._call("GET", "/api/v2/pools/training")
    airflow._call("PATCH", "/api/v2/pools/training", json={"slots": 0}, params={"update_mask": "slots"})
    try:
        # No partition key: it is no request, and runs until the pool has a slot again.
        held = airflow.trigger("celsius.train", f"held_{while_training}")
        wait(
            lambda: (
                "train"
                in {one["task_id"] for one in airflow._tasks(run_path(held)) if one["state"] in ("scheduled", "queued")}
            ),
            240,
        )
        for week in ("2013-03-11", "2013-03-18"):
            run = airflow.trigger("celsius.monitor", f"{while_training}__{week}", partition=week)
            assert airflow.follow(run, lambda *_: None, 600)["state"] == "success"
    finally:
        airflow._call("PATCH", "/api/v2/pools/training", json={"slots": pool["slots"]}, params={"update_mask": "slots"})
    airflow.follow(held, lambda *_: None, 600)
    asked = [
        run
        for run in airflow.runs("celsius.train")
        if run["dag_run_id"] not in before and run["run_type"] == "asset_triggered"
    ]
    trained = []
    for run in asked:
        airflow.follow(run, lambda *_: None, 600)
        if airflow.xcom(run, "gate", "verdict"):
            trained.append(run["partition_key"])
    assert trained == ["2013-03-18"] * more


@pytest.fixture(scope="module")
def turned(services: Embedded, airflow: AirflowClient) -> Problem:
    """From the week of 4 March on afternoon flights are late when they would have been in time, and the reverse."""
    problem = write_problem(
        Path(load_problem(PROBLEM).folder).parent, "turned", {"cool_down_partitions": 1, "min_labels": 200}
    )
    harm(problem, "labels", "CAST(f.arr_delay >= 15 AS TINYINT) AS label",
         "CAST(CASE WHEN f.time_hour >= '2013-03-04' AND f.sched_dep_time >= 1300 THEN f.arr_delay < 15 "
         "ELSE f.arr_delay >= 15 END AS TINYINT) AS label")  # fmt: skip
    replay.prepare(airflow, problem)
    replay.start(airflow, problem, print)
    return problem


def test_a_changed_world_ends_in_a_training_whose_model_wins_its_gate(airflow: AirflowClient, turned: Problem) -> None:
    weeks = ["2013-02-25", "2013-03-04", "2013-03-11", "2013-03-18", "2013-03-25", "2013-04-01"]
    for week in weeks:
        play(airflow, turned, [week])
        if str(tracking.serving(turned).version) != "1":
            break
    found = decisions(turned)
    assert found["2013-02-25"]["action"] in ("none", "alert")
    asked = [row for row in found.values() if row["action"] in ("retrain", "continue")]
    assert asked and "concept drift" in {one["kind"] for one in asked[-1]["evidence"]["diagnosis"]["findings"]}
    gates = [row for row in ledger.decisions(turned, "gate") if row["partition"] == asked[-1]["partition"]]
    assert [row["verdict"] for row in gates][-1:] == ["passed"], gates
    assert str(tracking.serving(turned).version) == "2"
