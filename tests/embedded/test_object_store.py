"""The object store's own pieces: install, configuration, create-once. The server itself is driven end to end."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipelines.embedded import object_store
from pipelines.embedded.object_store import installation
from pipelines.embedded.object_store.configure import PROXY_PIPELINE, render
from pipelines.embedded.object_store.create_once import filter_factory
from pipelines.embedded.object_store.installation import REQUIREMENTS, find_uv, install, is_complete, stamp
from pipelines.embedded.processes.home import load_secrets, prepare
from pipelines.embedded.processes.supervisor import Supervisor
from pipelines.errors import ConfigError, ServiceUnavailable


class FakeInstall(Supervisor):
    """Records commands instead of running them; `fails` says which fails."""

    def __init__(self, home: Path, fails: str = "") -> None:
        super().__init__(home)
        self.commands: list[list[str]] = []
        self.fails = fails

    def run(self, name: str, argv: Any, environment: Any, timeout_s: float = 0) -> None:
        self.commands.append(list(argv))
        if self.fails and self.fails in argv:
            raise ServiceUnavailable(f"{name} failed", cure="read the log")
        venv = Path(argv[-1])
        if "venv" in argv:
            (venv / "bin").mkdir(parents=True)
            (venv / "bin" / "python").touch()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    prepare(tmp_path)
    return tmp_path


def test_a_complete_install_is_not_repeated(home: Path) -> None:
    venv = home / "venv"
    fake = FakeInstall(home)
    install(fake, venv, lambda _: None)
    assert is_complete(venv)
    assert len(fake.commands) == 2
    install(fake, venv, lambda _: None)
    assert len(fake.commands) == 2


@pytest.mark.parametrize("damage", ["stamp", "bin/python"])
def test_a_half_made_or_outdated_install_is_made_again(home: Path, damage: str) -> None:
    venv = home / "venv"
    install(FakeInstall(home), venv, lambda _: None)
    (venv / "left over").touch()
    (venv / damage).unlink()
    again = FakeInstall(home)
    install(again, venv, lambda _: None)
    assert len(again.commands) == 2
    assert not (venv / "left over").exists()
    (venv / "stamp").write_text("made of other requirements")
    assert not is_complete(venv)


def test_an_install_that_breaks_off_leaves_no_stamp(home: Path) -> None:
    with pytest.raises(ServiceUnavailable) as failure:
        install(FakeInstall(home, fails="install"), home / "venv", lambda _: None)
    assert "package index" in failure.value.cure
    assert not is_complete(home / "venv")


@pytest.mark.parametrize("uv", ["/some/uv", None])
def test_it_needs_uv_or_pip_and_says_so(home: Path, monkeypatch: pytest.MonkeyPatch, uv: str | None) -> None:
    monkeypatch.setattr(installation, "find_uv", lambda: uv)
    good = FakeInstall(home)
    install(good, home / "venv", lambda _: None)
    assert good.commands[0][0] == (uv or sys.executable)
    assert str(REQUIREMENTS) in good.commands[1]
    (home / "venv" / "stamp").unlink()
    with pytest.raises(ConfigError) as failure:
        install(FakeInstall(home, fails="venv"), home / "venv", lambda _: None)
    assert "python3-venv" in failure.value.cure


def test_uv_is_found_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV", "/some/uv")
    assert find_uv() == "/some/uv"


def test_the_lock_pins_everything_and_names_no_host() -> None:
    text = REQUIREMENTS.read_text()
    pins = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
    assert len(pins) > 10
    assert all("==" in line for line in pins)
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text
    assert stamp() == stamp()


def test_configuration_is_well_formed_and_private(home: Path) -> None:
    secrets = load_secrets(home)
    files = render(home / "a folder", "127.0.0.1", 9000, secrets, "someone")
    assert files.keys() == {"swift.conf", "account.conf", "container.conf", "object.conf", "proxy.conf"}
    for name, text in files.items():
        parser = configparser.ConfigParser()
        parser.read_string(text)
        if name == "swift.conf":
            continue
        for step in parser["pipeline:main"]["pipeline"].split():
            assert f"filter:{step}" in parser or f"app:{step}" in parser
        is_proxy = name == "proxy.conf"
        assert (secrets["store_secret_key"] in text) == is_proxy
        assert ("bind_port" in parser["DEFAULT"]) == is_proxy, "the others are asked inside the process"
    parser = configparser.ConfigParser()
    parser.read_string(files["proxy.conf"])
    assert (parser["DEFAULT"]["bind_ip"], parser["DEFAULT"]["bind_port"]) == ("127.0.0.1", "9000")
    assert parser["DEFAULT"]["workers"] == "0", "create-once holds its locks, and the cache its values, in one process"


def test_the_order_of_the_pipeline() -> None:
    order = PROXY_PIPELINE.split()
    assert order.index("create_once") + 1 == order.index("s3api")
    assert order.index("memory_cache") < order.index("s3api") < order.index("tempauth"), "both ask the cache"
    assert order.index("versioned_writes") < order.index("symlink")


def test_where_it_cannot_run_it_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "%" in (object_store.why_not(home / "a%b") or "")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert object_store.why_not(home) == "it runs on Linux only, and this is darwin"
    monkeypatch.undo()

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    assert "extended attributes" in (object_store.why_not(home) or "")


class RacyStore:
    """Looks, waits, writes: what Swift does with `If-None-Match: *`."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.together = 0
        self._inside = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self._inside += 1
        self.together = max(self.together, self._inside)
        exists = environ["PATH_INFO"] in self.objects
        time.sleep(0.005)
        if not exists:
            self.objects[environ["PATH_INFO"]] = b""
        self._inside -= 1
        start_response("412 Precondition Failed" if exists else "200 OK", [])
        yield b""


