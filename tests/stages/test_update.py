"""Trainings that go on from the champion, that begin at some partition, that pass over what is held."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from pipelines import ledger, local_run, quarantine, store, tracking
from pipelines.dataset.label import splits
from pipelines.errors import ConfigError, DataError, NothingToDo
from pipelines.paths import version_uri
from pipelines.problem import load_problem
from pipelines.release.reproduce import reproduce
from pipelines.release.versions import taught
from pipelines.stages import function_of, stage
from pipelines.training import beyond_memory
from tests.handed_on import featurized
from tests.stages.conftest import HISTORY, WEEKS, configure, let_in

pytestmark = pytest.mark.slow

NEWER = (WEEKS[0], WEEKS[2])


@pytest.fixture
def newer(loop_after: Callable[..., str]) -> str:
    """Three more weeks: two are newer than what the champion has learnt from and may be learnt from."""
    loop = loop_after(3, is_bulk=True)
    let_in(loop)
    return loop


def asked(problem: str, partition: str, action: str, **evidence: Any) -> None:
    ledger.record(
        load_problem(problem),
        decision=f"monitoring:{partition}",
        kind="monitoring",
        partition=partition,
        verdict="v",
        action=action,
        reason="r",
        evidence=evidence,
    )


def lineage(problem: str, version: str) -> dict[str, Any]:
    found: dict[str, Any] = store.read_json(version_uri(load_problem(problem), version, "lineage.json"))
    return found


# On top of the champion ---------------------------------------------------------------------------------


def test_a_champion_is_continued_on_newer_rows_alone_and_gated_as_ever(newer: str) -> None:
    config = load_problem(newer)
    first = lineage(newer, "1")
    learnt = first["splits"]["train"]["partitions"]
    done = local_run.train(newer, how="continue")
    assert (done.version, done.replaced) == ("2", "1")
    made_of = lineage(newer, "2")
    assert (made_of["how"], made_of["parent"]) == ("continue", "1")
    new = made_of["splits"]["train"]["partitions"]
    assert new and min(new) > max(learnt), "and of the old rows none is read"
    assert taught(config, "2").partitions == sorted([*learnt, *new])
    run_id = tracking.serving(config).run_id
    assert [tracking.run_tag(run_id, name) for name in ("how", "builds_on")] == ["continue", "1"]
    assert "continued from version 1" in store.read_bytes(version_uri(config, "2", "card.md")).decode()
    gate = ledger.decisions(config, "gate")[-1]["evidence"]
    told = {check["name"]: check for check in gate["checks"]}
    assert told["learnt from enough"]["reason"] == "the challenger goes on from version 1"
    assert "rows that both have learnt from" in told["nothing forgotten"]["reason"], "the old rows are looked at"
    assert gate["evaluation"]["learnt"]["shared"]["rows"] > 0
    before, after = (tracking.load_model(run) for run in (first["run_id"], run_id))
    assert after.estimator.rounds_ > before.estimator.rounds_
    reference = store.read_json(version_uri(config, "2", "reference.json"))["reference"]
    assert set(learnt) <= set(reference["partitions"]), "what was usual is known for as long as before"

    made = reproduce(newer, "2")
    assert made.identical and made.builds_on == "1"
    assert local_run.score(newer, NEWER[1]).version == "2"


def test_a_champion_is_recalibrated_on_training_and_validation_rows(newer: str) -> None:
    config = load_problem(newer)
    local_run.train(newer, how="recalibrate")
    made_of = lineage(newer, "2")
    model = tracking.load_model(made_of["run_id"])
    splits = made_of["splits"]
    assert model.fitted_rows == splits["train"]["rows"] + splits["validation"]["rows"]
    assert model.calibration is not None
    assert taught(config, "2") == taught(config, "1"), "its trees have learnt nothing"
    assert reproduce(newer, "2").identical
    again = stage("train.label")(newer, how="continue")
    assert again.builds_on.learnt_until == max(taught(config, "1").partitions)


def test_a_recalibration_learns_from_as_many_partitions_as_it_is_told(newer: str) -> None:
    configure(newer, lambda raw: raw["training"].update(update={"recalibrate_partitions": 1}))
    one = stage("train.label")(newer, how="recalibrate")
    configure(newer, lambda raw: raw["training"].update(update={"recalibrate_partitions": 2}))
    two = stage("train.label")(newer, how="recalibrate")
    assert two.window_from < one.window_from


def test_only_the_champions_candidate_is_trained_and_the_baselines(newer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(newer, lambda raw: raw["training"]["candidates"].update(logistic={"model": "logistic"}))
    checked = stage("train.check")(newer, featurized(newer, stage("train.label")(newer, how="continue")))
    with pytest.raises(NothingToDo, match="version 1 is updated, which is xgboost"):
        stage("train.train")(newer, checked, "logistic")
    baseline = stage("train.train")(newer, checked, "prior")
    assert tracking.run_tag(baseline.run_id, "how") == "scratch"
    with pytest.raises(NothingToDo, match="there is no challenger"):
        stage("train.evaluate")(newer, checked, [baseline])
    first = stage("train.train")(newer, checked, "xgboost")
    assert stage("train.train")(newer, checked, "xgboost").run_id == first.run_id, "a retry finds it"

    # Beyond memory, where a training from scratch would have left it out, it is the update that logistic gives way to.
    for module in (beyond_memory, sys.modules[function_of("train.train").__module__]):
        monkeypatch.setattr(module, "is_large", lambda problem, rows: True)
    assert [*beyond_memory.left_out(load_problem(newer), checked.splits["train"])] == ["logistic"]
    with pytest.raises(NothingToDo, match="version 1 is updated, which is xgboost"):
        stage("train.train")(newer, checked, "logistic")
    assert stage("train.train")(newer, checked, "xgboost").run_id == first.run_id
    others = [name for name in load_problem(newer).training.baselines if name != "prior"]
    baselines = [baseline, *(stage("train.train")(newer, checked, name) for name in others)]
    evaluated = stage("train.evaluate")(newer, checked, [*baselines, first])
    evaluation = store.read_json(evaluated.evaluation)
    assert (evaluation["builds_on"], evaluation["left_out"]) == ("1", {})


def test_nothing_new_is_nothing_to_do(loop: str) -> None:
    with pytest.raises(NothingToDo, match="has learnt from partitions up to 2012-12-31"):
        stage("train.label")(loop, how="continue")


def test_what_cannot_be_updated_says_so_before_anything_is_done(newer: str) -> None:
    with pytest.raises(ConfigError, match="how: 'again' is no way to train"):
        stage("train.label")(newer, how="again")
    with pytest.raises(ConfigError, match="names no partition"):
        stage("train.label")(newer, window_from="2013-01-08")
    configure(newer, lambda raw: raw["training"].update(update={"max_rounds": 5}))
    with pytest.raises(ConfigError, match=r"version 1 cannot be updated so: it has \d+ rounds"):
        stage("train.label")(newer, how="continue")
    configure(newer, lambda raw: raw["features"]["columns"].remove("temp"))
    with pytest.raises(ConfigError, match="version 1 has other features"):
        stage("train.label")(newer, how="recalibrate")


# A window -----------------------------------------------------------------------------------------------


def test_a_training_begins_where_it_is_told_and_its_set_is_another(newer: str) -> None:
    (whole,) = stage("train.sample")(newer, stage("train.label")(newer))
    (window,) = stage("train.sample")(newer, stage("train.label")(newer, window_from="2013-01-14"))
    assert window.training_set != whole.training_set
    assert 0 < window.splits["train"] < whole.splits["train"]
    assert window.splits["test"] == whole.splits["test"]
    assert (
        stage("train.sample")(newer, stage("train.label")(newer, window_from="2013-01-14"))[0].training_set
        == window.training_set
    )
    with pytest.raises(DataError, match="none from 2013-02-25 on"):
        stage("train.label")(newer, window_from="2013-02-25")


def test_a_version_of_a_window_is_let_in_and_made_again(newer: str) -> None:
    configure(newer, lambda raw: raw["gate"].update(min_learnt_share=1.0))
    done = local_run.train(newer, window_from="2013-01-14")
    checks = ledger.decisions(load_problem(newer), "gate")[-1]["evidence"]["checks"]
    assert any(
        check["reason"] == "the challenger was to learn from 2013-01-14 on and from nothing before" for check in checks
    )
    made = reproduce(newer, done.version)
    assert made.identical and not [line for line in made.differences if line.startswith("rows of")]


# The monitor asks ---------------------------------------------------------------------------------------


def test_the_ledger_says_what_the_monitor_asked_for(newer: str) -> None:
    asked(newer, "2013-02-18", "continue")
    asked(newer, "2013-02-25", "retrain", window_from="2013-01-14")
    first, second = (stage("train.label")(newer, key, how=None) for key in ("2013-02-18", "2013-02-25"))
    assert (first.how, first.builds_on.version) == ("continue", "1")
    assert (second.how, second.window_from, second.builds_on) == ("scratch", "2013-01-14", None)
    assert stage("train.label")(newer, "2013-02-11", how=None).how == "scratch", "nothing was asked about it"
    asked(newer, "2013-02-04", "alert", window_from="2013-01-14")
    assert stage("train.label")(newer, "2013-02-11", how=None).window_from is None


def test_of_requests_that_wait_in_line_only_the_newest_is_carried_out(newer: str) -> None:
    asked(newer, "2013-02-18", "retrain")
    asked(newer, "2013-02-25", "recalibrate")
    with pytest.raises(NothingToDo, match="a newer request, 2013-02-25, waits"):
        stage("train.label")(newer, "2013-02-18", requested=True)
    assert stage("train.label")(newer, "2013-02-25", requested=True, how=None).how == "recalibrate"
    assert stage("train.label")(newer, "2013-02-18").how == "scratch", "by hand it is done all the same"
    ledger.record(
        load_problem(newer),
        decision="gate:x",
        kind="gate",
        partition="2013-02-25",
        verdict="failed",
        action="keep champion",
        reason="r",
        evidence={},
    )
    with pytest.raises(NothingToDo, match="trained for this request already"):
        stage("train.label")(newer, "2013-02-25", requested=True)
    assert stage("train.label")(newer, "2013-02-18", requested=True).partition == "2013-02-18", "none waits any more"


# Quarantine ---------------------------------------------------------------------------------------------


def test_held_partitions_are_in_no_split_and_are_counted(newer: str) -> None:
    config = load_problem(newer)
    (before,) = stage("train.sample")(newer, stage("train.label")(newer))
    newest_test = max(splits(config, NEWER[1], store.partition_keys(config, "events")))
    rows = store.dataset(config, "events").to_table(columns=["partition"])["partition"].to_pylist().count(newest_test)
    quarantine.hold(config, newest_test, "a sensor was dead", {})
    held = stage("train.label")(newer)
    assert held.held == [newest_test]
    assert held.left_out["quarantined partition"] == rows
    assert held.trained_until < before.trained_until, "the test split is of partitions that are not held"
    (after,) = stage("train.sample")(newer, held)
    assert after.training_set != before.training_set
    checked = stage("train.check")(newer, [stage("train.featurize")(newer, after)])
    sheet = store.read_bytes(checked.datasheet.replace(".html", ".md")).decode()
    assert "partition is held in quarantine" in sheet
    quarantine.readmit(config, newest_test, "it was not")
    assert stage("train.sample")(newer, stage("train.label")(newer))[0].training_set == before.training_set


def test_a_set_without_held_partitions_is_made_again_though_they_are_readmitted(newer: str) -> None:
    config = load_problem(newer)
    quarantine.hold(config, "2013-01-07", "a sensor was dead", {})
    done = local_run.train(newer)
    quarantine.readmit(config, "2013-01-07", "it was not")
    assert lineage(newer, done.version)["held"] == ["2013-01-07"]
    made = reproduce(newer, done.version)
    assert made.identical and not [line for line in made.differences if line.startswith("rows of")]


def test_all_held_leaves_nothing_and_says_why(newer: str) -> None:
    config = load_problem(newer)
    quarantine.hold_all(config, dict.fromkeys(config.partitions.between(HISTORY[0], "2013-02-11"), "a test"), {})
    with pytest.raises(DataError, match="are in quarantine"):
        stage("train.label")(newer)
