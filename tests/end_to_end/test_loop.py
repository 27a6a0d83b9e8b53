"""The whole loop through Airflow's REST API: history, first model, three weeks, a retraining; then what people check.

The tests build on each other, in order: each leaves the services as the next one finds them.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import boto3
import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from deltalake import DeltaTable

from docs.browser import browser, installed
from docs.screenshots import HAS_TEXT, Page, faults_of
from pipelines import store, summary, tracking
from pipelines.cli import replay
from pipelines.cli.airflow_client import FINISHED, AirflowClient, Run, run_path
from pipelines.errors import AccessError, DataError
from pipelines.health.state import health_of
from pipelines.problem import Problem
from tests.end_to_end.conftest import fetch

# test_decisions, which runs beside it, holds the one slot for trainings for minutes.
pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1500)]
WEEKS = ("2013-02-11", "2013-02-18")
CANDIDATES = {"prior", "xgboost"}
LAST = "2013-02-25"


@pytest.fixture(scope="session")
def told(airflow: AirflowClient, problem: Problem) -> list[replay.Finished]:
    """What the replay tells of its tasks, up to and with the retraining."""
    found: list[replay.Finished] = []
    replay.prepare(airflow, problem)
    replay.start(airflow, problem, found.append)
    replay.play(airflow, problem, WEEKS, found.append)
    return found


def s3() -> Any:
    """A plain S3 client, with the login that the environment has now (boto3 would keep its first)."""
    return boto3.client(
        "s3",
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def wait(until: Callable[[], Any], seconds: float = 600) -> Any:
    end = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < end, f"not in {seconds} s"
        time.sleep(0.5)
    return found


def tasks(airflow: AirflowClient, run: Run) -> dict[str, str | None]:
    path = run_path(run)
    return {task["task_id"]: task["state"] for task in airflow._tasks(path)}


def answer(airflow: AirflowClient, run: Run, place: int, given: Callable[[Any], dict[str, Any]]) -> Any:
    """Answer the task `ask` of a run with what `given` makes of its question; the question. An answer that comes in the
    moment in which the task parks is lost, and it asks again: it is answered until it goes on."""
    form = f"{run_path(run)}/taskInstances/ask/{place}/hitlDetails"
    question: Any = None

    def is_answered() -> bool:
        nonlocal question
        state = tasks(airflow, run).get("ask")
        if state == "awaiting_input":
            question = airflow._call("GET", form)
            with suppress(DataError):  # one answer is enough
                airflow._call("PATCH", form, json=given(question))
        return state in FINISHED

    wait(is_answered)
    return question


def test_every_stage_ran_in_airflow(told: list[replay.Finished]) -> None:
    stages = {one.stage.split()[0] for one in told if one.state == "success"}
    wanted = {
        "ingest.extract",
        "ingest.publish",
        "train.check",
        "train.promote",
        "score.score",
        "score.publish",
        "monitor.report",
        "monitor.act",
    }
    assert wanted <= stages
    assert not [one for one in told if one.state == "failed"]
    assert {one.stage for one in told if one.stage.startswith("train.train")} == {
        f"train.train {candidate}" for candidate in CANDIDATES
    }


def test_the_history_woke_nobody_and_each_week_woke_its_chain(
    airflow: AirflowClient, problem: Problem, told: list[replay.Finished]
) -> None:
    for dag in ("score", "monitor"):
        runs = airflow.runs(f"{problem.name}.{dag}")
        assert [(run["partition_key"], run["run_type"]) for run in runs] == [
            (week, "asset_triggered") for week in WEEKS
        ]


def test_the_retraining_was_triggered_by_the_asset_with_its_partition_key(
    airflow: AirflowClient, problem: Problem, told: list[replay.Finished]
) -> None:
    first, retraining = airflow.runs(f"{problem.name}.train")
    assert (first["run_type"], first["dag_run_id"]) == ("manual", "first_model")
    assert (retraining["run_type"], retraining["partition_key"]) == ("asset_triggered", WEEKS[1])
    assert retraining["triggered_by"] == "asset"
    rows = {row.partition: row for row in summary.partitions(problem)}
    assert (rows[WEEKS[1]].action, rows[WEEKS[1]].outcome) == ("retrain", "v2 promoted")
    assert rows[WEEKS[0]].quality is not None
    assert str(tracking.serving(problem).version) == "2"


def test_mlflow_lists_comparable_runs_behind_a_login(
    services: None, problem: Problem, told: list[replay.Finished]
) -> None:
    import mlflow

    found = mlflow.search_runs(experiment_names=[problem.name], output_format="list")
    runs = [run for run in found if "tested_run" not in run.data.tags]
    refits = {run.info.run_id: run.data.tags["tested_run"] for run in found if "tested_run" in run.data.tags}
    versions = mlflow.MlflowClient().search_model_versions(f"name = '{problem.name}'")
    assert {version.run_id for version in versions} == set(refits), "what serves was fitted again"
    assert set(refits.values()) <= {run.info.run_id for run in runs}, "and is one of the tested ones"
    assert {run.data.tags["candidate"] for run in runs} == CANDIDATES
    assert all({"validation_auc", "test_auc"} <= set(run.data.metrics) for run in runs)
    assert len(runs) == 2 * len(CANDIDATES)
    url = f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search?max_results=5"
    assert fetch(url).status_code == 401
    assert fetch(url, auth=("admin", "password1234")).status_code == 401


def test_mlflow_sends_no_client_to_the_store(
    problem: Problem, told: list[replay.Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's own client, as in a notebook, without our settings: it may not reach the store, as MLflow does."""
    import mlflow

    found = fetch(f"{os.environ['MLFLOW_TRACKING_URI']}/api/3.0/mlflow/server-info").json()
    assert (found["multipart_downloads_enabled"], found["multipart_uploads_enabled"]) == (False, False)
    monkeypatch.delenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD")
    run = mlflow.get_run(tracking.serving(problem).run_id)
    assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/lineage.json")


