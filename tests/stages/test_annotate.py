from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from pipelines import ledger, sql, store, tracking
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import labels_as_known
from pipelines.errors import ConfigError, DataError, NothingToDo
from pipelines.handoffs.annotation import Chosen
from pipelines.labeling.hand import parameter
from pipelines.problem import Problem, load_problem
from pipelines.release.versions import write_version_files
from pipelines.stages import stage
from pipelines.training.fit import fit
from tests.mlflow_database import mlflow_in

pytestmark = pytest.mark.slow

KETTLE = "kettle"
DAYS = 5  # ingested, from 2024-01-01; labels of the first three are known
NEWEST = "2024-01-05"
PER_DAY = 60
ADA, BOB, EVE = ({"id": name, "name": name} for name in ("ada", "bob", "eve"))


@pytest.fixture
def write(
    toy: Callable[..., Problem], tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Problem]:
    """Write the toy problem with changed settings; its data lies in the past."""
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_in(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problems" / KETTLE).mkdir(parents=True)

    def written(**changes: Any) -> Problem:
        raw = toy(**{"partitions.last": "2024-01-31", **changes}).model_dump(mode="json")
        (tmp_path / "problems" / KETTLE / "problem.yaml").write_text(yaml.safe_dump(raw))
        return load_problem(KETTLE)

    return written


def fill(problem: Problem) -> np.ndarray:
    """Five days of kettles; full ones boil over. Gives the truth of all."""
    rng = np.random.default_rng(0)
    count = DAYS * PER_DAY
    litres = rng.uniform(0, 5, count)
    truth = (litres + rng.normal(0, 0.6, count) > 2.5).astype(int)
    day = np.repeat(np.arange(DAYS), PER_DAY)
    times = [
        datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=int(d), minutes=int(m))
        for d, m in zip(day, np.tile(np.arange(PER_DAY), DAYS), strict=True)
    ]
    keys = [f"2024-01-{d + 1:02d}" for d in day]
    shared = {
        "superseded_time": [None] * count,
        "withdrawn_time": [None] * count,
        "event_time": times,
        "kettle_id": [f"k{row:03d}" for row in range(count)],
    }
    events = shared | {
        "partition": keys,
        "known_time": times,
        "cutoff_time": times,
        "statement": [0] * count,
        "shelf": rng.choice(["top", "bottom"], count).tolist(),
        "litres": litres.tolist(),
        "age": rng.integers(0, 9, count).tolist(),
    }
    labels = shared | {
        "partition": keys,
        "known_time": [time + timedelta(hours=1) for time in times],
        "label": truth.tolist(),
        "source": ["natural"] * count,
        "confidence": [1.0] * count,
        "labeler": [""] * count,
    }
    schema = table_schema(problem, "events")
    store.write_table(problem, "events", pa.table(events).select(schema.names).cast(schema), sorted(set(keys)))
    schema = table_schema(problem, "labels")
    known = pa.table(labels).select(schema.names).cast(schema).slice(0, 3 * PER_DAY)
    store.write_table(problem, "labels", known, sorted(set(keys[: 3 * PER_DAY])), within="natural")
    return truth


def labels_of(problem: Problem, source: str) -> pa.Table:
    return store.dataset(problem, "labels").to_table(filter=pc.field("source") == source).sort_by("kettle_id")


def number(key: str) -> int:
    return int(key[1:])


# Weak supervision ----------------------------------------------------------------------------------------

WEAK = {
    "functions": {
        "full": {"sql": "CASE WHEN litres > 2.8 THEN 1 END"},
        "empty": {"sql": "CASE WHEN litres < 2.2 THEN 0 END"},
        "half": {"sql": "litres > 2.5"},
        "age": {"sql": "CASE WHEN age > 6 THEN age % 2 END"},
    }
}


