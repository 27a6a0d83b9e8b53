from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines import store, tracking
from pipelines.cli.app import app
from pipelines.errors import EvergreenError, GateFailed, NothingToDo
from pipelines.paths import evaluation_uri, version_uri
from pipelines.problem import load_problem
from pipelines.release.reproduce import reproduce
from pipelines.stages import stage
from pipelines.stages.train.checkpoints import StoredCheckpoint
from tests.stages.conftest import configure, prepared

pytestmark = pytest.mark.slow


def only(raw: dict[str, Any], *names: str) -> None:
    candidates = raw["training"]["candidates"]
    raw["training"] |= {"baselines": ["prior"], "candidates": {name: candidates[name] for name in ("prior", *names)}}


def test_a_version_can_be_looked_at_and_made_again(loop: str) -> None:
    import mlflow

    config = load_problem(loop)
    card = store.read_bytes(version_uri(config, "1", "card.md")).decode()
    assert "log_loss" in card and "reproduce flight_delay@1" in card
    described = mlflow.MlflowClient().get_model_version(loop, "1")
    assert described.description.startswith("# Model card")
    gate_tags = {name for name in mlflow.get_run(described.run_id).data.tags if name.startswith("gate.")}
    assert {"gate.test rows", "gate.auc over prior", "gate.auc over rule"} <= gate_tags
    lineage = store.read_json(version_uri(config, "1", "lineage.json"))
    page = store.read_bytes(evaluation_uri(config, lineage["training"], "html")).decode()
    assert "Passed: it may serve." in page

    told = CliRunner().invoke(app, ["reproduce", "flight_delay@1"])
    assert told.exit_code == 0
    assert "identical" in told.output
    configure(loop, lambda raw: raw["training"]["candidates"]["xgboost"]["parameters"].update(max_depth=2))
    made = reproduce(loop, "1")
    assert made.identical, "it is made again with what it was"
    assert any("training.candidates.xgboost.parameters.max_depth: 4 -> 2" in line for line in made.differences)


def test_a_changed_row_of_the_table_is_named(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.dataset

    def harmed(problem: Any, name: Any, version: int | None = None) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.dataset as ds

        rows = real(problem, name, version)
        if name != "events":
            return rows
        table = rows.to_table()
        warmer = pc.add(table["temp"], pa.scalar(1.0))
        return ds.dataset(table.set_column(table.schema.get_field_index("temp"), "temp", warmer))

    monkeypatch.setattr(store, "dataset", harmed)
    made = reproduce(loop, "1")
    assert not made.identical
    assert made.max_difference > 0
    assert any(
        line.startswith(("train", "rows of train", "split train")) or "train" in line for line in made.differences
    )


def test_no_evidence_no_promotion(loop: str) -> None:
    config = load_problem(loop)
    configure(loop, lambda raw: (only(raw, "xgboost"), raw["training"].update(seed=8)))
    checked = prepared(loop)
    evaluated = stage("train.evaluate")(
        loop, checked, [stage("train.train")(loop, checked, name) for name in ("prior", "xgboost")]
    )
    store.delete(evaluated.evaluation)
    with pytest.raises(GateFailed, match="missing"):
        stage("train.gate")(loop, evaluated)
    assert str(tracking.serving(config).version) == "1"


def test_parameters_are_searched_and_a_killed_search_and_fit_go_on(
    loop_after: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    loop = loop_after(3, is_bulk=True)
    configure(loop, lambda raw: only(raw, "xgboost"))
    configure(loop, lambda raw: raw["training"].update(checkpoint_rounds=10, search={"trials": 3, "folds": 1}, seed=9))
    configure(
        loop, lambda raw: raw["training"]["candidates"]["xgboost"].update(search={"max_depth": {"low": 2, "high": 6}})
    )
    checked = prepared(loop)

    class Killed(EvergreenError):
        pass

    saved: list[int] = []
    save = StoredCheckpoint.save

    def dying(self: Any, rounds: int, model: bytes) -> None:
        save(self, rounds, model)
        saved.append(rounds)
        raise Killed("killed", where="here", cure="try again")

    monkeypatch.setattr(StoredCheckpoint, "save", dying)
    with pytest.raises(Killed):
        stage("train.train")(loop, checked, "xgboost")
    monkeypatch.setattr(StoredCheckpoint, "save", lambda *a: (save(*a), saved.append(a[1]))[0])
    done = stage("train.train")(loop, checked, "xgboost")
    assert saved[0] == 10 and saved[1] > 10, "the second try went on where the first was"
    runs = mlflow.search_runs(
        experiment_names=[loop], output_format="list", filter_string=f"tags.`mlflow.parentRunId` = '{done.run_id}'"
    )
    assert len(runs) == 3, "each trial is a nested run, and none was run twice"
    lineage = tracking.run_file(done.run_id, "lineage.json")
    assert set(lineage["parameters"]) == {"max_depth"}
    assert stage("train.train")(loop, checked, "xgboost").run_id == done.run_id


@pytest.mark.parametrize("changes", [{"memory_limit_mb": 0.2}, {"engine": {"kind": "processes", "workers": 2}}])
def test_rows_beyond_the_memory_limit_are_read_from_disk(loop: str, changes: dict[str, Any]) -> None:
    """And so are those that several workers share. What cannot learn from disk is left out, and the others go on."""
    configure(loop, lambda raw: (only(raw, "xgboost"), raw["training"].update(changes, seed=10)))
    configure(loop, lambda raw: raw["training"]["candidates"].update(logistic={"model": "logistic"}))
    checked = prepared(loop)
    if "memory_limit_mb" in changes:
        with pytest.raises(NothingToDo, match=r"logistic is left out: .*; model logistic cannot do that"):
            stage("train.train")(loop, checked, "logistic")
    trained = [stage("train.train")(loop, checked, name) for name in ("prior", "xgboost")]
    assert tracking.run_file(trained[1].run_id, "lineage.json")["is_streamed"]
    parameters = tracking.run_file(trained[1].run_id, "parameters.json")
    assert parameters.get("engine") == ("2 processes" if "engine" in changes else None)
    evaluated = stage("train.evaluate")(loop, checked, trained)
    assert [*store.read_json(evaluated.evaluation)["left_out"]] == ["logistic"] * ("memory_limit_mb" in changes)
    registered = stage("train.register")(loop, stage("train.refit")(loop, stage("train.gate")(loop, evaluated)))
    made = reproduce(loop, registered.version)
    assert made.identical
    assert Path(store.store_uri(loop, "models", registered.version, "card.html").removeprefix("file://")).exists()
