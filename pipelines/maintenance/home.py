"""The folder of the embedded services, whether they run or not: who can read it, what it lacks, what room it has."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipelines.embedded.object_store import refuse_without_attributes
from pipelines.embedded.processes.home import MIN_FREE_BYTES, WHO_WANTS, shortage
from pipelines.errors import ConfigError
from pipelines.maintenance.finding import Finding, Said

# Files with secrets in them, by their names in the folder.
PRIVATE = (
    "secrets.json",
    "environment",
    "mlflow/login.ini",
    "airflow/simple_auth_manager_passwords.json.generated",
    "object_store/etc/proxy.conf",
    "object_store/etc/swift.conf",
)
OTHERS = 0o077  # mode bits by which other users get at a file
LEAST_TEMPORARY_BYTES = 2**29


def modes(home: Path) -> Iterator[Said]:
    """Whether others can read what only the owner may."""
    for path in (home, *(home / name for name in PRIVATE)):
        if not path.exists():
            continue
        about, right = path.stat(), 0o700 if path.is_dir() else 0o600
        if about.st_mode & OTHERS:
            what = f"other users of this machine get at it: its mode is {about.st_mode & 0o777:o}, and not {right:o}"
            yield Finding("open to others", str(path), what, f"chmod {right:o} {path}")
        if about.st_uid != os.geteuid():
            what = f"it belongs to user {about.st_uid}, and you are {os.geteuid()}"
            cure = f"run as its owner, or make it yours: chown -R {os.geteuid()} {home}"
            yield Finding("home of another user", str(path), what, cure)


def secrets(home: Path) -> Iterator[Said]:
    """Whether the secrets are there that what lies in the folder was made with."""
    path = home / "secrets.json"
    cure = f"bring {path} back from a backup of this very folder; nothing else opens what was made with it"
    try:
        kept = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        yield Finding("secrets lost", str(path), f"it is no JSON: {error}", cure)
        return
    made_with = {"object_store/devices": "store_path_salt", "airflow/airflow.db": "airflow_fernet_key"}
    for place, name in made_with.items():
        if (home / place).exists() and not kept.get(name):
            yield Finding("secrets lost", str(path), f"{name} is gone, and {place} was made with it", cure)


def attributes(home: Path) -> Iterator[Said]:
    """Whether the objects still have the extended attributes in which the store keeps what it knows of them."""
    try:
        refuse_without_attributes(home)
    except ConfigError as error:
        yield Finding("attributes lost", error.where, error.what, error.cure)


def disk(home: Path) -> Iterator[Said]:
    """Whether there is room for what the services and the tasks write."""
    for folder, least, who_wants in (
        (home, MIN_FREE_BYTES, WHO_WANTS),
        (Path(tempfile.gettempdir()), LEAST_TEMPORARY_BYTES, "tasks want, for what does not fit in memory,"),
    ):
        if folder.exists() and (what := shortage(folder, least, who_wants)):
            cure = "free some space; `evergreen vacuum PROBLEM --dry-run` says what Evergreen could do without"
            yield Finding("disk nearly full", str(folder), what, cure)
