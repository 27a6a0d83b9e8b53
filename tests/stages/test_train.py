from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines import ledger, local_run, store, tracking
from pipelines.errors import DataError, GateFailed, NothingToDo
from pipelines.handoffs.training import Share
from pipelines.problem import load_problem
from pipelines.stages import stage
from tests.stages.conftest import HISTORY, configure, prepared

pytestmark = pytest.mark.slow


def test_the_first_model_serves_and_its_decisions_are_on_the_ledger(loop: str) -> None:
    config = load_problem(loop)
    champion = tracking.champion(config)
    assert champion is not None
    (gate,), (promotion,) = ledger.decisions(config, "gate"), ledger.decisions(config, "promotion")
    assert gate["evidence"]["evaluation"]["challenger"]["run_id"] == champion.run_id == promotion["evidence"]["run_id"]
    assert promotion["model_version"] == str(champion.version)
    assert tracking.run_tag(champion.run_id, "gate") == "passed"


def test_a_run_keeps_its_lineage(loop: str) -> None:
    import mlflow

    run = mlflow.get_run(tracking.serving(load_problem(loop)).run_id)
    assert {"training_set", "feature_set", "git_commit", "config_hash", "trained_until"} <= set(run.data.tags)
    assert {"events_version", "labels_version", "features_version", "train_rows", "seed"} <= set(run.data.params)
    measured = run.data.metrics
    assert {"validation_auc", "test_auc", "train_log_loss"} <= set(measured)
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == run.data.tags["training_set"]
    assert run.data.tags["window"] == "2012-12-31" and "airflow_run" not in run.data.tags, "no task of Airflow's"
    for split in ("validation", "test"):
        low, value, high = (measured[f"{split}_log_loss{end}"] for end in ("_low", "", "_high"))
        assert low < value < high
    assert tracking.run_file(run.info.run_id, "problem.json")["key"] == "flight_id"
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert {"environment.txt", "problem.json", "evaluation.json", "reference.json", "gate.json"} <= files


def test_a_feature_that_leaks_is_stopped_by_name(loop: str) -> None:
    def declare(**available: str) -> None:
        configure(loop, lambda raw: raw["columns"].update(dep_delay={"type": "float", **available}))

    sql = load_problem(loop).folder / "events.sql"
    sql.write_text(sql.read_text().replace("    f.carrier,", "    f.carrier, f.dep_delay,"))
    declare(available="cutoff")
    configure(loop, lambda raw: raw["features"]["columns"].append("dep_delay"))
    local_run.ingest(loop, *HISTORY, restate=True)
    sheets = Path(store.store_uri(loop, "datasheets").removeprefix("file://"))
    for available, told in (
        ({"available": "cutoff"}, r"dep_delay alone predicts the label with an AUC of 0\.\d+"),
        ({"available": "later"}, r"dep_delay"),
        ({}, r"dep_delay"),
    ):
        declare(**available)
        shutil.rmtree(sheets)
        with pytest.raises(DataError, match=told) as caught:
            prepared(loop)
        assert "carrier" not in caught.value.what
        kept = [sheet.read_text() for sheet in sheets.glob("*.md")]
        assert any("dep_delay" in text for text in kept), "the datasheet is there for who has to look"


def test_resampling_and_augmentation_change_what_is_fitted_and_nothing_else(loop: str) -> None:
    import mlflow

    def fitted() -> dict[str, str]:
        done = stage("train.train")(loop, prepared(loop), "xgboost")
        return mlflow.get_run(done.run_id).data.params

    plain = fitted()
    configure(loop, lambda raw: raw["dataset"].update(resampling={"method": "undersample"}))
    balanced = fitted()
    configure(loop, lambda raw: raw["dataset"].update(augmentation={"method": "mixup", "share": 0.5}))
    mixed = fitted()
    assert plain["train_rows"] == balanced["train_rows"] == mixed["train_rows"] == plain["fitted_rows"]
    assert int(balanced["fitted_rows"]) < int(plain["fitted_rows"])
    assert int(mixed["fitted_rows"]) > int(balanced["fitted_rows"])


def test_weak_labels_teach_when_asked_to_and_never_measure(loop: str) -> None:
    local_run.annotate(loop)
    config = load_problem(loop)
    weak = store.dataset(config, "labels").count_rows(filter=pc.field("source") == "weak")
    assert weak > 0
    assert set(training_rows(loop, stage("train.sample")(loop, stage("train.label")(loop)))["source"].to_pylist()) == {
        "natural"
    }
    configure(loop, lambda raw: raw["labels"].update(use=["natural", "weak"], weigh_by_confidence=True))
    rows = training_rows(loop, stage("train.sample")(loop, stage("train.label")(loop)))
    taught = rows.filter(pc.equal(rows["source"], "weak"))
    assert 0 < taught.num_rows < weak, "where truth is known it wins"
    assert set(taught["split"].to_pylist()) == {"train"}
    assert taught["weight"].equals(taught["confidence"])


