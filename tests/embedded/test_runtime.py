"""What the whole does before and around its services; that they work is shown end to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.embedded import Embedded, object_store, tracking
from pipelines.embedded.object_store import ACCESS_KEY
from pipelines.embedded.processes import services
from pipelines.embedded.processes.home import only_supervisor, prepare, read_environment
from pipelines.embedded.processes.ports import HOST
from pipelines.embedded.processes.supervisor import Service, Supervisor, marked
from pipelines.errors import ConfigError, ServiceUnavailable


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Embedded:
    """One whose services are a sleeping process."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "EVERGREEN_", "MLFLOW_", "AIRFLOW_"))]:
        monkeypatch.delenv(name)

    def start_services(_self: Embedded, supervisor: Supervisor, _progress: object) -> None:
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        # Just after its start a process does not show its environment yet, by which it is found.
        supervisor.start(Service("sleeper", sleep, os.environ, lambda _: bool(marked(supervisor.home, "sleeper"))))

    monkeypatch.setattr(Embedded, "_start_services", start_services)
    return Embedded(tmp_path / "home")


def runtime_service(name: str, argv: list[str]) -> Service:
    return Service(name, argv, os.environ, lambda _: True)


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = [
        "airflow",
        "boto3",
        "deltalake",
        "evidently",
        "great_expectations",
        "mlflow",
        "pandas",
        "pyarrow",
        "xgboost",
    ]
    code = f"import sys, pipelines.embedded; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_up_environment_down(embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kettle").mkdir()
    (tmp_path / "kettle" / "problem.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVERGREEN_PROBLEMS", ".:package:no_team")
    with embedded:
        embedded.start(lambda _: None)
        known = embedded.environment()
        assert known["EVERGREEN_STORE_URI"] == "s3://evergreen"
        assert known["AWS_ACCESS_KEY_ID"] == ACCESS_KEY
        assert known["NO_PROXY"] == "127.0.0.1,localhost"
        assert read_environment(embedded.home) == known
        assert known["EVERGREEN_PROBLEMS"] == f"{tmp_path}:package:no_team", "of a terminal in another folder too"
        assert embedded.urls()["airflow"].url == known["EVERGREEN_AIRFLOW_URL"]
        assert embedded.urls()["store"].password == known["AWS_SECRET_ACCESS_KEY"]
        assert len(marked(embedded.home)) == 1
        assert embedded.is_new
        embedded.check()
    assert marked(embedded.home) == []


def test_refused_while_another_is_up_without_touching_it(embedded: Embedded) -> None:
    with embedded:
        embedded.start(lambda _: None)
        second = Embedded(embedded.home)
        with pytest.raises(ConfigError, match="already up"), second:
            second.start(lambda _: None)
        assert len(marked(embedded.home)) == 1


def test_left_overs_are_ended_first(embedded: Embedded) -> None:
    prepare(embedded.home)
    left = Supervisor(embedded.home)
    left.start(runtime_service("old", [sys.executable, "-c", "import time; time.sleep(60)"]))
    lines: list[str] = []
    with embedded:
        embedded.start(lines.append)
        assert [process.environ()["EVERGREEN_SERVICE"] for process in marked(embedded.home)] == ["sleeper"]
    assert lines[0] == "ending 1 processes that an earlier start left behind"
    left.stop()


