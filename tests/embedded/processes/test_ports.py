"""Ports: usual, remembered, forced, taken."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.embedded.processes import ports
from pipelines.embedded.processes.ports import DEFAULTS, HOST, choose_ports, holder, is_free
from pipelines.errors import ConfigError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture(autouse=True)
def _usual_ports_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may really use 8080."""
    for name in DEFAULTS:
        monkeypatch.delenv(f"EVERGREEN_{name.upper()}_PORT", raising=False)
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            monkeypatch.setitem(DEFAULTS, name, probe.getsockname()[1])


def test_usual_ports_are_taken_if_free_and_remembered(tmp_path: Path) -> None:
    chosen = choose_ports(tmp_path)
    assert chosen == DEFAULTS
    assert len(set(chosen.values())) == len(chosen)
    assert choose_ports(tmp_path) == chosen


def test_another_port_is_found_and_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setitem(DEFAULTS, "airflow", taken)
    first = choose_ports(tmp_path)["airflow"]
    assert first != taken
    assert choose_ports(tmp_path)["airflow"] == first


def test_a_remembered_port_that_is_taken_now_is_given_up(tmp_path: Path, taken: int) -> None:
    (tmp_path / "ports.json").write_text(json.dumps({"mlflow": taken}))
    assert choose_ports(tmp_path)["mlflow"] == DEFAULTS["mlflow"]


def test_a_forced_port_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced = DEFAULTS["store"]
    monkeypatch.setenv("EVERGREEN_AIRFLOW_PORT", str(forced))
    chosen = choose_ports(tmp_path)
    assert chosen["airflow"] == forced
    assert chosen["store"] != forced


def test_a_forced_port_that_is_taken_names_port_holder_and_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    monkeypatch.setenv("EVERGREEN_MLFLOW_PORT", str(taken))
    with pytest.raises(ConfigError, match=f"port {taken}.*process {os.getpid()}") as failure:
        choose_ports(tmp_path)
    assert "EVERGREEN_MLFLOW_PORT" in failure.value.cure


@pytest.mark.parametrize("text", ["abc", "0", "65536", "-1", "80 80"])
def test_a_forced_port_must_be_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("EVERGREEN_STORE_PORT", text)
    with pytest.raises(ConfigError, match="EVERGREEN_STORE_PORT is"):
        choose_ports(tmp_path)


def test_holder_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    port = ports._first_free([], taken=set())
    assert is_free(port)
    assert holder(port) == "another process"
