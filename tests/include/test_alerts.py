"""Alerts go out for real, to an HTTP and an SMTP server on this machine; what fails on the way is logged."""

from __future__ import annotations

import email
import email.policy
import json
import logging
import shutil
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowFailException

from include import alerts
from include.boundary import boundary
from pipelines import ledger
from pipelines.alerts import KINDS, Alert
from pipelines.config import Action
from pipelines.errors import DataError, GateFailed, SchemaError, ServiceUnavailable
from pipelines.handoffs.ingestion import Published
from pipelines.handoffs.monitoring import Decided
from pipelines.handoffs.releases import Assessed, Stepped
from pipelines.handoffs.training import Evaluated, Promoted, Registered
from pipelines.problem import load_problem
from pipelines.problem_folders import folder_of
from tests.handed_on import example

TOKEN = "s3cr3t-t0ken"


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted; answers with `status`, once `may_answer`."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status = 200
        self.may_answer = threading.Event()
        self.may_answer.set()
        super().__init__(("127.0.0.1", 0), _Post)


class _Post(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), json.loads(content)))
        self.server.may_answer.wait(20)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class MailServer(socketserver.ThreadingTCPServer):
    """As much of RFC 5321 as it takes to be handed a mail."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[tuple[list[str], Any]] = []
        super().__init__(("127.0.0.1", 0), _Mail)


class _Mail(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        recipients: list[str] = []
        self._say("220 here")
        for line in iter(self.rfile.readline, b""):
            command = line.decode().strip().upper()
            if command.startswith("RCPT TO:"):
                recipients.append(line.decode().strip()[8:].strip("<>"))
            if command == "DATA":
                self._say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                self.server.got.append((recipients, mail))
            self._say("221 bye" if command == "QUIT" else "250 fine")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with serving(Receiver()) as server:
        connection = {"conn_type": "http", "host": f"http://127.0.0.1:{server.server_port}/hook?key={TOKEN}"}
        monkeypatch.setenv("AIRFLOW_CONN_OPS", json.dumps(connection))
        yield server


@pytest.fixture
def mail_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    with serving(MailServer()) as server:
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "evergreen@example.com"}
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.server_address[1], "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        yield server


class serving:  # noqa: N801 (reads as a verb)
    """A server in a thread of its own."""

    def __init__(self, server: Any) -> None:
        self.server = server

    def __enter__(self) -> Any:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self.server

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def configured(tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives the problem `kettle` these channels."""
    source = folder_of("flight_delay")
    shutil.copytree(source, tmp_path / "problems" / "kettle")
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example.com/base/")

    def configure(*channels: dict[str, Any], **settings: Any) -> None:
        raw = yaml.safe_load((source / "problem.yaml").read_text())
        raw["alerts"] = {"channels": list(channels), **settings}
        (tmp_path / "problems" / "kettle" / "problem.yaml").write_text(yaml.safe_dump(raw))

    return configure


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger=alerts.log.name)
    return caplog


def context(dag: str, task: str, raises: Exception | None = None, key: str | None = "2013-04-01", **pulled: Any) -> Any:
    """What Airflow hands to a callback, of a task that passed the boundary."""
    params = {"first": "2012-12-31", "last": "2013-03-25"} if key is None else {}
    told = {"dag_run": SimpleNamespace(partition_key=key), "params": params}
    ti = SimpleNamespace(
        dag_id=f"kettle.{dag}",
        task_id=task,
        run_id=f"run {key}",
        map_index=-1,
        try_number=1,
        log_url=f"http://airflow.example.com/base/dags/kettle.{dag}/tasks/{task}",
        xcom_pull=lambda task_ids: pulled.get(task_ids),
        get_template_context=lambda: told,
    )
    if raises is None:
        return {**told, "ti": ti}

    @boundary
    def body() -> None:
        raise raises

    with pytest.raises(Exception, match=r".*") as caught:
        body()
    return {**told, "ti": ti, "exception": caught.value}


def decision(action: str, partition: str = "2013-04-01", **changes: Any) -> dict[str, Any]:
    fields = {"partition": partition, "version": "3", "verdict": "covariate shift", "reason": "PSI 0.31 of temp"}
    decided = example(Decided, **{**fields, "action": Action(action), "measures": ["temp"], **changes})
    return decided.model_dump(mode="json")