def test_functions_vote_and_state_labels(write: Callable[..., Problem]) -> None:
    problem = write(**{"labels.weak": WEAK, "labels.use": ["natural", "weak"]})
    truth = fill(problem)
    result = stage("annotate.vote")(KETTLE)
    assert (result.partition, result.events, result.voted) == (NEWEST, 300, 300)
    stated = labels_of(problem, "weak")
    assert stated.num_rows == result.labelled > 250
    assert np.mean(truth[[number(key) for key in stated["kettle_id"].to_pylist()]] == stated["label"].to_numpy()) > 0.85
    assert set(stated["labeler"].to_pylist()) == {"dawid_skene"}
    assert set(stated["partition"].to_pylist()) == {NEWEST}
    assert min(stated["confidence"].to_pylist()) >= 0.6
    present = datetime(2024, 1, 6, tzinfo=UTC)
    assert set(stated["known_time"].to_pylist()) == {present - timedelta(microseconds=1)}
    votes = store.dataset(problem, "votes").to_table()
    assert votes.num_rows == sum(result.functions.values())
    assert set(votes["batch"].to_pylist()) == {f"functions:{NEWEST}"}
    assert set(votes["kind"].to_pylist()) == {"function"}
    html = store.read_bytes(result.report).decode()
    assert result.report.endswith(f"reports/{NEWEST}/weak_supervision.html")
    assert all(name in html for name in WEAK["functions"])
    assert "on events" in html
    assert "180" in html, "functions are measured where the truth is known"


def test_truth_wins_over_what_functions_say(write: Callable[..., Problem]) -> None:
    problem = write(**{"labels.weak": WEAK, "labels.use": ["natural", "weak"]})
    truth = fill(problem)
    stage("annotate.vote")(KETTLE)
    known = sql.query(
        labels_as_known(problem, problem.labels.use),
        {"labels": store.dataset(problem, "labels")},
        {"as_of": datetime(2024, 1, 6, tzinfo=UTC)},
    )
    of = {row["kettle_id"]: row for row in known.to_pylist()}
    assert {row["source"] for key, row in of.items() if number(key) < 180} == {"natural"}
    assert {row["source"] for key, row in of.items() if number(key) >= 180} == {"weak"}
    assert all(row["label"] == truth[number(key)] for key, row in of.items() if number(key) < 180)


def test_voting_again_changes_nothing_and_leaves_natural_labels(write: Callable[..., Problem]) -> None:
    problem = write(**{"labels.weak": WEAK})
    fill(problem)
    stage("annotate.vote")(KETTLE)
    before = [labels_of(problem, source) for source in ("weak", "natural")]
    stage("annotate.vote")(KETTLE)
    assert [labels_of(problem, source) for source in ("weak", "natural")] == before
    stage("annotate.vote")(KETTLE, "2024-01-02")
    stated = labels_of(problem, "weak")
    assert stated["kettle_id"].to_pylist() == sorted(set(stated["kettle_id"].to_pylist())), "one statement per event"
    assert stated.num_rows > 250, "those about other events stay"


def test_below_the_confidence_an_event_has_no_label(write: Callable[..., Problem]) -> None:
    problem = write(**{"labels.weak": WEAK | {"combine": "majority", "min_confidence": 1.0}})
    fill(problem)
    result = stage("annotate.vote")(KETTLE)
    assert 0 < result.labelled < 300
    assert set(labels_of(problem, "weak")["confidence"].to_pylist()) == {1.0}


# People ---------------------------------------------------------------------------------------------------


def hand(**changes: Any) -> dict[str, Any]:
    return {"labels.hand": {"question": "Did it boil over?", "batch": 6, "annotators": 3, "choose": "random"} | changes}


def reply(user: dict[str, str] | None, chosen: Chosen, say: Callable[[int], str]) -> dict[str, Any]:
    said = {parameter(position): say(number(key)) for position, key in enumerate(chosen.events, start=1)}
    return {
        "chosen_options": ["OK"],
        "params_input": said,
        "responded_by_user": user,
        "responded_at": datetime.now(UTC),
    }


