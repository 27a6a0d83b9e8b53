"""Runs that began before their stages handed on what they hand on today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipelines import ledger, store
from pipelines.errors import NothingToDo
from pipelines.evaluation.page.page import page
from pipelines.handoffs.ingestion import Published
from pipelines.handoffs.monitoring import Decided
from pipelines.handoffs.scoring import Shard
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.paths import train_staging_uri
from pipelines.problem import load_problem
from pipelines.stages import stage
from pipelines.stages.monitor import evidence
from tests.conftest import TOY
from tests.handed_on import example
from tests.stages.test_small_partitions import SCORED, lay_out

# What `featurize` handed on before a run pinned its config: as it stands in the XCom of a run that is on.
HANDED_ON = {
    "partition": "2024-01-08",
    "as_of": "2024-01-09T00:00:00+00:00",
    "training": "1",
    "trained_until": "2024-01-06",
    "events_version": 3,
    "labels_version": 3,
    "how": "scratch",
    "window_from": None,
    "held": [],
    "held_out": {"validation": 1, "test": 2},
    "builds_on": None,
    "waiting": [],
    "rows": 80,
    "left_out": {"no label": 2, "quarantined partition": 0},
    "too_young": ["2024-01-08"],
    "training_set": "2",
    "training_set_version": 1,
    "splits": {"train": 50, "validation": 10, "test": 20},
    "not_drawn": 0,
    "feature_set": "abc",
    "features_version": 1,
}

# What `estimate` and `decide` handed on before the monitor's evidence was kept in the store. Each stage passed on what
# the ones before it had found: the results of the others are parts of what `decide` gave.
WHOLE = json.loads((Path(__file__).parent / "monitor" / "handed_on_whole.json").read_text())
DETECTED = ("partition", "version", "rows", "late", "detected", "realised", "waiting")
DIAGNOSED = (*DETECTED, "label_shift", "concept", "feedback", "diagnosis")
EXPLAINED = (*DIAGNOSED, "explained")


def test_a_training_that_was_checked_before_it_was_said_what_its_rows_show_goes_on(
    tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "problems" / "kettle"
    folder.mkdir(parents=True)
    (folder / "problem.yaml").write_text(yaml.safe_dump(TOY))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
    leaks = {"checked": True, "findings": []}
    store.write_json(f"{train_staging_uri(load_problem('kettle'), '1')}.done.json", {"leaks": leaks})
    checked = stage("train.check")("kettle", [HANDED_ON])
    assert (checked.leaks.model_dump(), checked.power) == (leaks, None)
    assert b"Differences that the rows show" in page({"power": checked.power})


def test_a_scoring_and_an_ingest_that_began_before_hand_on_what_they_handed_on_then() -> None:
    shard = {"partition": "2024-01-08", "shard": 0, "shards": 1, "version": "1", "run_id": "r", "as_of": "2024-01-09"}
    shard |= {"events_version": 3, "labels_version": 3}
    assert Shard.model_validate(shard).events is None, "`publish` counts them"
    published = example(Published).model_dump(mode="json", exclude={"summary"}) | {"line": "12 events published"}
    assert Published.model_validate(published).line() == "12 events published"


@pytest.mark.slow
def test_a_monitoring_that_handed_on_its_evidence_whole_goes_on_from_any_stage(
    tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "problems" / "kettle"
    folder.mkdir(parents=True)
    monitoring = {"policy": {"updates": "manual"}, "report_rows": None}
    (folder / "problem.yaml").write_text(yaml.safe_dump(TOY | {"monitoring": monitoring}))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
    problem = load_problem("kettle")
    lay_out(problem, inverted=SCORED[2:])
    for key in SCORED[:4]:
        stage("monitor.profile")("kettle", key)
    decided = WHOLE["decided"]
    detected, diagnosed, explained = (
        {name: decided[name] for name in names} for names in (DETECTED, DIAGNOSED, EXPLAINED)
    )

    named = stage("monitor.diagnose")("kettle", detected, WHOLE["estimated"])
    assert evidence.read(Diagnosis, named.diagnosis).model_dump(mode="json") == decided["diagnosis"]
    quiet = diagnosed | {"diagnosis": decided["diagnosis"] | {"findings": []}}
    assert stage("monitor.explain")("kettle", quiet).since is None
    again = stage("monitor.decide")("kettle", explained)
    assert {name: getattr(again, name) for name in ("verdict", "action", "reason")} == {
        name: decided[name] for name in ("verdict", "action", "reason")
    }
    assert again.measures == Decided.model_validate(decided).measures == ["auc", "test_auc"], "an alert's columns"

    assert b"Verdict: performance drop" in store.read_bytes(stage("monitor.report")("kettle", decided).page)
    for outcome in (decided, again):
        with pytest.raises(NothingToDo, match="performance drop"):
            stage("monitor.act")("kettle", outcome)
    (row,) = ledger.decisions(problem, "monitoring")
    parts = {name: decided[name] for name in row["evidence"]}
    assert row["evidence"] == parts and row["verdict"] == "performance drop"