def put(app: Any, path: str, **headers: str) -> bool:
    statuses: list[str] = []
    environ = {"REQUEST_METHOD": "PUT", "PATH_INFO": path, **headers}
    for _ in app(environ, lambda status, _: statuses.append(status)):
        pass
    return statuses == ["200 OK"]


def test_create_once_has_one_winner_for_each_path() -> None:
    app = filter_factory({})(RacyStore())
    with ThreadPoolExecutor(16) as pool:
        for attempt in range(10):
            paths = [f"/bucket/{attempt}/{number % 2}" for number in range(16)]
            won = list(pool.map(lambda path: put(app, path, HTTP_IF_NONE_MATCH="*"), paths))
            assert sum(won) == 2


def test_other_requests_are_not_held_up() -> None:
    store = RacyStore()
    app = filter_factory({})(store)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: put(app, "/bucket/key"), range(8)))
    assert store.together > 1


def test_create_once_lets_go_after_an_error() -> None:
    def broken(_environ: dict[str, Any], _start: Callable[..., Any]) -> Iterable[bytes]:
        raise OSError("disk")

    app = filter_factory({})(broken)
    for _ in range(2):
        with pytest.raises(OSError, match="disk"):
            put(app, "/bucket/key", HTTP_IF_NONE_MATCH="*")
    assert not any(turn.locked() for turn in app._turns)  # type: ignore[attr-defined]


def test_create_once_closes_what_it_wraps() -> None:
    closed = threading.Event()

    class Answer(list[bytes]):
        def close(self) -> None:
            closed.set()

    app = filter_factory({})(lambda _environ, _start: Answer([b"x"]))
    environ = {"REQUEST_METHOD": "PUT", "PATH_INFO": "/", "HTTP_IF_NONE_MATCH": "*"}
    assert list(app(environ, lambda *_: None)) == [b"x"]
    assert closed.is_set()


def test_what_runs_in_swifts_environment_needs_only_the_standard_library() -> None:
    code = "import sys; sys.path[:0] = [sys.argv[1]]; import chunks, create_once, memory_cache, rings"
    command = [sys.executable, "-I", "-S", "-c", code, str(REQUIREMENTS.parent)]
    subprocess.run(command, check=True, capture_output=True)