def test_people_are_asked_about_events_without_a_label(write: Callable[..., Problem]) -> None:
    fill(write(**hand()))
    chosen = stage("annotate.choose")(KETTLE)
    assert len(chosen.events) == len(set(chosen.events)) == 6
    assert all(number(key) >= 180 for key in chosen.events)
    assert len(chosen.forms) == 3
    assert len(chosen.forms[0].params) == 6
    assert chosen.partition == NEWEST
    only_old = stage("annotate.choose")(KETTLE, "2024-01-04")
    assert all(180 <= number(key) < 240 for key in only_old.events)
    with pytest.raises(NothingToDo, match="every event has its label"):
        stage("annotate.choose")(KETTLE, "2024-01-03")


def test_what_people_answer_becomes_labels(write: Callable[..., Problem]) -> None:
    problem = write(**hand())
    truth = fill(problem)
    chosen = stage("annotate.choose")(KETTLE)
    right = ["positive" if one else "negative" for one in truth]
    turned = ["negative" if one else "positive" for one in truth]
    odd = number(chosen.events[0])
    responses = [
        reply(ADA, chosen, lambda row: right[row]),
        reply(BOB, chosen, lambda row: turned[row] if row == odd else right[row]),
        reply(None, chosen, lambda row: "cannot tell"),  # ran out of time
        None,
    ]
    result = stage("annotate.collect")(KETTLE, chosen, responses)
    assert (result.people, result.votes, result.labelled) == (["ada", "bob"], 12, 5)
    stated = labels_of(problem, "hand")
    assert chosen.events[0] not in stated["kettle_id"].to_pylist(), "one against one is no label"
    assert all(row["label"] == truth[number(row["kettle_id"])] for row in stated.to_pylist())
    assert set(stated["labeler"].to_pylist()) == {"ada, bob"}
    assert set(stated["confidence"].to_pylist()) == {1.0}

    again = stage("annotate.choose")(KETTLE)
    assert not set(again.events) & set(stated["kettle_id"].to_pylist()), "labelled events are not asked about again"

    first_alone = {"events": chosen.events[:1], "event_times": chosen.event_times[:1]}
    third = chosen.model_copy(update={"batch": "people:other", **first_alone})
    assert stage("annotate.collect")(KETTLE, third, [reply(EVE, third, lambda row: right[row])]).labelled == 1
    stated = labels_of(problem, "hand")
    assert stated.num_rows == 6, "statements of the batch before stay"
    (decided,) = [row for row in stated.to_pylist() if row["kettle_id"] == chosen.events[0]]
    assert (decided["label"], decided["labeler"]) == (truth[odd], "ada, bob, eve")
    assert decided["confidence"] == pytest.approx(2 / 3)


def test_collecting_twice_writes_the_same(write: Callable[..., Problem]) -> None:
    problem = write(**hand(combine="dawid_skene"), **{"partitions.last": None})
    fill(problem)
    chosen = stage("annotate.choose")(KETTLE)
    responses = [reply(who, chosen, lambda row: "positive") for who in (ADA, BOB)]
    stage("annotate.collect")(KETTLE, chosen, responses)
    tables = [store.dataset(problem, name).to_table() for name in ("votes", "labels")]
    stage("annotate.collect")(KETTLE, chosen, responses)
    again = [store.dataset(problem, name).to_table() for name in ("votes", "labels")]
    for one, two in zip(tables, again, strict=True):
        order = [("kettle_id", "ascending"), ("known_time", "ascending"), (one.column_names[3], "ascending")]
        assert one.sort_by(order).to_pylist() == two.sort_by(order).to_pylist()


def test_no_answer_is_nothing_to_do(write: Callable[..., Problem]) -> None:
    problem = write(**hand())
    fill(problem)
    chosen = stage("annotate.choose")(KETTLE)
    nothing = [None, reply(None, chosen, lambda row: "positive"), reply(ADA, chosen, lambda row: "cannot tell")]
    with pytest.raises(NothingToDo, match="nobody has told"):
        stage("annotate.collect")(KETTLE, chosen, nothing)
    assert store.table_version(problem, "votes") is None