def test_a_failed_task_is_told(receiver: Receiver, configured: Callable[..., None]) -> None:
    configured({"webhook": "ops"})
    alerts.failed(context("score", "plan", ServiceUnavailable("no answer", where="s3://a", cure="is it running?")))
    [(path, _, sent)] = receiver.got
    assert path == f"/hook?key={TOKEN}"
    assert sent["subject"] == "[error] kettle 2013-04-01: score.plan failed (ServiceUnavailable)"
    assert sent["reason"] == "no answer\n  where: s3://a\n  next:  is it running?"
    assert sent["links"] == {"Task": "http://airflow.example.com/base/dags/kettle.score/tasks/plan"}


def test_a_bulk_history_is_named_by_its_last_partition(receiver: Receiver, configured: Callable[..., None]) -> None:
    configured({"webhook": "ops"})
    alerts.failed(context("ingest", "extract", KeyError("a fault of ours"), key=None))
    sent = receiver.got[0][2]
    assert sent["subject"] == "[error] kettle 2013-03-25: ingest.extract failed (KeyError)"


@pytest.mark.parametrize(
    ("dag", "task", "error", "kind", "page"),
    [
        (
            "ingest",
            "validate",
            DataError("too bad"),
            "data refused",
            ("Validation", "reports/2013-04-01_2013-04-01/validation.html"),
        ),
        (
            "ingest",
            "validate",
            SchemaError("gone"),
            "data refused",
            ("Validation", "reports/2013-04-01_2013-04-01/validation.html"),
        ),
        ("train", "check", DataError("a leak"), "task failed", None),
        (
            "train",
            "gate",
            GateFailed("AUC 0.6 < 0.7"),
            "gate refused",
            ("Evaluation", "evaluations/2013-04-01-0123abcd.html"),
        ),
        ("ask", "ask", AirflowFailException("Airflow's own"), "task failed", None),
    ],
)
def test_kinds_of_failure(
    receiver: Receiver,
    configured: Callable[..., None],
    dag: str,
    task: str,
    error: Exception,
    kind: str,
    page: tuple[str, str] | None,
) -> None:
    configured({"webhook": "ops"})
    alerts.failed(
        context(dag, task, error, evaluate=example(Evaluated, training="2013-04-01-0123abcd").model_dump(mode="json"))
    )
    sent = receiver.got[0][2]
    assert sent["kind"] == kind and sent["severity"] == ("warning" if kind == "gate refused" else "error")
    links = dict(sent["links"])
    links.pop("Task")
    assert links == ({page[0]: f"http://airflow.example.com/base/evergreen/pages/kettle/{page[1]}"} if page else {})


def test_a_killed_process_is_told_without_an_exception(receiver: Receiver, configured: Callable[..., None]) -> None:
    """The DAG processor runs the callback then, and knows little."""
    configured({"webhook": "ops"})
    killed = context("train", "train")
    alerts.failed({"ti": killed["ti"]})
    sent = receiver.got[0][2]
    assert sent["subject"] == "[error] kettle: train.train failed" and "killed" in sent["reason"]


def test_each_page_that_a_kind_of_alert_names_is_a_button() -> None:
    assert set(alerts.PAGES) == {about.page for about in KINDS.values() if about.page}


def test_decisions_of_the_monitor(receiver: Receiver, configured: Callable[..., None]) -> None:
    configured({"webhook": "ops", "min_severity": "info"})
    alerts.alerted(context("monitor", "act", decide=decision("none")))
    alerts.alerted(context("monitor", "act", decide=decision("retrain")))  # skipped: it was trained before
    alerts.requested(context("monitor", "act", decide=decision("alert")))
    assert receiver.got == []
    alerts.alerted(context("monitor", "act", decide=decision("alert")))
    alerts.requested(context("monitor", "act", decide=decision("retrain", verdict="performance drop")))
    first, second = (sent for *_, sent in receiver.got)
    assert first["subject"] == "[warning] kettle 2013-04-01: covariate shift"
    assert first["links"]["Monitoring"].endswith("/base/evergreen/pages/kettle/reports/2013-04-01/monitoring.html")
    assert second["subject"] == "[info] kettle 2013-04-01: performance drop: retraining requested"