def test_predictions_are_read_back_with_boto3_and_pyarrow_alone(problem: Problem, told: list[replay.Finished]) -> None:
    import json

    bucket, client = os.environ["EVERGREEN_STORE_URI"].removeprefix("s3://"), s3()
    for week in WEEKS:
        events = store.dataset(problem, "events").to_table(columns=["flight_id"], filter=pc.field("partition") == week)
        body = client.get_object(Bucket=bucket, Key=f"{problem.name}/predictions_manifest/{week}.json")["Body"]
        manifest = json.loads(body.read())
        keys = []
        for uri in manifest["files"]:
            content = client.get_object(Bucket=bucket, Key=uri.removeprefix(f"s3://{bucket}/"))["Body"].read()
            table = pq.read_table(io.BytesIO(content))
            assert {"flight_id", "event_time", "score", "model_version"} <= set(table.column_names)
            keys += table["flight_id"].to_pylist()
        assert len(keys) == len(set(keys)) == events.num_rows == manifest["rows"]
        assert set(keys) == set(events["flight_id"].to_pylist())
    table = DeltaTable(f"s3://{bucket}/{problem.name}/predictions", storage_options=store.storage_options())
    assert table.to_pyarrow_dataset().count_rows() == sum(row.scored for row in summary.partitions(problem))