def training_rows(problem: str, shares: list[Share]) -> pa.Table:
    wanted = pc.field("training_set") == shares[0].training_set
    return store.dataset(load_problem(problem), "training_sets").to_table(filter=wanted)


def test_a_retry_of_a_train_task_finds_its_earlier_run(loop: str) -> None:
    checked = prepared(loop)
    first = stage("train.train")(loop, checked, "xgboost")
    again = stage("train.train")(loop, checked, "xgboost")
    assert again.run_id == first.run_id
    assert again.validation == pytest.approx(first.validation)


def test_equal_data_and_config_make_the_same_training_set(loop: str) -> None:
    (one,), (two,) = (stage("train.sample")(loop, stage("train.label")(loop)) for _ in range(2))
    assert one.training_set == two.training_set
    assert one.splits == two.splits
    assert store.dataset(load_problem(loop), "training_sets").count_rows() == sum(one.splits.values())


def test_the_sampling_switch_changes_what_is_trained_on(loop: str) -> None:
    (whole,) = stage("train.sample")(loop, stage("train.label")(loop))
    path = load_problem(loop).folder / "problem.yaml"
    path.write_text(path.read_text().replace("method: all", "method: random\n    fraction: 0.5\n    seed: 1"))
    (half,) = stage("train.sample")(loop, stage("train.label")(loop))
    assert half.splits["train"] == round(whole.splits["train"] / 2)
    assert half.splits["test"] == whole.splits["test"]
    assert half.training_set != whole.training_set


def test_a_gate_that_fails_leaves_the_champion_and_says_why(loop: str) -> None:
    config = load_problem(loop)
    before = tracking.serving(config).version
    path = config.folder / "problem.yaml"
    path.write_text(path.read_text().replace("min: 0.6", "min: 0.99"))
    with pytest.raises(GateFailed, match=r"wanted at least 0\.99"):
        local_run.train(loop)
    assert tracking.serving(config).version == before
    failed = ledger.decisions(config, "gate")[-1]
    assert (failed["verdict"], failed["action"]) == ("failed", "keep champion")
    run_id = failed["evidence"]["evaluation"]["challenger"]["run_id"]
    assert tracking.run_tag(run_id, "gate") == "failed"
    assert "wanted at least 0.99" in (tracking.run_tag(run_id, "gate_reason") or "")


def test_the_version_that_was_replaced_can_be_gone_back_to(loop: str) -> None:
    config = load_problem(loop)
    before = str(tracking.serving(config).version)
    # A champion's twin is not let in.
    configure(loop, lambda raw: raw["training"]["candidates"]["xgboost"]["parameters"].update(max_depth=3))
    promoted = local_run.train(loop)
    import mlflow

    aliases = mlflow.MlflowClient().get_registered_model(loop).aliases
    assert {name: str(version) for name, version in aliases.items()} == {
        "champion": promoted.version,
        "previous": before,
    }
    assert promoted.replaced == before


def test_challenger_and_champion_are_measured_on_the_same_rows_each_with_its_own_features(loop: str) -> None:
    local_run.ingest(loop, "2013-02-11", "2013-02-11")
    path = load_problem(loop).folder / "problem.yaml"
    path.write_text(path.read_text().replace("window_days: 28", "window_days: 14"))
    checked = prepared(loop)
    trained = [stage("train.train")(loop, checked, name) for name in ("prior", "rule", "xgboost")]
    evaluated = store.read_json(stage("train.evaluate")(loop, checked, trained).evaluation)
    champion = evaluated["champion"]
    assert champion["metrics"].keys() == evaluated["challenger"]["metrics"].keys()
    assert champion["metrics"]["auc"] > 0.55
    assert champion["trained_until"] < min(evaluated["test_partitions"])


def test_a_request_is_trained_for_once(loop: str) -> None:
    with pytest.raises(NothingToDo, match="a model has been trained for this request already"):
        stage("train.label")(loop, "2013-02-04", requested=True)
    assert stage("train.label")(loop, "2013-02-04").partition == "2013-02-04", "by hand, as often as one likes"


def test_a_retry_after_the_last_write_gives_what_was_done(loop: str) -> None:
    labelled = stage("train.label")(loop)
    (sampled,) = stage("train.sample")(loop, labelled)
    shares = [stage("train.featurize")(loop, sampled)]
    checked = stage("train.check")(loop, shares)
    assert stage("train.check")(loop, shares) == checked
    (again,) = stage("train.sample")(loop, labelled)
    assert again.model_copy(update={"features_version": None}) == sampled, "though its staging is gone"


def test_nothing_ingested_is_told(store_folder: Path) -> None:
    with pytest.raises(DataError, match="no events have been ingested"):
        stage("train.label")("flight_delay")