def test_what_the_monitor_has_done_itself_is_told(receiver: Receiver, configured: Callable[..., None]) -> None:
    configured({"webhook": "ops", "min_severity": "info"})
    alerts.alerted(context("monitor", "act", decide=decision("quarantine", verdict="data fault")))
    alerts.alerted(context("monitor", "act", decide=decision("roll_back", verdict="performance drop")))
    alerts.requested(context("monitor", "act", decide=decision("recalibrate", verdict="calibration drift")))
    assert [sent["subject"] for *_, sent in receiver.got] == [
        "[error] kettle 2013-04-01: data fault: the partition is in quarantine",
        "[warning] kettle 2013-04-01: performance drop: the version before serves again",
        "[info] kettle 2013-04-01: calibration drift: the champion is to be calibrated again",
    ]


def test_a_history_without_its_refused_partitions_is_told(receiver: Receiver, configured: Callable[..., None]) -> None:
    configured({"webhook": "ops"})
    whole = example(Published, first="2013-03-04", last="2013-03-25")
    alerts.held_back(context("ingest", "publish", key=None, publish=whole.model_dump(mode="json")))
    assert receiver.got == []
    told = {"verdict": "1 of 4 partitions refused, and held", "reason": "2013-03-11: no rows"}
    partly = whole.model_copy(update={"refused": ["2013-03-11"], **told})
    alerts.held_back(context("ingest", "publish", key=None, publish=partly.model_dump(mode="json")))
    sent = receiver.got[0][2]
    assert sent["subject"] == "[error] kettle 2013-03-11: 1 of 4 partitions refused, and held"
    assert (sent["kind"], sent["reason"]) == ("data refused", "2013-03-11: no rows")
    assert "validation.html" in sent["links"]["Validation"]


def test_a_promotion(receiver: Receiver, configured: Callable[..., None]) -> None:
    configured({"webhook": "ops", "min_severity": "info"})
    promoted = example(Promoted, version="4", replaced="3").model_dump(mode="json")
    registered = example(Registered, version="4", reason="AUC 0.71").model_dump(mode="json")
    alerts.promoted(context("train", "promote", promote=promoted, register=registered))
    sent = receiver.got[0][2]
    assert sent["subject"] == "[info] kettle 2013-04-01: version 4 serves"
    assert sent["reason"] == "AUC 0.71; it replaces version 3"
    assert sent["links"]["Model card"].endswith("/models/4/card.html")


def test_a_release_begins(receiver: Receiver, configured: Callable[..., None]) -> None:
    configured({"webhook": "ops", "min_severity": "info"})
    begun = example(Promoted, version="4", replaced=None, how="released", release="v3-v4").model_dump(mode="json")
    registered = example(Registered, version="4", reason="AUC 0.71").model_dump(mode="json")
    alerts.promoted(context("train", "promote", promote=begun, register=registered))
    sent = receiver.got[0][2]
    assert (sent["kind"], sent["verdict"]) == ("release", "the release of version 4 begins")


def test_people_are_told_that_they_are_waited_for(receiver: Receiver, configured: Callable[..., None]) -> None:
    configured({"webhook": "ops"})
    path = folder_of("kettle") / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["release"]["approval"] = {"when": "promote", "users": ["ada", "bob"]}
    path.write_text(yaml.safe_dump(raw))
    assessed = example(Assessed, partition="2013-04-01", subject="kettle: version 4 serves everything?", reason="z 5")
    alerts.asked(context("release", "ask", assess=assessed.model_dump(mode="json")))
    sent = receiver.got[0][2]
    assert (sent["kind"], sent["severity"]) == ("approval wanted", "warning")
    assert sent["verdict"] == "kettle: version 4 serves everything?"
    assert sent["reason"].startswith("ada or bob may answer in Airflow's Required Actions.")
    assert sent["links"]["Release"].endswith("/reports/2013-04-01/release.html")


@pytest.mark.parametrize(("action", "kind"), [("stepped", "release"), ("rolled back", "release ended")])
def test_what_became_of_a_release(receiver: Receiver, configured: Callable[..., None], action: str, kind: str) -> None:
    configured({"webhook": "ops", "min_severity": "info"})
    done = example(Stepped, release="v3-v4", action=action, verdict=f"v3-v4 {action}", partition="2013-04-01")
    alerts.stepped(context("release", "step", step=done.model_dump(mode="json")))
    assert (receiver.got[0][2]["kind"], receiver.got[0][2]["verdict"]) == (kind, f"v3-v4 {action}")


def test_without_a_channel_the_log_says_it(
    configured: Callable[..., None], logged: pytest.LogCaptureFixture, store_folder: Path
) -> None:
    configured()
    alerts.failed(context("score", "plan", ServiceUnavailable("no answer")))
    assert "[error] kettle 2013-04-01: score.plan failed" in logged.text
    assert not store_folder.exists()


