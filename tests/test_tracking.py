from __future__ import annotations

import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io

from pipelines import tracking
from pipelines.errors import AccessError, ConfigError, DataError, NothingToDo, ServiceUnavailable
from pipelines.problem import Problem
from pipelines.surroundings import requirements
from pipelines.tracking import RunTrials
from pipelines.tracking.client import explained
from pipelines.tracking.pages import VIEW_TAG
from pipelines.training.fit import fit
from pipelines.training.model import Model
from pipelines.training.search import search
from pipelines.training.trials import Trial
from tests.conftest import ToyProblem
from tests.mlflow_database import mlflow_in
from tests.training.kettles import kettles

pytestmark = pytest.mark.slow

TRAIN, VALIDATION = kettles(4), kettles(1, seed=1, first=5)
NO_TEXT = b"\x89PNG\x00\xff"
TRIED: dict[str, Any] = {"rate": 0.1 + 0.2, "depth": 3, "log": True, "kind": "1", "none": None, "layers": [8, 4.0]}


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_in(folder))
        patch.chdir(folder)  # MLflow keeps artifacts beside its database
        yield folder


@pytest.fixture
def problem(toy: ToyProblem, request: pytest.FixtureRequest) -> Problem:
    """An experiment of the test's own; its logistic candidate has something to search."""
    searched = {
        "model": "logistic",
        "parameters": {"tol": 0.15},
        "search": {"tol": {"low": 1e-5, "high": 10.0, "log": True}},
    }
    found = toy(**{"training.candidates.logistic": searched, "training.search": {"trials": 4, "folds": 2}})
    copy = found.model_copy()
    copy._folder = Path(found.folder.parent, request.node.name.partition("[")[0])
    return copy


