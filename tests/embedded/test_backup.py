"""A home in one file and back; nothing of a damaged file; and the loop goes on with what was restored."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines import ledger, local_run, store, tracking
from pipelines.cli.app import app
from pipelines.embedded.backup import HEAD, INDEX, back_up, restore
from pipelines.embedded.object_store.attributes import METADATA
from pipelines.embedded.processes.home import only_supervisor
from pipelines.errors import ConfigError, DataError
from pipelines.problem import load_problem
from tests.stages.conftest import WEEKS, Kept
from tests.stages.conftest import after as after

OBJECT = "object_store/devices/d1/objects/7/abc/hash/1.data"
PICKLED = bytes(range(256)) + b"\n1 a=b\n"  # as Swift's metadata are: no text
ROWS = os.urandom(3 * 2**20)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A small home of services that are down."""
    folder = tmp_path / "home"
    for name, content in {
        OBJECT: ROWS,
        "secrets.json": b'{"store_path_salt": "1f"}',
        "mlflow/mlflow.db": b"",
        "airflow/logs/dag_id=x/run_id=manual__2024-01-01T00:00:00+00:00/attempt=1.log": b"a line\n",
        "object_store/venv/bin/python": b"made again",
        "stack/volumes/postgres/data/PG_VERSION": b"15",
        "object_store/etc/proxy.conf": b"made again",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    folder.chmod(0o700)
    (folder / "secrets.json").chmod(0o600)
    os.setxattr(folder / OBJECT, METADATA, PICKLED)
    os.setxattr(folder / OBJECT, f"{METADATA}1", b"more of it")
    os.utime(folder / OBJECT, (1_700_000_000, 1_700_000_000))
    (folder / "airflow/logs/latest").symlink_to(folder / "airflow/logs")
    return folder


def content(folder: Path) -> dict[str, tuple[int, str, tuple[bytes, ...]]]:
    """Mode, hash and attributes of each file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest(),
            tuple(os.getxattr(path, name) for name in sorted(os.listxattr(path))),
        )
        for path in files
    }


def test_a_home_is_restored_as_it_was(home: Path, tmp_path: Path) -> None:
    archive, there = tmp_path / "backup.tar", tmp_path / "elsewhere" / "home"
    kept = back_up(home, archive)
    assert archive.stat().st_mode & 0o777 == 0o600 and not list(tmp_path.glob("*.draft"))
    there.mkdir(parents=True)
    assert restore(archive, there) == kept and kept.files == 4
    assert there.stat().st_mode & 0o777 == 0o700 and list(there.parent.iterdir()) == [there]
    left_out = ("object_store/venv", "object_store/etc", "lock", "stack")
    expected = {name: about for name, about in content(home).items() if not name.startswith(left_out)}
    assert content(there) == expected
    assert os.getxattr(there / OBJECT, METADATA) == PICKLED and (there / OBJECT).stat().st_mtime == 1_700_000_000


def test_other_tools_find_the_attributes_in_the_archive(home: Path, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup.tar")
    with tarfile.open(tmp_path / "backup.tar", errors="surrogateescape") as tar:
        names = tar.getnames()
        record = tar.getmember(OBJECT).pax_headers[f"SCHILY.xattr.{METADATA}"]
    assert record.encode("utf-8", "surrogateescape") == PICKLED
    assert (names[0], names[-1]) == (HEAD, INDEX)


def test_damage_is_named_and_nothing_is_restored(home: Path, tmp_path: Path) -> None:
    archive, there = tmp_path / "backup.tar", tmp_path / "restored"
    back_up(home, archive)
    whole = archive.read_bytes()
    rows = bytearray(whole)
    rows[whole.index(ROWS[:64]) + 2**20] ^= 1
    attributes = bytearray(whole)
    attributes[whole.index(b"more of it")] ^= 1
    for damaged, what in {
        bytes(rows): f"1 files are not as they were: {OBJECT}",
        bytes(attributes): f"1 files are not as they were: {OBJECT}",
        whole[: len(whole) // 2]: "damaged",
        whole[: whole.index(INDEX.encode())]: "it ends early",
        b"": "damaged",
        b"no archive" * 1000: "damaged",
    }.items():
        archive.write_bytes(damaged)
        with pytest.raises(DataError, match=what):
            restore(archive, there)
        assert not there.exists() and not list(tmp_path.glob("*restoring*"))


def test_an_archive_writes_nowhere_else(home: Path, tmp_path: Path) -> None:
    archive = tmp_path / "backup.tar"
    back_up(home, archive)
    with tarfile.open(archive, "a") as tar:
        tar.add(home / "secrets.json", "../outside")
    with pytest.raises(DataError, match="outside of the folder"):
        restore(archive, tmp_path / "restored")
    assert not (tmp_path / "outside").exists()


def test_what_is_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "backup.tar"
    with only_supervisor(home), pytest.raises(ConfigError, match="services are up") as up:
        back_up(home, archive)
    assert "evergreen down" in up.value.cure and not archive.exists()
    with pytest.raises(ConfigError, match="part of itself"):
        back_up(home, home / "logs.tar")
    with pytest.raises(ConfigError, match="no home"):
        back_up(tmp_path / "nothing", archive)
    with pytest.raises(ConfigError, match="cannot be written"):
        back_up(home, tmp_path / "no" / "backup.tar")
    os.removexattr(home / OBJECT, METADATA)
    with pytest.raises(ConfigError, match="lost their extended attributes"):
        back_up(home, archive)
    os.setxattr(home / OBJECT, METADATA, PICKLED)
    back_up(home, archive)
    with pytest.raises(ConfigError, match="file exists"):
        back_up(home, archive)
    with pytest.raises(ConfigError, match="something in the folder"):
        restore(archive, home)
    with pytest.raises(ConfigError, match="no such file"):
        restore(tmp_path / "none.tar", tmp_path / "restored")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(ConfigError, match="what is to be written takes"):
        restore(archive, tmp_path / "restored")


def test_a_folder_that_changes_meanwhile_makes_no_backup(home: Path, tmp_path: Path) -> None:
    archive = tmp_path / "backup.tar"

    def write(step: str) -> None:
        (home / "mlflow" / f"{step}.json").write_text("{}")

    with pytest.raises(DataError, match="changed the folder"):
        back_up(home, archive, write)
    assert not archive.exists()


@pytest.mark.slow
def test_the_loop_goes_on_with_what_was_restored(
    after: Callable[..., Kept], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, archive, restored = tmp_path / "home", tmp_path / "backup.tar", tmp_path / "restored"
    home.mkdir()
    (home / "secrets.json").write_text("{}")
    after(1, is_scored=False).copy(home).enter(monkeypatch)
    problem = load_problem("flight_delay")
    before = store.dataset(problem, "ledger").to_table().sort_by("decision")
    run = CliRunner().invoke
    monkeypatch.setenv("EVERGREEN_HOME", str(home))
    assert run(app, ["backup", str(archive)]).exit_code == 0
    home.rename(tmp_path / "gone")
    monkeypatch.setenv("EVERGREEN_HOME", str(restored))
    said = run(app, ["restore", str(archive)])
    assert said.exit_code == 0 and "every file is as it was" in said.output
    Kept(restored).enter(monkeypatch)
    problem = load_problem("flight_delay")
    assert store.dataset(problem, "ledger").to_table().sort_by("decision").equals(before)
    scored = local_run.score(problem.name, WEEKS[0])
    assert (scored.version, scored.rows > 0) == (str(tracking.serving(problem).version), True)
    assert len(ledger.decisions(problem, "promotion")) == 1