def test_each_channel_says_how_bad_it_has_to_be(receiver: Receiver, configured: Callable[..., None]) -> None:
    configured({"webhook": "ops", "min_severity": "error"})
    alerts.alerted(context("monitor", "act", decide=decision("alert")))
    assert receiver.got == []
    alerts.failed(context("score", "plan", ServiceUnavailable("no answer")))
    assert len(receiver.got) == 1


def test_the_same_is_told_once(
    receiver: Receiver, configured: Callable[..., None], logged: pytest.LogCaptureFixture
) -> None:
    configured({"webhook": "ops"})
    for week in ("2013-04-01", "2013-04-08", "2013-04-15"):
        alerts.alerted(context("monitor", "act", key=week, decide=decision("alert", week)))
    assert [sent["partition"] for *_, sent in receiver.got] == ["2013-04-01"]
    assert "told before, so not again: [warning] kettle 2013-04-15" in logged.text
    alerts.alerted(context("monitor", "act", decide=decision("alert", "2013-04-22", measures=["wind"])))
    assert len(receiver.got) == 2, "another column is another thing"
    configured({"webhook": "ops"}, repeat_after="0 days")
    alerts.alerted(context("monitor", "act", decide=decision("alert")))
    assert len(receiver.got) == 2, "a decision is told once, however often its run is cleared"
    alerts.alerted(context("monitor", "act", key="2013-04-29", decide=decision("alert", "2013-04-29")))
    assert receiver.got[-1][2]["suppressed"] == 2 and "2 more times" in receiver.got[-1][2]["text"]


def test_mail(mail_server: MailServer, configured: Callable[..., None]) -> None:
    """What looks like a template in an error is text: Airflow would render it, with all connections at hand."""
    configured({"email": ["anna@example.com", "bo@example.com"]})
    evil = DataError("<b>bad</b> row: {{ conn.smtp_default.extra }} und Größe")
    alerts.failed(context("ingest", "validate", evil))
    [(recipients, mail)] = mail_server.got
    assert recipients == ["anna@example.com", "bo@example.com"] and mail["From"] == "evergreen@example.com"
    assert mail["Subject"] == "[error] kettle 2013-04-01: validation refused the data, nothing was published"
    text = mail.get_body().get_content() if mail.get_body() else next(mail.iter_attachments()).get_content()
    assert "&lt;b&gt;bad&lt;/b&gt; row: {{ conn.smtp_default.extra }} und Größe" in text
    assert 'href="http://airflow.example.com/base/evergreen/pages/kettle/reports/' in text


def test_slack_is_airflows_own(monkeypatch: pytest.MonkeyPatch, configured: Callable[..., None]) -> None:
    """Its provider is not installed here: a stand-in with the same signature takes what it would be given."""
    sent = []

    class SlackWebhookNotifier(BaseNotifier):
        def __init__(self, *, slack_webhook_conn_id: str, text: str, timeout: int | None = None) -> None:
            super().__init__()
            self.told = (slack_webhook_conn_id, text, timeout)

        def notify(self, context: Any) -> None:
            sent.append(self.told)

    name = "airflow.providers.slack.notifications.slack_webhook"
    module = ModuleType(name)
    module.SlackWebhookNotifier = SlackWebhookNotifier  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    configured({"webhook": "ops"})
    problem = load_problem("kettle")
    channel = problem.alerts.channels[0].model_copy(update={"webhook": None, "slack": "chat"})
    problem = problem.model_copy(update={"alerts": problem.alerts.model_copy(update={"channels": [channel]})})
    alerts.tell(problem, Alert("promoted", "kettle", None, "version 4", "r", "e", ("4",)))
    assert sent == [], "warning is the least by default"
    alerts.tell(problem, Alert("task failed", "kettle", None, "x failed", "<!here>", "e", ("x",), {"Task": "http://a"}))
    assert sent == [("chat", "*[error] kettle: x failed*\n&lt;!here&gt;\n<http://a|Task>", 10)]


