"""Decisions with the store behind them: readings, situation, ledger, and what is carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from pipelines import ledger, quarantine, store
from pipelines.config import Action
from pipelines.dataset.waiting import judgeable
from pipelines.errors import NothingToDo
from pipelines.handoffs.monitoring import Decided, Explained, Profiled
from pipelines.monitoring.decide.measure import measure
from pipelines.monitoring.decide.readings import Reading
from pipelines.monitoring.decide.weighing import Weighing
from pipelines.monitoring.detect.detection import NOTHING, Detection
from pipelines.monitoring.diagnose.finding import Diagnosis, Finding
from pipelines.paths import version_uri
from pipelines.problem import Problem, load_problem
from pipelines.stages import stage
from pipelines.stages.monitor import evidence
from pipelines.stages.monitor.past import Past, learnable_rows
from tests.handed_on import example
from tests.stages.conftest import PROBLEM, configure

pytestmark = pytest.mark.slow

BAD = Finding(kind="calibration drift", evidence="off", numbers={})
ALARM = Diagnosis(findings=(BAD,), labelled=("a", "b"), bad=("a", "b"))
CALM = Diagnosis(findings=(), labelled=("a", "b"), bad=())
NOTHING_DETECTED = Detection(detected=NOTHING, realised=())
FAULT = Finding(kind="data fault", evidence="half is empty", numbers={})


def given(partition: str, diagnosis: Diagnosis = ALARM) -> Explained:
    """What `explain` hands on."""
    explained = example(Explained, partition=partition, version="1", kinds=list(diagnosis.kinds))
    return explained.model_copy(update=kept(explained, diagnosis=diagnosis, detection=NOTHING_DETECTED))


def decided(partition: str = "2013-02-11", readings: Sequence[Reading] = (), **changes: Any) -> Decided:
    request = {"action": Action.RETRAIN, "verdict": "performance drop", "reason": "bad"}
    decision = example(Decided, **given(partition).model_dump(), **{**request, **changes})
    return decision.model_copy(update=kept(decision, weighing=Weighing(readings=tuple(readings))))


def kept(handed_on: Profiled, **pieces: BaseModel) -> dict[str, str]:
    """URIs of evidence, which is written as its stage does."""
    problem = load_problem(PROBLEM)
    return {name: evidence.keep(problem, handed_on, name, piece) for name, piece in pieces.items()}


def weighing(handed_on: Decided) -> Weighing:
    return evidence.read(Weighing, handed_on.weighing)


def manual(problem: str, updates: str, **more: Any) -> None:
    configure(problem, lambda raw: raw["monitoring"]["policy"].update(updates=updates, **more))


def test_an_alarm_is_measured_and_everything_stands_on_the_ledger(loop_after: Callable[..., str]) -> None:
    loop = loop_after(3)
    found = stage("monitor.decide")(loop, given("2013-02-25"))
    weighed = weighing(found)
    ways = {option.action: option for option in weighed.options}
    assert set(ways) == {"recalibrate", "continue", "retrain", "roll_back", "fall_back"}
    assert ways["recalibrate"].gain is not None and ways["fall_back"].gain is not None
    assert ways["fall_back"].why_not and ways["roll_back"].why_not == "there is no version before"
    assert {reading.partition for reading in weighed.readings} == {"2013-02-18"}
    assert {reading.way: reading.age for reading in weighed.readings}["retrain"] == 3
    again = weighing(stage("monitor.decide")(loop, given("2013-02-25")))
    assert again.readings == weighed.readings, "the same every time"
    try:
        stage("monitor.act")(loop, found)
    except NothingToDo:
        assert found.action not in ("retrain", "continue", "recalibrate")
    (row,) = ledger.decisions(load_problem(loop), "monitoring")
    of_row = {name: row["evidence"][name] for name in ("options", "readings")}
    assert of_row == weighed.model_dump(mode="json")
    later = stage("monitor.decide")(loop, given("2013-03-04", CALM))
    assert [option.action for option in weighing(later).options if option.gain is not None], "earlier readings count"
    quiet = weighing(stage("monitor.decide")(loop, given("2013-02-25", CALM)))
    assert {reading.way for reading in quiet.readings} <= {"retrain", "continue"}, (
        "nobody asks what an alarm would open"
    )


def readings_of(problem: Problem, partition: str) -> list[Reading]:
    return measure(Past("1", judgeable(problem, partition)), [], is_bad=False).readings


def test_rows_of_a_reading_are_what_was_known(loop: str) -> None:
    config = load_problem(loop)
    rows = learnable_rows(config, "2013-02-04", ["2012-12-31", "2013-01-28"])
    assert set(rows["partition"].to_pylist()) == {"2012-12-31", "2013-01-28"}
    assert rows["label"].null_count == 0 and rows.num_rows > 8_000
    assert learnable_rows(config, "2013-01-28", ["2013-01-28"]).num_rows == 0, "no label had come"
    few = learnable_rows(config, "2013-02-04", ["2013-01-28"], most=500)
    assert 200 < few.num_rows < 900 and set(few["flight_id"].to_pylist()) <= set(rows["flight_id"].to_pylist())


def test_a_champion_of_today_has_no_age(loop: str) -> None:
    assert readings_of(load_problem(loop), "2013-02-04") == []


def test_a_refitted_champion_is_not_held_stale_by_less_than_it_has_learnt(loop_after: Callable[..., str]) -> None:
    """On a partition that came while it was trained it is as fresh as a model can be; a training of then knew less."""
    loop = loop_after(2)
    stale = readings_of(load_problem(loop), "2013-02-18")
    assert "retrain" in {reading.way for reading in stale}, "of one that has learnt less, age is measured"
    configure(loop, lambda raw: raw["training"].update(refit=True))
    config = load_problem(loop)
    uri = version_uri(config, "1", "lineage.json")
    learnt = config.partitions.between("2012-12-31", "2013-02-04")
    store.write_json(uri, store.read_json(uri) | {"refit": {"rows": {"partitions": learnt}}})
    assert readings_of(config, "2013-02-18") == []


@pytest.mark.parametrize(("updates", "action"), [("manual", "alert"), ("scheduled", "retrain")])
def test_who_asks_follows_the_config(loop: str, updates: str, action: str) -> None:
    manual(loop, updates, every_partitions=2)
    found = stage("monitor.decide")(loop, given("2013-02-18"))
    assert (found.action, weighing(found).readings) == (action, ())
    manual(loop, updates, every_partitions=9)
    assert stage("monitor.decide")(loop, given("2013-02-18")).action == "alert"


def test_a_request_cools_down(loop: str) -> None:
    manual(loop, "continual", costs=dict.fromkeys(["recalibrate", "continue", "roll_back", "fall_back"], 99))
    config = load_problem(loop)
    worth_it = Reading(way=Action.RETRAIN, partition="2013-01-28", version="1", value=1.0, age=1)
    with pytest.raises(NothingToDo):
        stage("monitor.act")(loop, decided("2013-02-04", [worth_it], action=Action.ALERT))
    assert stage("monitor.decide")(loop, given("2013-02-25")).action == "retrain"
    stage("monitor.act")(loop, decided("2013-02-11"))
    cooling = stage("monitor.decide")(loop, given("2013-02-25"))
    assert cooling.action == "alert" and "cooling down" in cooling.reason
    later = config.partitions.shift("2013-02-11", config.monitoring.policy.cool_down_partitions)
    assert stage("monitor.decide")(loop, given(later)).action == "retrain"


def test_a_request_waits_for_the_training_that_runs(loop: str) -> None:
    for while_training, action in (("one", "retrain"), ("none", "alert")):
        manual(loop, "scheduled", every_partitions=1, while_training=while_training)
        assert stage("monitor.decide")(loop, given("2013-02-18"), trainings=1).action == action
        assert stage("monitor.decide")(loop, given("2013-02-18")).action == "retrain"


def test_a_request_is_made_until_it_was_carried_out(loop: str) -> None:
    assert stage("monitor.act")(loop, decided()).action == "retrain"
    assert stage("monitor.act")(loop, decided()).action == "retrain", (
        "a try that died before its event was sent asks again"
    )
    config = load_problem(loop)
    ledger.record(
        config,
        decision="gate:x",
        kind="gate",
        partition="2013-02-11",
        verdict="failed",
        action="keep champion",
        reason="worse",
        evidence={},
    )
    with pytest.raises(NothingToDo, match="a model has been trained for this partition already"):
        stage("monitor.act")(loop, decided())
    assert len(ledger.decisions(config, "monitoring")) == 1


@pytest.mark.parametrize("action", ["none", "alert"])
def test_what_asks_for_no_training_ends_there(loop: str, action: str) -> None:
    with pytest.raises(NothingToDo, match="performance drop"):
        stage("monitor.act")(loop, decided(action=Action(action)))
    assert ledger.decisions(load_problem(loop), "monitoring")[-1]["action"] == action


def test_a_window_reaches_the_ledger(loop: str) -> None:
    stage("monitor.act")(loop, decided(action=Action.CONTINUE, window_from="2013-01-14"))
    assert ledger.decisions(load_problem(loop), "monitoring")[-1]["evidence"]["window_from"] == "2013-01-14"


def test_a_partition_at_fault_is_held(loop: str) -> None:
    at_fault = given("2013-02-11", CALM.model_copy(update={"findings": (FAULT,)}))
    found = stage("monitor.decide")(loop, at_fault)
    assert found.action == "quarantine"
    with pytest.raises(NothingToDo, match="data fault"):
        stage("monitor.act")(loop, found)
    assert quarantine.held(load_problem(loop)) == {"2013-02-11"}
    manual(loop, "continual", quarantine=False)
    assert stage("monitor.decide")(loop, at_fault).action == "alert"


def test_a_baseline_serves_where_that_was_decided(loop: str) -> None:
    from pipelines import tracking

    with pytest.raises(NothingToDo, match="baseline model serves"):
        stage("monitor.act")(loop, decided(action=Action.FALL_BACK))
    assert tracking.serving(load_problem(loop)).tags["candidate"] in load_problem(loop).training.baselines
