"""Where commands say to look on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from pipelines.cli.places import print_places
from pipelines.problem import load_problem
from pipelines.tracking.pages import VIEW_TAG


class Experiments(BaseHTTPRequestHandler):
    """Answers as MLflow does that has one experiment, for one login."""

    tags: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        is_let_in = self.headers["Authorization"] == "Basic YWRhOnNlY3JldA=="  # ada:secret
        has_it = self.path == "/api/2.0/mlflow/experiments/get-by-name?experiment_name=flight_delay"
        body = json.dumps({"experiment": {"experiment_id": "7", "tags": self.tags}} if has_it else {}).encode()
        self.send_response((200 if has_it else 404) if is_let_in else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Experiments) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{address}/")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        monkeypatch.setenv("EVERGREEN_AIRFLOW_URL", "http://127.0.0.1:8080")
        monkeypatch.delenv("AIRFLOW__API__BASE_URL", raising=False)
        yield address
        server.shutdown()


def shown(capsys: pytest.CaptureFixture[str], monitored: str | None = "2013-04-22") -> dict[str, str]:
    """What is printed, by its name; each in one line."""
    print_places(load_problem("flight_delay"), monitored)
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line.split()[1] for line in lines}


def test_pages_are_printed_whole(
    mlflow: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Experiments, "tags", [{"key": VIEW_TAG, "value": "{}"}])
    assert shown(capsys) == {
        "Health": "http://127.0.0.1:8080/plugin/health",
        "Comparison": f"{mlflow}/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=evergreen",
        "Monitoring": "http://127.0.0.1:8080/evergreen/pages/flight_delay/reports/2013-04-22/monitoring.html",
    }
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    monkeypatch.setenv("EVERGREEN_MLFLOW_URL", "https://runs.example/")
    others = shown(capsys)
    assert others["Health"] == "https://airflow.example/plugin/health", "the address that people use"
    assert others["Comparison"].startswith("https://runs.example/#/experiments/7/runs?")


def test_what_is_not_there_is_left_out(
    mlflow: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_view = f"{mlflow}/#/experiments/7/runs?workflowType=machine_learning"
    assert shown(capsys, monitored=None) == {
        "Health": "http://127.0.0.1:8080/plugin/health",
        "Comparison": without_view,
    }, "a view that the experiment has not would be an error in MLflow"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    assert "Comparison" not in shown(capsys)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/mlflow.db")
    monkeypatch.delenv("EVERGREEN_AIRFLOW_URL")
    assert shown(capsys) == {}
