"""Ports: usual, remembered, forced, taken."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipelines.embedded.processes import ports
from pipelines.embedded.processes.ports import DEFAULTS, HOST, holder, is_free, reserved_ports
from pipelines.errors import ConfigError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def choose_ports(home: Path) -> dict[str, int]:
    with reserved_ports(home) as chosen:
        return chosen


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


def test_two_homes_that_start_before_anything_listens_have_ports_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with reserved_ports(tmp_path / "first") as first, reserved_ports(tmp_path / "second") as second:
        assert first == DEFAULTS and all(map(is_free, first.values())), "nothing listens yet"
        assert set(first.values()).isdisjoint(second.values())
        monkeypatch.setenv("EVERGREEN_MLFLOW_PORT", str(second["store"]))
        with pytest.raises(ConfigError, match="is taken by another process"):
            choose_ports(tmp_path)
    monkeypatch.delenv("EVERGREEN_MLFLOW_PORT")
    assert choose_ports(tmp_path) == DEFAULTS, "they are free again"
    assert choose_ports(tmp_path / "second") == second, "and remembered"


def test_a_reservation_holds_in_other_processes_and_goes_with_its_own(tmp_path: Path) -> None:
    code = "import pathlib, sys; from pipelines.embedded.processes.ports import *\n"
    code += "with reserved_ports(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    variables = {f"EVERGREEN_{name.upper()}_PORT": str(port) for name, port in DEFAULTS.items()}
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=os.environ | variables, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None and other.stdout.readline() == b"\n"
        assert set(choose_ports(tmp_path).values()).isdisjoint(DEFAULTS.values())
        other.kill()
    (tmp_path / "ports.json").unlink()
    assert choose_ports(tmp_path) == DEFAULTS


def test_holder_of_nothing() -> None:
    with ExitStack() as reserved:
        port = ports._first_free([], reserved)
        assert is_free(port)
    assert holder(port) == "another process"
