"""The one git-ignored folder that holds everything the embedded runtime makes: secrets, ports, data, logs.

.evergreen/
    lock            held by the one supervisor that may use this folder
    secrets.json    made at first start, mode 600
    ports.json      the ports of the last start, taken again if they are free
    environment     KEY=value lines for other terminals, mode 600
    logs/           one file a service; a long one is put aside as <service>.log.1
    airflow/  mlflow/  object_store/
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import ConfigError

MIN_FREE_BYTES = 2 * 2**30
FOLDERS = ("airflow", "mlflow", "object_store")
WHO_WANTS = "the embedded services want"
LOGS_KEPT_BYTES = 20 * 2**20

# The variable that says where a service is, and how the names of the others begin that belong to it.
SERVICES = {
    "EVERGREEN_STORE_URI": "AWS_",
    "MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_",
    "EVERGREEN_AIRFLOW_URL": "EVERGREEN_AIRFLOW_",
}


def project_root() -> Path:
    """The folder with airflow.cfg, dags/ and plugins/; EVERGREEN_ROOT moves it."""
    return Path(os.environ.get("EVERGREEN_ROOT") or Path(__file__).parents[3]).resolve()


def default_home() -> Path:
    """EVERGREEN_HOME, else `.evergreen` in the project root."""
    return Path(os.environ.get("EVERGREEN_HOME") or project_root() / ".evergreen").resolve()


def prepare(home: Path, folders: Sequence[str] = FOLDERS) -> None:
    """Make the folder and those in it, readable by its owner only, and see that there is room in it.

    Raises:
        ConfigError: it cannot be written to, or its disk is nearly full.
    """
    try:
        for folder in (home, home / "logs", *(home / name for name in folders)):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        home.chmod(0o700)
        (home / ".gitignore").write_text("*\n")
    except OSError as error:
        raise ConfigError(
            f"the embedded services cannot write to their folder: {error.strerror}",
            where=str(home),
            cure="make it yours (`chown`), free some space, or set EVERGREEN_HOME to another folder",
        ) from error
    require_room(home, MIN_FREE_BYTES, WHO_WANTS)


def shortage(folder: Path, wanted: int, who_wants: str) -> str | None:
    """What is wrong where the folder's disk has fewer bytes free than are wanted; None: there is room.

    >>> shortage(Path("/"), 2**70, "the moon wants").partition(", ")[2]
    'and the moon wants 1099511627776.00'
    """
    free = shutil.disk_usage(folder).free
    if free >= wanted:
        return None
    return f"only {free / 2**30:.2f} GiB are free, and {who_wants} {wanted / 2**30:.2f}"


def require_room(folder: Path, wanted: int, who_wants: str) -> None:
    """Raises:
    ConfigError: the folder's disk has fewer bytes free than are wanted.
    """
    if what := shortage(folder, wanted, who_wants):
        raise ConfigError(
            what,
            where=str(folder),
            cure="free some space, or take a folder on another disk (EVERGREEN_HOME names that of the services)",
        )


@contextmanager
def only_supervisor(home: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel lets go of it however this process ends.

    Raises:
        ConfigError: another supervisor holds it.
    """
    with (home / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise ConfigError(
                f"the embedded services are already up, run by process {holder}",
                where=str(home),
                cure="use them as they are (`evergreen replay` does), stop them with Ctrl-C in their terminal, "
                f"or with `kill {holder}`; EVERGREEN_HOME starts a second set elsewhere",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


def supervisor_of(home: Path) -> int | None:
    """Process id of the supervisor that uses the folder now; None when none does."""
    if not (home / "lock").exists():
        return None
    with (home / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read().strip() or 0) or None
    return None


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, mode 600: a reader sees the old text or the new, never half of it."""
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def load_secrets(home: Path) -> dict[str, str]:
    """The deployment's secrets, made when first asked for and the same ever after."""
    path = home / "secrets.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    fresh = {
        "store_secret_key": secrets.token_hex(24),
        "store_path_salt": secrets.token_hex(16),
        "mlflow_password": secrets.token_urlsafe(18),
        "mlflow_flask_key": secrets.token_hex(32),
        "airflow_password": secrets.token_urlsafe(18),
        "airflow_fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "airflow_api_key": secrets.token_hex(32),
        "airflow_jwt_secret": secrets.token_hex(64),
    }
    if fresh.keys() - known.keys():
        known = fresh | known
        write_private(path, json.dumps(known, indent=1))
    return known


def save_environment(home: Path, environment: Mapping[str, str]) -> None:
    """Write `environment`, which a shell can read too: `set -a; . .evergreen/environment`."""
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in environment.items()]
    write_private(home / "environment", "".join(lines))


def read_environment(home: Path) -> dict[str, str]:
    """What `save_environment` wrote; empty when nothing was."""
    path = home / "environment"
    words = shlex.split(path.read_text()) if path.exists() else []
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def load_environment(home: Path | None = None) -> None:
    """Let this process talk to the services of the last start.

    Variables already set are kept; those of one service go together, so a store, an MLflow or an Airflow of the
    user's own is never mixed with the keys of ours.
    """
    saved = read_environment(home or default_home())
    others = tuple(
        prefix for name, prefix in SERVICES.items() if os.environ.get(name, saved.get(name)) != saved.get(name)
    )
    if saved and "AWS_" not in others:
        drop_foreign_keys(os.environ)
    for name, value in saved.items():
        if name.startswith(others):
            continue
        if name.startswith(tuple(SERVICES.values())):
            os.environ[name] = value
        elif name.upper() == "NO_PROXY":
            os.environ[name] = with_loopback(os.environ.get(name, ""))
        else:
            os.environ.setdefault(name, value)


def drop_foreign_keys(environ: MutableMapping[str, str]) -> None:
    """Take out what would make S3 clients prefer another store, or another login, to the variables we set."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3"):
        environ.pop(name, None)


def with_loopback(hosts: str) -> str:
    """A NO_PROXY list that has this machine in it."""
    return ",".join(dict.fromkeys([*filter(None, hosts.split(",")), "127.0.0.1", "localhost"]))


def log_path(home: Path, service: str) -> Path:
    """The log of one service."""
    return home / "logs" / f"{service}.log"


def rotate_log(home: Path, service: str) -> None:
    """Before a start: a long log becomes <service>.log.1, which replaces an older one."""
    log = log_path(home, service)
    if log.exists() and log.stat().st_size > LOGS_KEPT_BYTES:
        log.replace(log.with_name(log.name + ".1"))


def tail(home: Path, service: str, lines: int = 15) -> str:
    """The last lines of a service's log, for a message about its failure."""
    log = log_path(home, service)
    if not log.exists():
        return "(no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 64 * 1024))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
