from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import inline, store, tracking
from pipelines.errors import DataError, GateFailed, NothingToDo
from pipelines.problem import load_problem
from pipelines.release import ledger
from pipelines.stages import train


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
    assert {"validation_auc", "test_auc", "train_log_loss"} <= set(run.data.metrics)
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == run.data.tags["training_set"]
    assert tracking.run_file(run.info.run_id, "problem.json")["key"] == "flight_id"
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert {"environment.txt", "problem.json", "evaluation.json", "reference.json", "gate.json"} <= files


def test_a_retry_of_a_train_task_finds_its_earlier_run(loop: str) -> None:
    featurized = train.featurize(loop, train.sample(loop, train.label(loop)))
    first = train.train(loop, featurized, "logistic")
    again = train.train(loop, featurized, "logistic")
    assert again["run_id"] == first["run_id"]
    assert again["validation"] == pytest.approx(first["validation"])


def test_equal_data_and_config_make_the_same_training_set(loop: str) -> None:
    one, two = (train.sample(loop, train.label(loop)) for _ in range(2))
    assert one["training_set"] == two["training_set"]
    assert one["splits"] == two["splits"]
    assert store.dataset(load_problem(loop), "training_sets").count_rows() == sum(one["splits"].values())


def test_the_sampling_switch_changes_what_is_trained_on(loop: str) -> None:
    whole = train.sample(loop, train.label(loop))
    path = load_problem(loop).folder / "problem.yaml"
    path.write_text(path.read_text().replace("method: all", "method: random\n    fraction: 0.5\n    seed: 1"))
    half = train.sample(loop, train.label(loop))
    assert half["splits"]["train"] == round(whole["splits"]["train"] / 2)
    assert half["splits"]["test"] == whole["splits"]["test"]
    assert half["training_set"] != whole["training_set"]


def test_a_gate_that_fails_leaves_the_champion_and_says_why(loop: str) -> None:
    config = load_problem(loop)
    before = tracking.serving(config).version
    path = config.folder / "problem.yaml"
    path.write_text(path.read_text().replace("min: 0.6", "min: 0.99"))
    with pytest.raises(GateFailed, match=r"wanted at least 0\.99"):
        inline.train(loop)
    assert tracking.serving(config).version == before
    failed = ledger.decisions(config, "gate")[-1]
    assert (failed["verdict"], failed["action"]) == ("failed", "keep champion")
    run_id = failed["evidence"]["evaluation"]["challenger"]["run_id"]
    assert tracking.run_tag(run_id, "gate") == "failed"
    assert "wanted at least 0.99" in (tracking.run_tag(run_id, "gate_reason") or "")


def test_the_version_that_was_replaced_can_be_gone_back_to(loop: str) -> None:
    config = load_problem(loop)
    before = str(tracking.serving(config).version)
    path = config.folder / "problem.yaml"
    path.write_text(path.read_text().replace("auc: -0.01, log_loss: -0.01", "auc: -1").replace("auc: -0.01", "auc: -1"))
    promoted = inline.train(loop)
    import mlflow

    aliases = mlflow.MlflowClient().get_registered_model(loop).aliases
    assert {name: str(version) for name, version in aliases.items()} == {
        "champion": promoted["version"],
        "previous": before,
    }
    assert promoted["replaced"] == before


def test_challenger_and_champion_are_measured_on_the_same_rows_each_with_its_own_features(loop: str) -> None:
    inline.ingest(loop, "2013-02-11", "2013-02-11")
    path = load_problem(loop).folder / "problem.yaml"
    path.write_text(path.read_text().replace("window_days: 28", "window_days: 14"))
    featurized = train.featurize(loop, train.sample(loop, train.label(loop)))
    trained = [train.train(loop, featurized, name) for name in ("prior", "xgboost")]
    evaluated = train.evaluate(loop, featurized, trained)
    champion = evaluated["champion"]
    assert champion["metrics"].keys() == evaluated["challenger"]["metrics"].keys()
    assert champion["metrics"]["auc"] > 0.55
    assert champion["trained_until"] < min(evaluated["test_partitions"])


def test_a_request_is_trained_for_once(loop: str) -> None:
    with pytest.raises(NothingToDo, match="a model has been trained for this request already"):
        train.label(loop, "2013-02-04", requested=True)
    assert train.label(loop, "2013-02-04")["partition"] == "2013-02-04", "by hand, as often as one likes"


def test_a_retry_after_the_last_write_gives_what_was_done(loop: str) -> None:
    labelled = train.label(loop)
    assert train.sample(loop, labelled) == train.sample(loop, labelled)


def test_nothing_ingested_is_told(store_folder: Path) -> None:
    with pytest.raises(DataError, match="no events have been ingested"):
        train.label("flight_delay")
