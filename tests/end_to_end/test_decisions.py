"""What monitoring decides, through a real Airflow: a broken feed is held back, a changed world is learnt, once.

Real flights, harmed in their SQL from a known week on. The shape rules of ingest are off: they would stop the feed
before monitoring saw it. What leads there and is not about Airflow (the history, the first model, weeks in which
nothing has to happen) runs in this process, on the same store and MLflow: through Airflow it takes three times the
CPU, and test_loop goes that way.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import ledger, local_run, quarantine, tracking
from pipelines.cli import replay
from pipelines.cli.airflow_client import AirflowClient, run_path
from pipelines.errors import NothingToDo
from pipelines.problem import ROOT, Problem, load_problem
from tests.end_to_end.conftest import PROBLEM, fetch
from tests.end_to_end.test_loop import wait

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1500)]

NAME = "harmed"
HISTORY = "2013-02-18"
ONCE_A_YEAR = {"updates": "scheduled", "every_partitions": 52}
POLICY = {"cool_down_partitions": 1, "min_labels": 200}
TURNED = (
    "CASE WHEN f.time_hour >= '2013-03-11' AND f.sched_dep_time >= 1300 THEN f.arr_delay < 15 "
    "ELSE f.arr_delay >= 15 END"
)
CELSIUS = (
    "CASE WHEN f.time_hour >= '2013-03-04' AND f.time_hour < '2013-03-11' THEN (w.temp - 32) * 5 / 9 ELSE w.temp END"
)


def write_problem(folder: Path, name: str, policy: dict[str, Any]) -> Problem:
    """The default problem, with six weeks of history, a quick model and no shape rules."""
    shutil.copytree(ROOT / "include" / "problems" / PROBLEM, folder / name)
    path = folder / name / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    shared = load_problem(PROBLEM).folder  # has the flights of the first months in a file
    raw["sources"] = yaml.safe_load((shared / "problem.yaml").read_text())["sources"]
    (path.parent / "flights.parquet").hardlink_to(shared / "flights.parquet")
    raw["replay"] = {"history_until": HISTORY, "until": "2013-04-01"}
    raw["validation"] |= {"shape": None, "rules": {}, "expectation_rows": 300}
    raw["labels"] = {name: value for name, value in raw["labels"].items() if name in ("description", "delay_days")}
    raw["dataset"]["split"] = {"validation_partitions": 1, "test_partitions": 1, "embargo": False}
    del raw["release"]  # what passes its gate serves at once
    raw["training"] |= {"baselines": ["prior"], "refit": False}  # test_loop's models are fitted again
    raw["training"]["candidates"] = {name: raw["training"]["candidates"][name] for name in ("prior", "xgboost")}
    quick = {"n_estimators": 80, "learning_rate": 0.1, "min_child_weight": 20, "monotone_constraints": None}
    xgboost = raw["training"]["candidates"]["xgboost"]["parameters"] | quick
    raw["training"]["candidates"]["xgboost"]["parameters"] = {k: v for k, v in xgboost.items() if v is not None}
    raw["gate"] |= {
        "limits": {"auc": {"min": 0.51}},
        "gain_over_baselines": {"auc": 0.0},
        "slices": None,
        "gain_over_champion": {"auc": 0.0},
        "max_prediction_shift": None,
    }
    raw["evaluation"] |= {"behaviours": {}, "bootstrap": {"resamples": 100}}
    raw["monitoring"] = {"report_rows": None, "policy": policy}  # Evidently's is looked at by test_loop
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load_problem(name)


def harm(problem: Problem, query: str, old: str, new: str) -> None:
    path = problem.folder / f"{query}.sql"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def decisions(problem: Problem) -> dict[str, dict[str, Any]]:
    return {row["partition"]: row for row in ledger.decisions(problem, "monitoring")}


def play(problem: Problem, week: str) -> bool:
    """A week without Airflow; whether monitoring asks for a training, which nobody hears."""
    local_run.ingest(problem.name, week, week)
    local_run.score(problem.name, week)
    with suppress(NothingToDo):
        local_run.monitor(problem.name, week)
        return True
    return False


@pytest.fixture(scope="module")
def harmed(services: None, airflow: AirflowClient) -> Problem:
    """History, a sound week, and one with temperatures in Celsius. From the week after it on afternoon flights are late
    when they would have been in time, and the reverse."""
    problem = write_problem(Path(load_problem(PROBLEM).folder).parent, NAME, POLICY)
    harm(problem, "events", "w.temp,", f"{CELSIUS} AS temp,")
    harm(problem, "labels", "CAST(f.arr_delay >= 15 AS TINYINT) AS label", f"CAST({TURNED} AS TINYINT) AS label")
    replay.prepare(airflow, problem)
    local_run.ingest(NAME, problem.partitions.first_key, HISTORY)
    local_run.train(NAME, HISTORY)
    play(problem, "2013-02-25")
    replay.play(airflow, problem, ["2013-03-04"], print)
    return problem


def test_a_change_of_units_ends_in_quarantine_and_an_alert_and_trains_nothing(
    airflow: AirflowClient, harmed: Problem
) -> None:
    found = decisions(harmed)
    assert found["2013-02-25"]["action"] in ("none", "alert")
    broken = found["2013-03-04"]
    assert (broken["action"], broken["verdict"]) == ("quarantine", "data fault")
    assert "temp" in broken["reason"] and "Celsius" in broken["reason"]
    assert quarantine.held(harmed) == {"2013-03-04"}
    assert airflow.runs(f"{NAME}.train") == []
    monitored = airflow.run_of(f"{NAME}.monitor", "2013-03-04")
    assert monitored and "data fault" in airflow.xcom(monitored, "act", "verdict")
    login = {"Authorization": airflow._http.headers["Authorization"]}
    page = fetch(f"{airflow.url}/evergreen/pages/{NAME}/reports/2013-03-04/monitoring.html", headers=login)
    assert page.status_code == 200 and "temp has another unit" in page.text


def test_of_verdicts_during_a_training_none_or_one_more_starts_as_the_policy_says(
    airflow: AirflowClient, harmed: Problem
) -> None:
    """While one training is under way a partition is judged under a policy that asks for none, and two under one that
    asks for one more."""
    set_policy(harmed, ONCE_A_YEAR)  # a training of this week would leave nothing to ask for below
    assert not play(harmed, "2013-03-11")
    slots = airflow._call("GET", "/api/v2/pools/training")["slots"]
    set_slots(airflow, 0)
    try:
        # By hand it is no request; it stands until the pool has a slot again. No verdict is of its partition.
        held = airflow.trigger(f"{NAME}.train", "held", partition=HISTORY)
        wait(lambda: is_waiting(airflow, held))
        for while_training, week in (("none", "2013-03-11"), ("one", "2013-02-25"), ("one", "2013-03-11")):
            set_policy(harmed, {"updates": "scheduled", "every_partitions": 1, "while_training": while_training})
            judge(airflow, week, while_training)
        airflow._call("PATCH", run_path(held), json={"state": "failed"})  # it has served its purpose
    finally:
        set_slots(airflow, slots)
        set_policy(harmed, POLICY)

    def asked() -> list[dict[str, Any]]:
        return [run for run in airflow.runs(f"{NAME}.train") if run["run_type"] == "asset_triggered"]

    wait(lambda: len(asked()) >= 2)  # each verdict has its run, if it may ask; Airflow takes a moment
    ended = [airflow.follow(run, lambda *_: None, 600) for run in asked()]
    assert sorted(run["partition_key"] for run in asked()) == ["2013-02-25", "2013-03-11"], "of the two that may ask"
    (trained,) = [run for run in ended if airflow.xcom(run, "gate", "verdict")]
    assert trained["partition_key"] == "2013-03-11", "the newer of the two"
    assert airflow.xcom(trained, "label")["left_out"]["quarantined partition"] > 0


def set_policy(problem: Problem, policy: dict[str, Any]) -> None:
    path = problem.folder / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["monitoring"]["policy"] = policy
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def judge(airflow: AirflowClient, week: str, run_id: str) -> dict[str, Any]:
    """The run of the monitor DAG that judges a scored week once more."""
    run = airflow.trigger(f"{NAME}.monitor", f"{run_id}__{week}", partition=week)
    ended = airflow.follow(run, lambda *_: None, 600)
    assert ended["state"] == "success"
    return ended


def set_slots(airflow: AirflowClient, slots: int) -> None:
    pool = {"pool": "training", "slots": slots, "include_deferred": False}
    airflow._call("PATCH", "/api/v2/pools/training", json=pool, params={"update_mask": "slots"})


def is_waiting(airflow: AirflowClient, run: dict[str, Any]) -> bool:
    waiting = {one["task_id"] for one in airflow._tasks(run_path(run)) if one["state"] in ("scheduled", "queued")}
    return "train" in waiting


def test_a_changed_world_ends_in_a_training_whose_model_wins_its_gate(airflow: AirflowClient, harmed: Problem) -> None:
    before = str(tracking.serving(harmed).version)
    weeks = ("2013-03-18", "2013-03-25", "2013-04-01", "2013-04-08", "2013-04-15")
    for week in weeks:
        if not play(harmed, week):
            continue
        assert airflow.xcom(judge(airflow, week, "in_airflow"), "act")["partition"] == week
        airflow.follow(airflow.wait_for(f"{NAME}.train", week, 600), lambda *_: None, 600)
        if str(tracking.serving(harmed).version) != before:
            break
    asked = [row for row in decisions(harmed).values() if row["partition"] == week][-1]
    assert asked["action"] in ("retrain", "continue"), asked["reason"]
    assert "concept drift" in {one["kind"] for one in asked["evidence"]["diagnosis"]["findings"]}
    gates = [row for row in ledger.decisions(harmed, "gate") if row["partition"] == week]
    assert gates[-1]["verdict"] == "passed"
    assert str(tracking.serving(harmed).version) != before
