"""Errors become outcomes, results become verdicts and facts, and a run knows what it covers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from include.boundary import boundary, last_word, partition_key, span, stage
from pipelines.errors import GateFailed, NothingToDo, SchemaError, ServiceUnavailable


def raises(error: BaseException) -> Any:
    @boundary
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NothingToDo("no drift"), AirflowSkipException),
        (SchemaError("column gone"), AirflowFailException),
        (GateFailed("AUC 0.61 < 0.67"), AirflowFailException),
        (ServiceUnavailable("store"), AirflowException),
        (ConnectionResetError("peer"), AirflowException),
        (KeyError("a fault of ours"), AirflowFailException),
        (AirflowSkipException("Airflow's own"), AirflowSkipException),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_outcomes(error: BaseException, outcome: type[BaseException]) -> None:
    with pytest.raises(outcome) as caught:
        raises(error)()
    assert type(caught.value) is outcome  # AirflowException retries; its subclass AirflowFailException does not


def test_the_message_says_what_where_and_next() -> None:
    with pytest.raises(AirflowFailException) as caught:
        raises(SchemaError("column 'dest' is gone", where="events", cure="mend the query"))()
    assert str(caught.value) == "column 'dest' is gone\n  where: events\n  next:  mend the query"


def test_a_failing_gate_leaves_its_reason(context: dict[str, Any]) -> None:
    with running(context), pytest.raises(AirflowFailException):
        raises(GateFailed("AUC 0.61 < 0.67", where="gate", cure="compare the runs"))()
    assert context["ti"].pushed == {"verdict": "GateFailed: AUC 0.61 < 0.67"}


def test_a_result_leaves_its_verdict_and_its_facts(context: dict[str, Any]) -> None:
    asset = context["task"].outlets[0]
    with running(context):
        boundary(lambda: {"verdict": "label shift", "reason": "rate .24 to .31", "rows": 98, "columns": ["a"]})()
    assert context["ti"].pushed == {"verdict": "label shift: rate .24 to .31"}
    assert context["outlet_events"][asset].extra == {"verdict": "label shift", "reason": "rate .24 to .31", "rows": 98}


@pytest.mark.parametrize(("index", "part"), [(-1, None), (2, "2")])
def test_a_try_is_measured_as_airflow_names_it(
    context: dict[str, Any], store_folder: Path, monkeypatch: pytest.MonkeyPatch, index: int, part: str | None
) -> None:
    from pipelines.problem import load_problem
    from pipelines.usage.table import tries

    monkeypatch.setattr("tempfile.tempdir", str(store_folder.parent))
    context["ti"].map_index = index
    with running(context), pytest.raises(AirflowFailException):
        raises(GateFailed("AUC 0.61 < 0.67", where="gate", cure="compare the runs"))()
    (attempt,) = tries(load_problem("flight_delay"))
    about = (attempt.stage, attempt.run, attempt.try_number, attempt.partition, attempt.part)
    assert about == ("train.gate", "manual__1", 2, "2013-04-01", part)
    assert (attempt.outcome, attempt.reason) == ("failed", "GateFailed")


def test_the_last_word_is_the_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        last_word({"exception": AirflowFailException("what\n  next:  this")})
    assert caplog.messages == ["::endgroup::", "what\n  next:  this"]


def test_stage_calls_the_function_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import pipelines.stages.ingest.publish as module

    monkeypatch.setattr(module, "publish", lambda problem, validated: (problem, validated))
    publish = stage("ingest.publish")
    assert publish.function("flight_delay", {"rows": 1}) == ("flight_delay", {"rows": 1})
    assert publish.function.__name__ == "publish"


def test_partition_key() -> None:
    assert partition_key(run("2013-04-01")) == "2013-04-01"
    with pytest.raises(AirflowFailException, match="no partition key"):
        partition_key(run(None))
    for text in ("../../api/v2/variables", "2013-04-01/..", "2013-13-01", "champion"):
        with pytest.raises(AirflowFailException, match="is no partition key"):
            partition_key(run(text))


def test_span_of_a_partition_and_of_a_history() -> None:
    nothing = {"first": None, "last": None}
    history = {"first": "2012-12-31", "last": "2013-03-25"}
    assert span(run("2013-04-01"), nothing) == ("2013-04-01", "2013-04-01")
    assert span(run(None), history) == ("2012-12-31", "2013-03-25")
    for key, params in ((None, nothing), (None, history | {"last": None}), ("2013-04-01", history)):
        with pytest.raises(AirflowFailException, match="next:"):
            span(run(key), params)


def run(key: str | None) -> Any:
    return SimpleNamespace(partition_key=key)


@pytest.fixture
def context() -> dict[str, Any]:
    asset = Asset("flight_delay/retrain_request")
    pushed: dict[str, str] = {}
    return {
        "ti": SimpleNamespace(
            pushed=pushed,
            xcom_push=pushed.__setitem__,
            dag_id="flight_delay.train",
            task_id="gate",
            run_id="manual__1",
            map_index=-1,
            try_number=2,
        ),
        "dag_run": run("2013-04-01"),
        "task": SimpleNamespace(outlets=[asset]),
        "outlet_events": {asset: SimpleNamespace(extra=None)},
    }


@contextmanager
def running(context: Any) -> Iterator[None]:
    from airflow.sdk.execution_time.context import set_current_context

    with set_current_context(context):
        yield