def test_the_store_refuses_a_wrong_secret(
    problem: Problem, told: list[replay.Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ClientError, match=r"403|SignatureDoesNotMatch"):
        s3().list_objects_v2(Bucket="evergreen")
    with pytest.raises(AccessError, match="the store refused the credentials"):
        store.table_version(problem, "events")
    with pytest.raises(AccessError, match="the store refused the credentials"):
        store.read_bytes(store.store_uri(problem.name, "reports", WEEKS[0], "drift.html"))


def test_mlflow_refuses_a_wrong_password(
    problem: Problem, told: list[replay.Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-password")
    with pytest.raises(AccessError, match="MLflow refused the credentials"):
        tracking.serving(problem)


def test_the_drift_report_is_served_to_those_who_are_logged_in(
    airflow: AirflowClient, problem: Problem, told: list[replay.Finished]
) -> None:
    page = f"{airflow.url}/evergreen/pages/{problem.name}/reports/{WEEKS[0]}/drift.html"
    assert fetch(page).status_code == 401
    token = airflow._http.headers["Authorization"]
    answer = fetch(page, headers={"Authorization": token})
    assert (answer.status_code, "<html" in answer.text[:2000].lower()) == (200, True)
    assert fetch(page.replace(WEEKS[0], "2013-03-04"), headers={"Authorization": token}).status_code == 404


def test_the_runs_pages_are_served(airflow: AirflowClient, problem: Problem, told: list[replay.Finished]) -> None:
    """What the buttons open, and which of the pages the Evidence tab shows."""
    login = {"Authorization": airflow._http.headers["Authorization"]}
    for dag, task, button, title, is_shown in (
        ("ingest", "validate", "Validation", f"{problem.name}: validation of", True),
        ("train", "check", "Datasheet", "Training set", False),
        ("train", "gate", "Evaluation", "Passed: it may serve.", True),
        ("train", "register", "Model card", "Model card", False),
    ):
        run = airflow.runs(f"{problem.name}.{dag}")[-1]
        links = airflow._call("GET", f"{run_path(run)}/taskInstances/{task}/links")["extra_links"]
        page = fetch(airflow.url + links[button], headers=login)
        assert (page.status_code, title in page.text) == (200, True)
        evidence = fetch(f"{airflow.url}/evergreen/runs/{run['dag_id']}/{run['dag_run_id']}", headers=login)
        assert (f'<iframe src="{links[button]}" sandbox=' in evidence.text) == is_shown


def test_the_health_page_has_the_problems_history(
    airflow: AirflowClient, problem: Problem, told: list[replay.Finished]
) -> None:
    health = f"{airflow.url}/evergreen/health"
    assert fetch(health).status_code == 401
    login = {"Authorization": airflow._http.headers["Authorization"]}
    overview = fetch(health, headers=login).text
    assert f'<a href="health/{problem.name}">{problem.name}</a>' in overview
    assert f'<a href="pages/{problem.name}/models/2/card.html">version 2</a>' in overview
    page = fetch(f"{health}/{problem.name}", headers=login).text
    assert page.count('class="mark promoted"') == 2 + 1, "both versions, and the legend"
    monitored = airflow.run_of(f"{problem.name}.monitor", WEEKS[1])
    assert monitored and f"dags/{problem.name}.monitor/runs/{quote(monitored['dag_run_id'], safe='')}" in page
    plugins = {plugin["name"]: plugin for plugin in airflow._call("GET", "/api/v2/plugins")["plugins"]}
    views = {view["name"]: view["destination"] for view in plugins["evergreen"]["external_views"]}
    assert views == {"Health": "nav", "Evidence": "dag_run"}


@pytest.mark.skipif(installed() is None, reason="there is no Chromium; .ci/run installs it")
def test_pages_of_ours_are_clean_in_a_browser(
    airflow: AirflowClient, problem: Problem, told: list[replay.Finished]
) -> None:
    """On a phone, in the dark: no error in the console, nothing of another host, no page that scrolls sideways."""
    token = airflow._http.headers["Authorization"].removeprefix("Bearer ")
    health, of_problem = (f"{airflow.url}/evergreen/{part}" for part in ("health", f"pages/{problem.name}"))
    addresses = {health, f"{health}/{problem.name}", f"{of_problem}/reports/{WEEKS[1]}/monitoring.html"}
    wrong: list[str] = []
    with browser() as chromium:
        for address in sorted(addresses):
            with chromium.tab(390, 844, is_dark=True) as tab:
                tab.cookie(airflow.url, "_token", token)
                tab.open(address, HAS_TEXT)
                assert problem.name in tab.evaluate("document.body.innerText")
                wrong += [f"{address}: {fault}" for fault in faults_of(tab, Page("ours", address))]
    assert wrong == []


def test_people_are_asked_for_labels_and_their_answers_are_statements(
    airflow: AirflowClient, problem: Problem, told: list[replay.Finished]
) -> None:
    run = airflow.trigger(f"{problem.name}.annotate", "by_hand")

    def filled_in(form: Any) -> dict[str, Any]:
        labels = dict.fromkeys(form["params"], "positive") | {"event_02": "cannot tell"}
        return {"chosen_options": ["OK"], "params_input": labels}

    questions = answer(airflow, run, 0, filled_in)["params"]
    assert airflow.follow(run, lambda *_: None, 600)["state"] == "success"
    assert tasks(airflow, run)["self_train"] == "skipped"

    chosen, collected = (airflow.xcom(run, task) for task in ("choose", "collect"))
    assert (collected["labelled"], collected["people"]) == (len(questions) - 1, ["admin"])
    labels = store.dataset(problem, "labels").to_table(filter=pc.field("source") == "hand")
    assert sorted(labels["flight_id"].to_pylist()) == sorted(set(chosen["events"]) - {chosen["events"][1]})
    assert set(labels["label"].to_pylist()) == {1}
    assert set(labels["labeler"].to_pylist()) == {"admin"}
    weak = store.dataset(problem, "labels").to_table(filter=pc.field("source") == "weak")
    assert weak.num_rows == airflow.xcom(run, "vote")["labelled"] > 0


def rescore(airflow: AirflowClient, problem: Problem) -> dict[str, Any]:
    run = airflow.run_of(f"{problem.name}.score", WEEKS[0])
    assert run is not None
    airflow._call("POST", f"{run_path(run)}/clear", json={"dry_run": False})
    return run


def one_row_per_event(problem: Problem) -> bool:
    found = store.dataset(problem, "predictions").to_table(
        columns=["flight_id"], filter=pc.field("partition") == WEEKS[0]
    )
    events = store.dataset(problem, "events").count_rows(filter=pc.field("partition") == WEEKS[0])
    return events == found.num_rows == len(found["flight_id"].unique())


def runners(instance: str) -> Iterator[psutil.Process]:
    """The processes that run one task instance."""
    for process in psutil.process_iter(["cmdline"]):
        if instance in " ".join(process.info["cmdline"] or []):
            yield process


@pytest.fixture(scope="module")
def killed(airflow: AirflowClient, problem: Problem, told: list[replay.Finished]) -> dict[str, Any]:
    """A scoring run whose task was killed. Airflow misses it after a minute (Celery tells of it at once) and waits half
    of one before it tries again: the tests that ask for this fixture first use that time."""
    run = rescore(airflow, problem)
    path = run_path(run)

    def running() -> list[psutil.Process]:
        scoring = [t for t in airflow._tasks(path) if t["task_id"] == "score" and t["state"] == "running"]
        return [process for task in scoring for process in runners(task["id"])]

    for process in wait(running):
        process.kill()
    return run


@pytest.mark.usefixtures("killed")
def test_a_gate_that_fails_leaves_the_champion_and_shows_why(
    airflow: AirflowClient, problem: Problem, told: list[replay.Finished]
) -> None:
    path = problem.folder / "problem.yaml"
    kept = path.read_text()
    path.write_text(kept.replace("min: 0.51", "min: 0.99"))
    try:
        run = airflow.trigger(f"{problem.name}.train", "by_hand_too_strict")
        assert airflow.follow(run, lambda *_: None, 600)["state"] == "failed"
    finally:
        path.write_text(kept)
    states = tasks(airflow, run)
    assert (states["gate"], states["register"], states["promote"]) == ("failed", "upstream_failed", "upstream_failed")
    assert "wanted at least 0.99" in airflow.xcom(run, "gate", "verdict")
    assert str(tracking.serving(problem).version) == "2"


def test_a_scoring_task_that_is_killed_is_retried_to_one_row_per_event(
    airflow: AirflowClient, problem: Problem, killed: dict[str, Any]
) -> None:
    assert airflow.follow(killed, lambda *_: None, 600)["state"] == "success"
    tries = [task["try_number"] for task in airflow._tasks(run_path(killed)) if task["task_id"] == "score"]
    assert max(tries) > 1
    assert one_row_per_event(problem)


def test_the_replay_goes_on_from_what_is_there(
    airflow: AirflowClient, problem: Problem, told: list[replay.Finished]
) -> None:
    again: list[replay.Finished] = []
    replay.start(airflow, problem, again.append)
    replay.play(airflow, problem, [WEEKS[1]], again.append)
    assert again == []
    replay.play(airflow, problem, [LAST], again.append)
    assert {one.partition for one in again} == {LAST}
    assert health_of(problem).newest("predictions") == LAST


def test_a_broken_problem_shows_as_an_import_error_and_breaks_no_other(
    airflow: AirflowClient, problem: Problem, told: list[replay.Finished]
) -> None:
    broken = problem.folder.parent / "broken"
    broken.mkdir()
    text = (problem.folder / "problem.yaml").read_text()
    (broken / "problem.yaml").write_text(text.replace("owner:", "onwer:"))

    def message() -> str:
        return "\n".join(error["stack_trace"] for error in airflow.import_errors())

    try:
        wait(lambda: "onwer: unknown key; did you mean 'owner'?" in message())
        assert f"{problem.name}.train" in airflow.dag_ids()
    finally:
        (broken / "problem.yaml").unlink()
        broken.rmdir()
    wait(lambda: not message())
