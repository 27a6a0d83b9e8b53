"""The home folder: who may read it, what it remembers, and whose variables win."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.embedded.processes import home as home_module
from pipelines.embedded.processes.home import (
    load_environment,
    load_secrets,
    only_supervisor,
    prepare,
    read_environment,
    rotate_log,
    save_environment,
    tail,
    write_private,
)
from pipelines.errors import ConfigError

SAVED = {
    "EVERGREEN_STORE_URI": "s3://evergreen",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
    "AWS_ACCESS_KEY_ID": "ours",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
    "MLFLOW_TRACKING_PASSWORD": 'it\'s $HOME "quoted"\nover lines',
    "OMP_WAIT_POLICY": "PASSIVE",
    "NO_PROXY": "127.0.0.1,localhost",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    prepare(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process without any of the variables."""
    for name in [*SAVED, *(name for name in os.environ if name.startswith(("AWS_", "MLFLOW_", "EVERGREEN_")))]:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_secrets_are_made_once_and_private(home: Path) -> None:
    first = load_secrets(home)
    assert load_secrets(home) == first
    assert mode(home) == 0o700
    assert mode(home / "secrets.json") == 0o600
    assert len(set(first.values())) == len(first)
    assert min(map(len, first.values())) >= 24


def test_a_secret_that_a_later_version_adds_is_made_without_changing_the_others(home: Path) -> None:
    old = {"store_secret_key": "kept"}
    write_private(home / "secrets.json", json.dumps(old))
    assert load_secrets(home).items() > old.items()


def test_two_homes_share_no_secret(tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare(tmp_path / name)
    assert not set(load_secrets(tmp_path / "one").values()) & set(load_secrets(tmp_path / "two").values())


def test_environment_survives_the_file_and_a_shell(home: Path) -> None:
    save_environment(home, SAVED)
    assert mode(home / "environment") == 0o600
    assert read_environment(home) == SAVED
    command = f'set -a; . "{home}/environment"; printf %s "$MLFLOW_TRACKING_PASSWORD"'
    shell = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert shell.stdout == SAVED["MLFLOW_TRACKING_PASSWORD"]


def test_load_environment_fills_in_what_is_missing(home: Path, environ: pytest.MonkeyPatch) -> None:
    save_environment(home, SAVED)
    environ.setenv("OMP_WAIT_POLICY", "ACTIVE")
    environ.setenv("NO_PROXY", "example.com")
    load_environment(home)
    assert os.environ["AWS_ENDPOINT_URL"] == SAVED["AWS_ENDPOINT_URL"]
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["NO_PROXY"] == "example.com,127.0.0.1,localhost"


def test_load_environment_never_mixes_two_stores(home: Path, environ: pytest.MonkeyPatch) -> None:
    save_environment(home, SAVED)
    environ.setenv("EVERGREEN_STORE_URI", "s3://theirs")
    environ.setenv("AWS_ACCESS_KEY_ID", "theirs")
    load_environment(home)
    assert os.environ["AWS_ACCESS_KEY_ID"] == "theirs"
    assert "AWS_ENDPOINT_URL" not in os.environ
    assert os.environ["MLFLOW_TRACKING_URI"] == SAVED["MLFLOW_TRACKING_URI"]


def test_keys_of_another_account_do_not_reach_our_store(home: Path, environ: pytest.MonkeyPatch) -> None:
    save_environment(home, SAVED)
    environ.setenv("AWS_ACCESS_KEY_ID", "some other project's")
    environ.setenv("AWS_SESSION_TOKEN", "some other project's")
    load_environment(home)
    assert os.environ["AWS_ACCESS_KEY_ID"] == "ours"
    assert "AWS_SESSION_TOKEN" not in os.environ


def test_load_environment_without_a_start_changes_nothing(tmp_path: Path, environ: pytest.MonkeyPatch) -> None:
    environ.setenv("AWS_SESSION_TOKEN", "kept")
    before = dict(os.environ)
    load_environment(tmp_path / "nothing")
    assert dict(os.environ) == before


def test_a_second_supervisor_is_refused_and_a_killed_one_leaves_no_lock(home: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pipelines.embedded.processes.home import only_supervisor\n"
        "with only_supervisor(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=rf"already up, run by process {other.pid}"), only_supervisor(home):
            pass
        other.kill()
    with only_supervisor(home):
        pass


def test_a_full_disk_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_module, "MIN_FREE_BYTES", 2**60)
    with pytest.raises(ConfigError, match="GiB are free") as failure:
        prepare(tmp_path / "home")
    assert "EVERGREEN_HOME" in failure.value.cure


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        prepare(tmp_path / "file" / "home")


def test_tail_and_rotation(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tail(home, "x") == "(no log)"
    log = home / "logs" / "x.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert tail(home, "x", lines=2) == "line 98\nline 99"
    rotate_log(home, "x")
    assert log.exists()
    monkeypatch.setattr(home_module, "LOGS_KEPT_BYTES", 10)
    rotate_log(home, "x")
    assert (home / "logs" / "x.log.1").exists()
    assert not log.exists()