def test_without_a_server_files_lie_beside_the_database_wherever_a_command_runs(
    problem: Problem, server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_id = tracking.log_files(problem, "a page", tags={}, files={"page.html": b"<html>"})
    assert not list(tmp_path.iterdir())
    (page,) = server.rglob("page.html")
    assert run_id in str(page) and page.is_relative_to(server / "mlartifacts" / problem.name)


def tags(training: str = "t1") -> dict[str, str]:
    return {"training": training, "candidate": "logistic", "partition": "2024-01-06", "training_set": "abc"}


def log(problem: Problem, model: Model, run_id: str | None = None, **changes: Any) -> str:
    given: dict[str, Any] = {
        "tags": tags(),
        "parameters": {"C": 1.0},
        "metrics": {"validation_auc": 0.7},
        "dataset_uri": "file:///sets",
        "dataset_version": 3,
        "example": TRAIN.select(problem.feature_names).slice(0, 5),
        "files": {},
    }
    return tracking.log_candidate(problem, "logistic", model, **{**given, **changes}, run_id=run_id).run_id


def test_what_mlflow_says_of_itself_is_not_told(problem: Problem, capsys: pytest.CaptureFixture[str]) -> None:
    assert tracking.find_run(problem, {"training": "none was yet"}) is None
    log(problem, fit(problem, "logistic", TRAIN, VALIDATION))
    logging.getLogger("mlflow.utils.environment").warning("a package is not the one that was asked for")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("a package is not the one that was asked for"), "its warnings stay"


def test_a_run_is_unfinished_until_it_is_logged(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "kettle.train")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", "manual__2024-01-06T00:00:00+00:00")
    run_id = tracking.start_candidate(problem, "logistic", tags())
    assert mlflow.get_run(run_id).info.status == "RUNNING"
    view = json.loads(mlflow.get_experiment_by_name(problem.name).tags[VIEW_TAG])
    assert {"metrics.`validation_log_loss`", "metrics.`test_log_loss`"} <= set(view["selectedColumns"])
    assert tracking.find_run(problem, {"training": "t1"}) is None
    assert tracking.start_candidate(problem, "logistic", tags()) == run_id, "a retry takes it up"
    model = fit(problem, "logistic", TRAIN, VALIDATION)
    long = list(range(1000))
    files = {"datasheet.html": b"<p>", "pictures/plot.png": NO_TEXT}
    assert log(problem, model, run_id, parameters={"C": 1.0, "long": long}, files=files) == run_id
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "logistic 2024-01-06"
    assert tracking.find_run(problem, {"training": "t1", "candidate": "logistic"}) == (run_id, {"validation_auc": 0.7})
    (output,) = run.outputs.model_outputs
    assert [(each.key, each.value) for each in mlflow.get_logged_model(output.model_id).metrics] == [
        ("validation_auc", 0.7)
    ]
    in_airflow = "https://airflow.example/dags/kettle.train/runs/manual__2024-01-06T00%3A00%3A00%2B00%3A00"
    evidence = f"https://airflow.example/evergreen/pages/{problem.name}/evaluations/t1.html"
    assert (run.data.tags["airflow_run"], run.data.tags["evidence"]) == (in_airflow, evidence)
    described = f"[Run in Airflow]({in_airflow}) | [Evaluation and verdict]({evidence})"
    assert run.data.tags["mlflow.note.content"] == described
    assert run.data.tags["git_commit"] and run.data.tags["config_hash"] == problem.config_hash
    assert run.data.tags["mlflow.user"] and run.inputs.dataset_inputs[0].dataset.digest == "abc"
    assert run.data.params["C"] == "1.0" and run.data.params["long"].endswith("(4890 characters: parameters.json)")
    assert tracking.run_file(run_id, "parameters.json")["long"] == long
    assert tracking.run_file(run_id, "problem.json")["key"] == "kettle_id"
    kept = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/pictures/plot.png")
    assert Path(kept).read_bytes() == NO_TEXT
    assert tracking.start_candidate(problem, "logistic", tags()) != run_id, "what is finished is not taken up"

    again = tracking.load_model(run_id, tracking.model_sha256(run_id))
    assert again.scores(VALIDATION).tolist() == model.scores(VALIDATION).tolist()
    with pytest.raises(DataError, match="another than was logged"):
        tracking.load_model(run_id, "0" * 64)
    frame = VALIDATION.select(problem.feature_names).to_pandas()
    served = mlflow.pyfunc.load_model(f"runs:/{run_id}/model").predict(frame)
    assert np.array_equal(served, model.predict_proba(VALIDATION)) and served.shape == (40, 2)
    version = tracking.register(problem, run_id, {})
    registered = mlflow.MlflowClient().get_model_version(problem.name, version)
    assert "python_function" in mlflow.artifacts.load_text(f"{registered.source}/MLmodel"), "as the version's page asks"
    assert registered.run_id == run_id


def test_a_run_of_another_candidate_training_or_config_is_not_taken_up(toy: ToyProblem, problem: Problem) -> None:
    run_id = tracking.start_candidate(problem, "logistic", tags())
    other = problem.model_copy(update={"description": "another"})
    other.__dict__.pop("config_hash", None)
    found = {
        tracking.start_candidate(problem, "xgboost", {"training": "t1"}),
        tracking.start_candidate(problem, "logistic", tags("t2")),
        tracking.start_candidate(other, "logistic", tags()),
    }
    assert len(found | {run_id}) == 4


@pytest.fixture
def asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow makes each run and version, its answer is lost, and its client asks again."""
    import mlflow

    for name in ("create_run", "create_model_version"):
        create = getattr(mlflow.MlflowClient, name)

        def twice(client: Any, *arguments: Any, create: Any = create, **named: Any) -> Any:
            create(client, *arguments, **named)
            return create(client, *arguments, **named)

        monkeypatch.setattr(mlflow.MlflowClient, name, twice)


def test_of_a_run_or_version_that_mlflow_was_asked_for_twice_there_is_one(problem: Problem, asked_twice: None) -> None:
    import mlflow

    run_id = tracking.start_candidate(problem, "logistic", tags())
    (run,) = mlflow.search_runs(experiment_names=[problem.name], output_format="list")
    assert (run.info.run_id, run.info.status) == (run_id, "RUNNING")
    version = tracking.register(problem, run_id, {"candidate": "logistic"})
    (registered,) = mlflow.MlflowClient().search_model_versions(f"name = '{problem.name}'")
    assert (str(registered.version), registered.run_id) == (version, run_id) == ("1", run_id)
    assert tracking.register(problem, run_id, {}) == version


def test_a_refit_is_told_from_the_run_that_was_measured(problem: Problem) -> None:
    import mlflow

    measured = tracking.start_candidate(problem, "logistic", tags())
    refit = tracking.start_candidate(problem, "logistic", tags() | {"training": "t1-refit", "tested_run": measured})
    names = [mlflow.get_run(run).info.run_name for run in (measured, refit)]
    assert names == ["logistic 2024-01-06", "logistic 2024-01-06 refit"]


def test_a_failed_run_says_why_and_is_taken_up(problem: Problem) -> None:
    import mlflow

    run_id = tracking.start_candidate(problem, "logistic", tags())
    tracking.fail(run_id, "no rows" * 1000)
    assert mlflow.get_run(run_id).info.status == "FAILED"
    assert (tracking.run_tag(run_id, "error") or "").startswith("no rows")
    assert tracking.start_candidate(problem, "logistic", tags()) == run_id
    assert mlflow.get_run(run_id).info.status == "RUNNING"


def test_trials_come_back_as_they_were_and_are_seen_below_their_candidate(problem: Problem) -> None:
    import mlflow

    run_id = tracking.start_candidate(problem, "logistic", tags())
    trials = RunTrials(run_id, "log_loss")
    kept = [
        Trial(0, TRIED, (1 / 3, 2 / 3, 0.1 + 0.2), "finished"),
        Trial(1, {**TRIED, "kind": 1}, (1e-300,), "pruned", "below the median"),
        Trial(2, {}, (), "failed", "log_loss is not defined on fold 1"),
    ]
    for trial in reversed(kept):
        trials.keep(trial)
    back = trials.known()
    assert back == kept and [type(back[0].parameters[name]) for name in TRIED] == [type(one) for one in TRIED.values()]
    runs = mlflow.search_runs(experiment_names=[problem.name], filter_string="tags.trial != ''", output_format="list")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {run_id}
    shown = {run.data.tags["trial"]: (run.info.status, run.data.tags["state"]) for run in runs}
    assert shown == {"0": ("FINISHED", "finished"), "1": ("KILLED", "pruned"), "2": ("FAILED", "failed")}
    first = next(run for run in runs if run.data.tags["trial"] == "0")
    assert first.data.metrics["search_log_loss"] == pytest.approx(1.3 / 3)
    assert first.data.metrics["search_log_loss_fold_2"] == 2 / 3 and first.data.params["rate"] == repr(0.1 + 0.2)
    assert first.info.run_name == "logistic 2024-01-06 trial 0"
    tracking.annotate(first.info.run_id, tags={"training": "t1"})
    assert tracking.find_run(problem, {"training": "t1"}) is None, "a trial is no candidate"
    trials.keep(Trial(2, {}, (0.5, 0.5, 0.5), "finished"))
    assert [trial.state for trial in trials.known()] == ["finished", "pruned", "finished"], "the newest of a number"
    other = tracking.start_candidate(problem, "logistic", tags("t2"))
    assert RunTrials(other, "log_loss").known() == []


def test_more_trials_than_a_page_holds_come_back(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:

    trials = RunTrials(tracking.start_candidate(problem, "logistic", tags()), "auc")
    kept = [Trial(number, {"rate": number / 7}, (number / 3,), "finished") for number in range(5)]
    for trial in kept:
        trials.keep(trial)
    from mlflow.tracking import MlflowClient

    pages = MlflowClient.search_runs
    monkeypatch.setattr(MlflowClient, "search_runs", lambda *all, **more: pages(*all, **{**more, "max_results": 2}))
    assert trials.known() == kept


def test_a_search_that_was_killed_goes_on_from_its_runs(problem: Problem) -> None:
    import mlflow

    def kept_in(run_id: str) -> list[Trial]:
        return RunTrials(run_id, "log_loss").known()

    unbroken = tracking.start_candidate(problem, "logistic", tags("whole"))
    found = search(problem, "logistic", TRAIN, RunTrials(unbroken, "log_loss"))
    killed = tracking.start_candidate(problem, "logistic", tags("killed"))

    class Killed(RunTrials):
        def keep(self, trial: Trial) -> None:
            if trial.number == 2:  # while its run is being written
                experiment = mlflow.get_run(self.run_id).info.experiment_id
                mlflow.MlflowClient().create_run(
                    experiment, tags={"mlflow.parentRunId": self.run_id, "trial": "2", "state": "finished"}
                )
                raise KeyboardInterrupt
            super().keep(trial)

    with pytest.raises(KeyboardInterrupt):
        search(problem, "logistic", TRAIN, Killed(killed, "log_loss"))
    assert [trial.number for trial in kept_in(killed)] == [0, 1]
    again = tracking.start_candidate(problem, "logistic", tags("killed"))
    assert search(problem, "logistic", TRAIN, RunTrials(again, "log_loss")) == found
    assert again == killed and kept_in(killed) == kept_in(unbroken)


def test_a_run_that_was_killed_while_it_was_logged_ends_with_the_model_of_its_retry(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    run_id = tracking.start_candidate(problem, "logistic", tags())
    first = fit(problem, "logistic", TRAIN, VALIDATION, parameters={"tol": 0.15})
    second = fit(problem, "logistic", TRAIN, VALIDATION, parameters={"tol": 1e-4})

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "log_params", killed)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                log(problem, first, run_id, parameters={"tol": 0.15})
    assert tracking.find_run(problem, {"training": "t1"}) is None
    assert tracking.start_candidate(problem, "logistic", tags()) == run_id
    log(problem, second, run_id, parameters={"tol": 1e-4})
    assert tracking.load_model(run_id).scores(VALIDATION).tolist() == second.scores(VALIDATION).tolist()
    assert mlflow.get_run(run_id).data.params == {"tol": "0.0001"}
    kept = mlflow.search_logged_models([mlflow.get_run(run_id).info.experiment_id], output_format="list")
    assert len(kept) == 1, "what was half logged is gone"


REGRESSION = {
    "task": "regression",
    "training.select_by": "rmse",
    "gate": {
        "limits": {"rmse": {"max": 9}},
        "slices": None,
        "gain_over_baselines": {"rmse": 0},
        "gain_over_champion": {"rmse": 0},
    },
    "training.candidates.logistic": {"model": "linear"},
}
COUNT = {"by": ["shelf"], "function": "count", "window_days": 3}
MULTICLASS = {
    "task": "multiclass",
    "labels": {"classes": ["dry", "wet", "soaked"]},
    "features.history": {"shelf_rate_3d": COUNT, "shelf_count_2d": COUNT},
    "training.candidates.logistic": {"model": "logistic"},
    "gate": {
        "limits": {"log_loss": {"max": 9}},
        "gain_over_baselines": {"log_loss": 0},
        "gain_over_champion": {"log_loss": 0},
    },
}


@pytest.mark.parametrize(("task", "changes"), [("regression", REGRESSION), ("multiclass", MULTICLASS)])
def test_models_of_other_tasks_are_kept_and_served(toy: ToyProblem, task: str, changes: dict[str, Any]) -> None:
    import mlflow

    problem = toy(**changes)
    label = TRAIN["litres"].to_numpy() if task == "regression" else np.arange(len(TRAIN)) % 3
    rows = TRAIN.set_column(TRAIN.schema.get_field_index("label"), "label", pa.array(label))
    model = fit(problem, "logistic", rows, rows)
    run_id = log(problem, model, tags=tags(task))
    again = tracking.load_model(run_id)
    assert again.scores(VALIDATION).tolist() == model.scores(VALIDATION).tolist()
    frame = VALIDATION.select(problem.feature_names).to_pandas()
    served = mlflow.pyfunc.load_model(f"runs:/{run_id}/model").predict(frame)
    assert served.shape == ((40,) if task == "regression" else (40, 3))
    assert np.array_equal(served, model.scores(VALIDATION))


def test_a_model_asks_for_the_build_of_xgboost_that_it_was_made_with() -> None:
    import xgboost

    asked = dict(line.split("==") for line in requirements())
    builds = {"xgboost-cpu", "xgboost"} & asked.keys()
    assert len(builds) == 1, "one of the two is installed"
    assert asked[builds.pop()] == xgboost.__version__
    assert {"mlflow", "scikit-learn", "skops"} <= asked.keys()


def test_files_of_a_run_are_bytes_or_json(problem: Problem) -> None:
    import mlflow

    run_id = tracking.log_files(problem, "curves", tags={"candidate": "logistic"}, files={"curve.html": b"<p>"})
    tracking.annotate(
        run_id, metrics={"auc": 0.5}, tags={"gate": "failed"}, files={"a.json": {"b": 1}, "c/d.bin": NO_TEXT}
    )
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.metrics == {"auc": 0.5}
    assert tracking.run_tag(run_id, "gate") == "failed" and tracking.run_tag(run_id, "none") is None
    assert tracking.run_file(run_id, "a.json") == {"b": 1}
    for name, content in (("curve.html", b"<p>"), ("c/d.bin", NO_TEXT)):
        assert Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{name}")).read_bytes() == content
    assert tracking.find_run(problem, {"training": "t1"}) is None


def test_a_model_that_is_not_to_be_trusted_is_not_loaded(problem: Problem, tmp_path: Path) -> None:
    path = tmp_path / "model" / "model.skops"
    path.parent.mkdir()
    path.write_bytes(skops.io.dumps(Trial(0, {}, (), "failed")))
    run_id = tracking.log_files(problem, "stranger", tags={}, files={"model/model.skops": path.read_bytes()})
    with pytest.raises(DataError, match="not to be trusted"):
        tracking.load_model(run_id)
    run_id = tracking.log_files(problem, "empty", tags={}, files={"model/readme.txt": b"none"})
    with pytest.raises(DataError, match=r"the run has no model\.skops"):
        tracking.load_model(run_id)
    with pytest.raises(DataError, match="MLflow refused"):
        tracking.load_model("f" * 32)


def test_the_registry_has_one_champion_and_remembers_the_one_before(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    with pytest.raises(NothingToDo, match="no champion serves yet"):
        tracking.serving(problem)
    runs = [tracking.log_files(problem, "model", tags={}, files={"model/MLmodel": b"flavors: {}\n"}) for _ in "ab"]
    versions = [tracking.register(problem, run, {"candidate": "logistic"}) for run in runs]
    assert tracking.register(problem, runs[0], {}) == versions[0], "a run is registered once"
    assert tracking.promote(problem, versions[0]) is None and tracking.promote(problem, versions[0]) is None
    assert tracking.promote(problem, versions[1]) == versions[0]
    assert str(tracking.serving(problem).version) == versions[1]
    previous = mlflow.MlflowClient().get_model_version_by_alias(problem.name, "previous")
    assert str(previous.version) == versions[0]
    assert mlflow.artifacts.load_text(f"{previous.source}/MLmodel") == "flavors: {}\n"
    came = {name: datetime.fromisoformat(previous.tags[f"{name}_since"]) for name in ("challenger", "champion")}
    assert came["challenger"] <= came["champion"] <= datetime.fromisoformat(previous.tags["previous_since"])
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    tracking.describe(problem, versions[0], "# Card\n\nIt is good.\n\n## Data\n\n" + "rows " * 1000)
    page = f"https://airflow.example/evergreen/pages/{problem.name}/models/{versions[0]}/card.html"
    shown = mlflow.MlflowClient().get_model_version(problem.name, versions[0]).description
    assert shown == f"[The whole model card]({page})\n\n# Card\n\nIt is good.\n"


def test_without_a_server_the_message_says_what_to_set(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI is not set"):
        tracking.start_candidate(problem, "logistic", tags())


@pytest.mark.parametrize("is_of_files", [False, True])
def test_an_answer_that_breaks_off_is_no_refusal(is_of_files: bool) -> None:
    """MLflow's client repeats a request that got no answer, and not one whose answer broke off."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import ChunkedEncodingError

    text = "('Connection broken: IncompleteRead(1 bytes read)', IncompleteRead(1 bytes read))"
    error = ChunkedEncodingError(text)
    with pytest.raises(ServiceUnavailable, match="Connection broken"), explained():
        raise error if is_of_files else MlflowException(f"API request to http://a/b failed with exception {text}")


def test_a_model_that_did_not_come_is_not_taken_for_one_that_is_not_there(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's client says of whatever went wrong on the way that the path may be wrong."""
    import mlflow
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    def broken(*_: Any, **__: Any) -> None:
        raise ConnectionError("the connection broke off")

    run_id = log(problem, fit(problem, "logistic", TRAIN, VALIDATION))
    empty = tracking.log_files(problem, "no model", tags={}, files={"page.html": b""})
    monkeypatch.setattr(LocalArtifactRepository, "download_artifacts", broken)
    for fetch in (tracking.load_model, tracking.model_sha256):
        with pytest.raises(ServiceUnavailable, match="could not be fetched"):
            fetch(run_id)
        with pytest.raises(DataError, match="the run has no model"):
            fetch(empty)
    assert mlflow.get_run(run_id).info.status == "FINISHED"


def test_of_a_model_its_file_alone_is_fetched(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is a request to MLflow, and one of MLflow's to its store."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    run_id = log(problem, fit(problem, "logistic", TRAIN, VALIDATION))
    fetched = []
    download = LocalArtifactRepository.download_artifacts

    def noted(repository: Any, artifact_path: str, *given: Any, **more: Any) -> Any:
        fetched.append(artifact_path)
        return download(repository, artifact_path, *given, **more)

    monkeypatch.setattr(LocalArtifactRepository, "download_artifacts", noted)
    tracking.load_model(run_id, tracking.model_sha256(run_id))
    assert [Path(path).name for path in fetched] == ["model.skops"] * 2


def test_credentials_that_are_refused_for_files_are_said_to_be() -> None:
    from requests import HTTPError, Response

    answer = Response()
    answer.status_code = 403
    with pytest.raises(AccessError, match="refused the credentials"), explained():
        raise HTTPError("403 Client Error", response=answer)