@pytest.mark.parametrize(
    ("connection", "path", "header"),
    [
        ("http://127.0.0.1:{port}/hooks/7?key=a%20b", "/hooks/7?key=a+b", ""),
        ('{{"conn_type": "http", "host": "127.0.0.1", "schema": "http", "port": {port}}}', "/", ""),
        ('{{"conn_type": "http", "host": "http://127.0.0.1/h", "port": {port}, "password": "t"}}', "/h", "Bearer t"),
        ("http://me:pw@127.0.0.1:{port}/h", "/h", "Basic bWU6cHc="),
        (
            '{{"conn_type": "http", "host": "http://127.0.0.1:{port}/h", "extra": {{"Authorization": "Key k"}}}}',
            "/h",
            "Key k",
        ),
    ],
)
def test_a_webhooks_connection(
    receiver: Receiver,
    configured: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    connection: str,
    path: str,
    header: str,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", connection.format(port=receiver.server_port))
    configured({"webhook": "hook"})
    alerts.failed(context("score", "plan", ServiceUnavailable("no answer")))
    [(asked, headers, _)] = receiver.got
    assert asked == path and headers.get("Authorization", "") == header


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("connection", "told"),
    [
        ("http://127.0.0.1:{port}/" + TOKEN, "no answer (ConnectError)"),
        (f"ftp://127.0.0.1/{TOKEN}", "it holds no address to post to"),
        (f"http://:{TOKEN}@", "it holds no address to post to"),
        (None, "isn't defined"),
    ],
)
def test_a_channel_that_fails_is_logged_and_the_others_are_tried(
    receiver: Receiver,
    configured: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    logged: pytest.LogCaptureFixture,
    connection: str | None,
    told: str,
) -> None:
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_BROKEN", connection.replace("{port}", str(free_port())))
    configured({"webhook": "broken"}, {"email": ["a@example.com"]}, {"webhook": "ops"})
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", f"smtp://127.0.0.1:{free_port()}")
    alerts.failed(context("score", "plan", ServiceUnavailable("no answer")))
    assert len(receiver.got) == 1
    assert told in logged.text and "alerts.channels.0 (webhook) of kettle" in logged.text
    assert "ConnectionRefusedError" in logged.text and "email_conn_id" in logged.text
    assert logged.text.count("next:") == 2 and TOKEN not in logged.text


@pytest.mark.parametrize(("status", "told"), [(500, "answers 500"), (302, "answers 302"), (403, "answers 403")])
def test_what_nobody_took_is_told_when_it_happens_again(
    receiver: Receiver,
    configured: Callable[..., None],
    logged: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    told: str,
) -> None:
    from datetime import timedelta

    from pipelines import alerts as state

    configured({"webhook": "ops"})
    receiver.status = status
    alerts.failed(context("score", "plan", ServiceUnavailable("no answer")))
    assert told in logged.text and TOKEN not in logged.text
    assert [row["action"] for row in ledger.decisions(load_problem("kettle"), "alert")] == ["claimed"]
    receiver.status = 200
    monkeypatch.setattr(state, "IN_FLIGHT", timedelta(0))
    alerts.failed(context("score", "plan", ServiceUnavailable("no answer")))
    assert len(receiver.got) == 2
    assert ledger.decisions(load_problem("kettle"), "alert")[-1]["action"] == "sent"


def test_a_receiver_that_hangs_is_given_up(
    receiver: Receiver,
    configured: Callable[..., None],
    logged: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    mail_server: MailServer,
) -> None:
    monkeypatch.setattr(alerts, "CHANNELS_S", 1.0)
    configured({"webhook": "ops"}, {"email": ["a@example.com"]})
    receiver.may_answer.clear()
    start = monotonic()
    alerts.failed(context("score", "plan", ServiceUnavailable("no answer")))
    assert monotonic() - start < 9, "it hangs for 20 s"
    receiver.may_answer.set()
    assert "no answer within 1 s" in logged.text and len(mail_server.got) == 1


def test_without_its_ledger_an_alert_goes_out_all_the_same(
    receiver: Receiver,
    configured: Callable[..., None],
    logged: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store is down: that is what the alert is about."""
    configured({"webhook": "ops"})
    monkeypatch.setattr(alerts, "LEDGER_S", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for name, value in {
            "EVERGREEN_STORE_URI": "s3://bucket",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "hunter2hunter2",
        }.items():
            monkeypatch.setenv(name, value)
        alerts.failed(context("score", "plan", ServiceUnavailable("the store says hunter2hunter2")))
    assert len(receiver.got) == 1 and receiver.got[0][2]["reason"] == "the store says ***"
    assert "the ledger cannot say whether" in logged.text and "no answer within 1 s" in logged.text