def test_without_labels_by_maturity_events_may_count_as_negative(write: Callable[..., Problem]) -> None:
    changes = {"labels.after_maturity": "negative", "labels.maturity_days": 1, "labels.delay_days": 0}
    fill(write(**hand(batch=100), **changes))
    asked = stage("annotate.choose")(KETTLE).events
    assert {number(key) >= 240 for key in asked} == {True}, "2024-01-04 is mature: it is negative, and nobody is asked"


# Models ---------------------------------------------------------------------------------------------------

LEARNERS = {
    "features.columns": ["litres", "age"],
    "features.history": {},
    "training.candidates": {
        "prior": {"model": "prior"},
        "logistic": {"model": "logistic"},
        "xgboost": {"model": "xgboost", "parameters": {"n_estimators": 20, "max_depth": 2, "learning_rate": 0.3}},
    },
}


def train(problem: Problem, names: tuple[str, ...] = ("prior", "logistic", "xgboost"), gated: bool = True) -> None:
    """Candidates in MLflow as the train DAG leaves them; logistic serves."""
    rows = store.dataset(problem, "events").to_table().sort_by("kettle_id").slice(0, 180)
    rows = rows.append_column("label", labels_of(problem, "natural")["label"])
    rows = rows.append_column("weight", pa.array(np.ones(rows.num_rows)))
    for name in names:
        run_id, _ = tracking.log_candidate(
            problem,
            name,
            fit(problem, name, rows, rows),
            tags={"training": "t1", "candidate": name, "partition": NEWEST, "training_set": "s"},
            parameters={},
            metrics={},
            dataset_uri="file:///nowhere",
            dataset_version=0,
            example=rows.select(problem.feature_names).slice(0, 3),
            files={},
        )
        if name == "logistic":
            version = tracking.register(problem, run_id, {})
            config = problem.model_dump(mode="json")
            write_version_files(problem, version, {"problem.json": config, "reference.json": {}})
            tracking.promote(problem, version)
    ledger.record(
        problem,
        decision="gate:t1",
        kind="gate",
        partition=NEWEST,
        verdict="passed",
        action="register",
        reason="",
        evidence={"evaluation": {"training": "t1", "candidates": dict.fromkeys(["prior", "logistic", "xgboost"])}},
    )


@pytest.mark.parametrize("strategy", ["uncertainty", "disagreement"])
def test_before_there_is_a_model_events_are_random(write: Callable[..., Problem], strategy: str) -> None:
    fill(write(**hand(choose=strategy), **LEARNERS))
    chosen = stage("annotate.choose")(KETTLE)
    assert len(chosen.events) == 6
    assert "at random" in chosen.verdict


def test_models_choose_what_they_are_unsure_of(write: Callable[..., Problem]) -> None:
    problem = write(**hand(choose="uncertainty"), **LEARNERS)
    fill(problem)
    train(problem)
    litres = {row["kettle_id"]: row["litres"] for row in store.dataset(problem, "events").to_table().to_pylist()}
    chosen = stage("annotate.choose")(KETTLE)
    assert "version 1 is least sure" in chosen.verdict
    assert all(2.0 < litres[key] < 3.0 for key in chosen.events), "the toss-ups lie in the middle"
    assert stage("annotate.choose")(KETTLE).events == chosen.events

    schema = table_schema(problem, "predictions")
    unsure = [f"k{row}" for row in range(290, 296)]
    predictions = pa.table(
        {
            "kettle_id": unsure,
            "partition": [NEWEST] * 6,
            "event_time": [datetime(2024, 1, 5, tzinfo=UTC)] * 6,
            "score": [0.5] * 6,
            "decision": ["1"] * 6,
            "probabilities": [None] * 6,
            "model_version": ["1"] * 6,
            "variant": ["champion"] * 6,
            "scored_time": [datetime(2024, 1, 6, tzinfo=UTC)] * 6,
            **dict.fromkeys(("experiment", "unit", "propensity"), [None] * 6),
        }
    )
    store.write_table(problem, "predictions", predictions.cast(schema), [NEWEST])
    assert sorted(stage("annotate.choose")(KETTLE).events) == unsure, "scores that are there are not made again"

    write(**hand(choose="disagreement"), **LEARNERS)
    chosen = stage("annotate.choose")(KETTLE)
    assert "logistic, xgboost disagree most" in chosen.verdict
    assert len(chosen.events) == 6


