"""What is missing is named, with what installs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipelines.embedded.stack import programs
from pipelines.errors import ConfigError, ServiceUnavailable


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A system without any of the programs, and what apt was asked to do."""
    monkeypatch.setattr(programs, "search_path", lambda: str(tmp_path))
    monkeypatch.setattr(programs, "find_spec", lambda _: True)
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 100 if "install" in command else 0, "", "no network")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_without_root_it_says_what_to_install(installed: list[list[str]]) -> None:
    with pytest.raises(ConfigError) as failure:
        programs.require(print, is_root=False)
    assert "needs postgresql and redis-server and redis-tools" in failure.value.what
    assert "sudo apt-get install --no-install-recommends postgresql redis-server" in failure.value.cure
    assert installed == []


def test_without_apt_too(installed: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs.shutil, "which", lambda *_args, **_: None)
    with pytest.raises(ConfigError, match="iproute2"):
        programs.require(print, is_root=True)
    assert installed == []


def test_as_root_apt_installs_it_and_its_failure_is_shown(
    installed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs.shutil, "which", lambda name, path=None: name if name == "apt-get" else None)
    lines: list[str] = []
    with pytest.raises(ServiceUnavailable, match="no network"):
        programs.require(lines.append, is_root=True)
    assert [command[1] for command in installed] == ["update", "install"]
    assert "what Debian starts of them is not used" in lines[0]


def test_where_all_is_there_nothing_is_asked_of_apt(
    installed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs.shutil, "which", lambda name, path=None: name)
    programs.require(print, is_root=True)
    assert installed == []


def test_the_celery_provider_is_an_extra(installed: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="Celery provider is not installed"):
        programs.require(print, is_root=False)
    assert installed == []


def test_the_newest_postgresql_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
    monkeypatch.setattr(programs, "VERSIONS", tmp_path)
    assert programs.search_path().split(":")[:2] == [str(tmp_path / "17" / "bin"), str(tmp_path / "15" / "bin")]
