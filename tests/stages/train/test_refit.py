"""After its gate the challenger learns from the newest partitions too, and that model serves."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from pipelines import ledger, local_run, store, tracking
from pipelines.dataset import training_sets
from pipelines.dataset.fingerprint import fingerprint
from pipelines.documents.lineage import VersionLineage
from pipelines.errors import DataError, GateFailed
from pipelines.evaluation.gate.refitted import RefitCheck
from pipelines.handoffs.training import training_set_of
from pipelines.paths import version_uri
from pipelines.problem import load_problem
from pipelines.release.refit import refit_rows
from pipelines.release.reproduce import reproduce
from pipelines.release.versions import measured_run, taught
from pipelines.stages import stage
from tests.declared_keys import assert_declared
from tests.handed_on import featurized
from tests.release.test_reproduce import NAME, RAW, kettles, write

pytestmark = pytest.mark.slow

FIRST, LATER = 10, 18  # days of the first training, and of those after it
GATE = {
    "limits": {"auc": {"min": 0.5}},
    "gain_over_baselines": {"auc": -0.2},
    "gain_over_champion": {"auc": -0.3},
    "slices": None,
    "max_prediction_shift": None,
    "max_champion_fall": None,
    "max_forgotten": 0.9,
    "min_rows": 20,
    "max_bias": None,
    "min_learnt_share": None,
    "max_jump": None,
}


def day(number: int) -> str:
    return f"2024-01-{number:02}"


def until(days: int) -> None:
    """The tables as they were at the end of so many days."""
    write(tuple(table.filter(pc.less_equal(table["partition"], day(days))) for table in kettles(LATER)))  # type: ignore[arg-type]


def lineage(version: str) -> dict[str, Any]:
    found: dict[str, Any] = store.read_json(version_uri(load_problem(NAME), version, "lineage.json"))
    return found


def configure(**training: Any) -> None:
    path = load_problem(NAME).folder / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["training"].update(training)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a problem whose first champion has been refitted: copy it before you change it."""
    folder = tmp_path_factory.mktemp("refit")
    home = folder / "problems" / NAME
    home.mkdir(parents=True)
    raw = copy.deepcopy(RAW) | {"gate": GATE, "evaluation": {"bootstrap": {"resamples": 50}}}
    raw["dataset"] |= {
        "leaks": {"accepted": ["litres"]},
        "split": {"validation_partitions": 1, "test_partitions": 2},
    }
    raw["training"]["select_by"] = "log_loss"
    (home / "problem.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    for name in ("events", "labels"):
        (home / f"{name}.sql").write_text("SELECT * FROM kettles")
    with pytest.MonkeyPatch.context() as patch:
        _enter(patch, folder)
        until(FIRST)
        promoted = local_run.train(NAME)
        assert (promoted.version, promoted.replaced) == ("1", None)
    return folder


@pytest.fixture
def kept(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A copy of it; MLflow's artifacts are read where they were written."""
    for name in ("problems", "store"):
        shutil.copytree(trained / name, tmp_path / name)
    shutil.copyfile(trained / "mlflow.db", tmp_path / "mlflow.db")
    _enter(monkeypatch, tmp_path)
    yield


def _enter(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("EVERGREEN_PROBLEMS", str(folder / "problems"))
    patch.setenv("EVERGREEN_STORE_URI", (folder / "store").as_uri())
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    patch.chdir(folder)


def test_what_serves_has_learnt_from_the_newest_partitions_and_what_was_tested_has_not(kept: None) -> None:
    config, made_of = load_problem(NAME), lineage("1")
    assert_declared(VersionLineage, made_of)
    champion = tracking.serving(config)
    learnt = made_of["splits"]["train"]["partitions"]
    assert learnt == [day(n) for n in range(1, len(learnt) + 1)] and len(learnt) < FIRST - 2
    assert made_of["refit"]["rows"]["partitions"] == [day(n) for n in range(1, 11)], "validation and test too"
    assert taught(config, "1").partitions == [day(n) for n in range(1, 11)]
    assert taught(config, "1", is_tested=True).partitions == learnt
    twin = measured_run(config, "1")
    assert twin is not None and champion.run_id != twin == champion.tags["tested_run"]
    serving, tested = (tracking.load_model(run) for run in (champion.run_id, twin))
    assert serving.learnt_from == made_of["refit"]["rows"]
    assert serving.threshold == tested.threshold and serving.estimator.rounds_ == tested.estimator.rounds_

    # What monitoring and estimates rest on was scored by the model that had not learnt from these rows.
    pins = training_set_of(made_of)
    test = training_sets.split(config, pins, "test")
    held_out = store.read_bytes(version_uri(config, "1", "held_out.parquet"))
    from pipelines.monitoring.estimate.held_out import from_parquet

    assert np.sort(from_parquet(config, held_out).scored.scores) == pytest.approx(np.sort(tested.scores(test)))
    (told,) = ledger.decisions(config, "refit")
    assert (told["verdict"], told["evidence"]["check"]["passed"]) == ("passed", True)
    card = store.read_bytes(version_uri(config, "1", "card.md")).decode()
    assert f"fitted again after its gate on {made_of['refit']['rows']['rows']} rows" in card
    assert reproduce(NAME, "1").identical, "both models are made again, bit for bit"

    baselines = tracking.run_evaluation(twin)["baselines"].values()
    beside = made_of["beside_sha256"]
    assert set(beside) == {twin, *(baseline["run_id"] for baseline in baselines)}
    changed = made_of | {"beside_sha256": beside | {twin: "0" * 64}}
    store.write_json(version_uri(config, "1", "lineage.json"), changed)
    for start in (lambda: reproduce(NAME, "1"), lambda: local_run.train(NAME, how="recalibrate")):
        with pytest.raises(DataError, match="another than was logged"):
            start()


@contextmanager
def replaced(run_id: str) -> Iterator[None]:
    """The file of a run's model is another meanwhile, which loads and scores as it did."""
    import mlflow

    client = mlflow.MlflowClient()
    [logged] = client.get_run(run_id).outputs.model_outputs
    file = Path(client.get_logged_model(logged.model_id).artifact_location.removeprefix("file://"), "model.skops")
    content = file.read_bytes()
    file.write_bytes(content + b"\0")
    tracking.load_model(run_id)
    yield
    file.write_bytes(content)


def test_a_candidate_is_evaluated_refitted_and_registered_as_the_very_file_that_was_logged(kept: None) -> None:
    until(FIRST + 2)
    checked = stage("train.check")(NAME, featurized(NAME, stage("train.label")(NAME)))
    fitted = [stage("train.train")(NAME, checked, name) for name in load_problem(NAME).training.candidates]
    again = stage("train.train")(NAME, checked, fitted[-1].candidate)
    assert again.model_sha256 == fitted[-1].model_sha256 == tracking.model_sha256(again.run_id), "of a retry too"
    for model in fitted:
        with replaced(model.run_id), pytest.raises(DataError, match="another than was logged"):
            stage("train.evaluate")(NAME, checked, fitted)
    gated = stage("train.gate")(NAME, stage("train.evaluate")(NAME, checked, fitted))
    with replaced(gated.run_id), pytest.raises(DataError, match="another than was logged"):
        stage("train.refit")(NAME, gated)
    refitted = stage("train.refit")(NAME, gated)
    baseline = fitted[0].run_id
    for run_id in (refitted.run_id, refitted.tested_run, baseline):
        with replaced(run_id), pytest.raises(DataError, match="another than was logged"):
            stage("train.register")(NAME, refitted)
    assert [version.number for version in tracking.versions(load_problem(NAME))] == ["1"]
    registered = stage("train.register")(NAME, refitted)
    assert lineage(registered.version)["model_sha256"] == refitted.models_sha256[refitted.run_id]


def test_rows_that_are_read_from_disk_are_the_rows_in_memory(kept: None, tmp_path: Path) -> None:
    config, made_of = load_problem(NAME), lineage("1")
    tables = [store.dataset(config, name, made_of["tables"][name]) for name in ("events", "labels")]
    on_disk = refit_rows(config, made_of | {"is_streamed": True}, tables[0], tables[1], None, str(tmp_path))
    assert not isinstance(on_disk, pa.Table)
    assert fingerprint(config, on_disk) == made_of["refit"]["rows"]


def test_the_next_gate_compares_the_tested_twin_which_has_not_learnt_from_the_test_rows(kept: None) -> None:
    until(FIRST + 1)
    local_run.train(NAME)
    champion = ledger.decisions(load_problem(NAME), "gate")[-1]["evidence"]["evaluation"]["champion"]
    assert champion["run_id"] == measured_run(load_problem(NAME), "1")
    assert champion["trained_until"] == day(8), "and the test begins after that"


def test_updates_go_on_from_the_twin_and_are_done_again_to_what_serves(kept: None) -> None:
    config = load_problem(NAME)
    until(LATER)
    local_run.train(NAME, how="recalibrate")
    made_of = lineage("2")
    assert made_of["parent_run"] == measured_run(config, "1")
    refit = made_of["refit"]
    assert (refit["base"], refit["after"]) == (lineage("1")["run_id"], day(10))
    assert refit["rows"]["partitions"][-1] == day(LATER) and refit["rows"]["partitions"][0] > day(10)
    assert taught(config, "2") == taught(config, "1"), "its trees have learnt nothing"
    serving, before = (tracking.load_model(one["run_id"]) for one in (made_of, lineage("1")))
    assert serving.calibration is not None
    assert serving.estimator.rounds_ == before.estimator.rounds_
    assert reproduce(NAME, "2").identical


def test_without_a_refit_the_tested_model_serves(kept: None) -> None:
    config = load_problem(NAME)
    configure(refit=False)
    until(LATER)
    local_run.train(NAME)
    champion = tracking.serving(config)
    assert lineage("2")["refit"] is None and measured_run(config, "2") is None
    judged = ledger.decisions(config, "gate")[-1]["evidence"]["evaluation"]
    assert champion.run_id == judged["challenger"]["run_id"]
    assert judged["champion"]["run_id"] == lineage("1")["run_id"], "it was compared with what served"
    assert ledger.decisions(config, "refit")[-1]["decision"].startswith(f"refit:{day(FIRST)}")


def test_a_refit_that_is_not_sound_stops_the_promotion(kept: None, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_problem(NAME)
    failed = RefitCheck(False, "it is worse", "log_loss", None)
    monkeypatch.setattr("pipelines.evaluation.gate.refitted.refit_check", lambda *_: failed)
    until(LATER)
    with pytest.raises(GateFailed, match=f"fitted again on all partitions up to {day(LATER)}, is not sound: it is wor"):
        local_run.train(NAME)
    assert str(tracking.serving(config).version) == "1"
    told = ledger.decisions(config, "refit")[-1]
    assert (told["verdict"], told["action"], told["reason"]) == ("failed", "keep champion", "it is worse")


def test_versions_of_before_there_were_refits_serve_and_are_compared_as_they_are(kept: None) -> None:
    config, made_of = load_problem(NAME), lineage("1")
    old = {name: value for name, value in made_of.items() if name not in ("refit", "parent_run")}
    store.write_json(version_uri(config, "1", "lineage.json"), old)
    assert measured_run(config, "1") is None
    assert taught(config, "1").partitions == made_of["splits"]["train"]["partitions"]