def test_a_committee_that_is_gone_is_told(write: Callable[..., Problem]) -> None:
    problem = write(**hand(choose="disagreement"), **LEARNERS)
    fill(problem)
    train(problem, ("logistic",))
    with pytest.raises(DataError, match="the run of candidate prior is gone"):
        stage("annotate.choose")(KETTLE)


def test_one_model_is_no_committee(write: Callable[..., Problem]) -> None:
    candidates = {name: LEARNERS["training.candidates"][name] for name in ("prior", "logistic")}  # type: ignore[index]
    problem = write(**hand(choose="disagreement"), **LEARNERS | {"training.candidates": candidates})
    fill(problem)
    train(problem, ("prior", "logistic"))
    evaluation = {"training": "t2", "candidates": {"prior": {}, "logistic": {}}}
    for name in ("prior", "logistic"):
        found = tracking.find_run(problem, {"training": "t1", "candidate": name})
        assert found is not None
        tracking.annotate(found[0], tags={"training": "t2"})
    ledger.record(
        problem,
        decision="gate:t2",
        kind="gate",
        partition=NEWEST,
        verdict="passed",
        action="register",
        reason="",
        evidence={"evaluation": evaluation},
    )
    with pytest.raises(ConfigError, match="1 candidate that learns"):
        stage("annotate.choose")(KETTLE)


def test_a_model_labels_what_it_is_sure_of(write: Callable[..., Problem]) -> None:
    problem = write(
        **LEARNERS,
        **{
            "labels.self_training": {"candidate": "xgboost", "threshold": 0.9},
            "labels.use": ["natural", "self_trained"],
        },
    )
    truth = fill(problem)
    result = stage("annotate.self_train")(KETTLE)
    assert (result.labelled_before, result.unlabelled) == (180, 120)
    stated = labels_of(problem, "self_trained")
    assert 40 < stated.num_rows == result.labelled < 120
    assert all(number(key) >= 180 for key in stated["kettle_id"].to_pylist())
    assert np.mean(truth[[number(key) for key in stated["kettle_id"].to_pylist()]] == stated["label"].to_numpy()) > 0.9
    assert set(stated["labeler"].to_pylist()) == {"xgboost"}
    stage("annotate.self_train")(KETTLE)
    assert labels_of(problem, "self_trained") == stated, "its own labels teach it nothing"


def nobody_was_asked() -> Chosen:
    return Chosen(batch="b", partition=NEWEST, partitions=[], events=[], event_times=[], forms=[], verdict="")


def test_what_is_not_declared_is_nothing_to_do(write: Callable[..., Problem]) -> None:
    fill(write())
    for name in ("annotate.vote", "annotate.choose", "annotate.self_train"):
        with pytest.raises(NothingToDo, match="declare"):
            stage(name)(KETTLE)
    with pytest.raises(NothingToDo, match="nobody is asked"):
        stage("annotate.collect")(KETTLE, nobody_was_asked(), [])


def test_nothing_ingested_is_told(write: Callable[..., Problem]) -> None:
    write(**{"labels.weak": WEAK}, **hand())
    for name in ("annotate.vote", "annotate.choose"):
        with pytest.raises(DataError, match="no events have been ingested"):
            stage(name)(KETTLE)
    with pytest.raises(ConfigError, match="names no partition"):
        stage("annotate.vote")(KETTLE, "yesterday")