def test_problems_that_are_not_there_are_told_before_anything_starts(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", "package:no_team")
    with pytest.raises(ConfigError, match="no package 'no_team'"):
        embedded.start(print)
    assert not embedded.home.exists()


def test_a_failing_start_leaves_nothing(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    working = Embedded._start_services

    def fail(self: Embedded, supervisor: Supervisor, progress: object) -> None:
        working(self, supervisor, progress)  # type: ignore[arg-type]
        raise ServiceUnavailable("no")

    monkeypatch.setattr(Embedded, "_start_services", fail)
    with pytest.raises(ServiceUnavailable):
        embedded.start(lambda _: None)
    assert marked(embedded.home) == []
    with only_supervisor(embedded.home):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_stop_it_and_are_handled_as_before_afterwards(embedded: Embedded, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), embedded:
        embedded.start(lambda _: None)
        signal.raise_signal(number)
        embedded.wait()
    assert marked(embedded.home) == []
    assert signal.getsignal(number) is before


def test_a_service_that_keeps_dying_is_reported_to_whoever_waits(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(_self: Supervisor, _progress: object) -> None:
        raise ServiceUnavailable("keeps dying")

    monkeypatch.setattr(Supervisor, "watch", dying)
    monkeypatch.setattr(services, "WATCH_EVERY_S", 0.01)
    with embedded:
        embedded.start(lambda _: None)
        with pytest.raises(ServiceUnavailable, match="keeps dying"):
            embedded.wait()


def test_the_users_own_store_is_used_as_it_is(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_STORE_URI", "s3://theirs/prefix")
    monkeypatch.setenv("AWS_PROFILE", "theirs")
    lines: list[str] = []
    with embedded:
        embedded.start(lines.append)
        known = embedded.environment()
    assert known["EVERGREEN_STORE_URI"] == "s3://theirs/prefix"
    assert {name for name in known if name.startswith("AWS_")} == {"AWS_PROFILE"}
    assert lines == ["object store: using yours, s3://theirs/prefix"]


def test_a_copy_without_attributes_is_refused_unless_the_store_is_another(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = embedded.home / "object_store" / "devices" / "d1" / "objects" / "3" / "abc" / "hash" / "1.data"
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(ConfigError, match="lost their extended attributes"):
        embedded.start(lambda _: None)
    assert [entry.name for entry in embedded.home.iterdir()] == ["object_store"]
    monkeypatch.setenv("EVERGREEN_STORE_URI", "s3://theirs/prefix")
    with embedded:
        embedded.start(lambda _: None)


def test_a_shell_that_remembers_our_store_of_before_gets_the_new_one(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_STORE_URI", "s3://evergreen")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of a folder that is gone")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:1")
    with embedded:
        embedded.start(lambda _: None)
        assert embedded.environment()["AWS_SECRET_ACCESS_KEY"] != "of a folder that is gone"


def test_without_an_object_store_a_folder_takes_its_place(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "why_not", lambda _: "this is no Linux")
    lines: list[str] = []
    with embedded:
        embedded.start(lines.append)
        known = embedded.environment()
    assert known["EVERGREEN_STORE_URI"] == (embedded.home / "files").as_uri()
    assert not [name for name in known if name.startswith("AWS_")]
    assert "this is no Linux" in lines[0]


def test_mlflow_gets_its_login_and_not_its_clients(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    secrets = {"mlflow_password": "password of ours", "mlflow_flask_key": "key of ours"}
    others = {
        "AIRFLOW__CORE__FERNET_KEY": "of Airflow",
        "AIRFLOW_CONN_BANK": "of a task",
        "BANK_PASSWORD": "of a person",
    }
    variables = {**tracking.client_environment(5000, secrets), **others, "PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "s3"}
    service = tracking.service(tmp_path, 5000, "s3://mlflow", secrets, variables)
    assert service.environment["MLFLOW_AUTH_ADMIN_PASSWORD"] == "password of ours"
    assert service.environment["PATH"] == "/bin"
    assert service.environment["AWS_SECRET_ACCESS_KEY"] == "s3"
    assert not {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD", *others} & service.environment.keys()
    in_a_folder = tracking.service(tmp_path, 5000, "file:///models", secrets, variables)
    assert "AWS_SECRET_ACCESS_KEY" not in in_a_folder.environment
    assert "password of ours" not in " ".join(service.argv)
    assert (tmp_path / "mlflow" / "login.ini").stat().st_mode & 0o777 == 0o600
