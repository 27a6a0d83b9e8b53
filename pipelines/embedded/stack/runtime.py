"""The full stack without Docker: what docker-compose.yaml describes, as processes of this machine.

Each service has a folder of its own below `hosts` (home, temporary files, data), the environment, the command and the
health check that docker-compose.yaml gives it, and as root a host of its own (`namespaces`). Its workers are as many as
are asked for, each on its host; hosts of workers share nothing with another host but the networks.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from pipelines.embedded import object_store
from pipelines.embedded.processes.home import (
    default_home,
    project_root,
    save_environment,
    with_loopback,
    write_private,
)
from pipelines.embedded.processes.ports import reserved_ports
from pipelines.embedded.processes.services import Services
from pipelines.embedded.processes.supervisor import Progress, Service, Supervisor
from pipelines.embedded.runtime import Endpoint, endpoints
from pipelines.embedded.stack import description, images, programs, translate
from pipelines.embedded.stack.description import COMPLETED, Check, Container
from pipelines.embedded.stack.namespaces import Namespaces, publish
from pipelines.errors import ConfigError

USERS = {"postgres": "postgres", "redis": "redis"}
"""As whom the programs of Debian run where this is root; PostgreSQL refuses root."""
RESERVED = {"api-server": "airflow", "mlflow": "mlflow", "s3": "store", "postgres": "postgres", "redis": "redis"}
"""What a server's port on loopback is called in ports.json, and in EVERGREEN_<NAME>_PORT."""
PUBLISHED = ("api-server", "mlflow", "s3")
WORKER = "worker"
CHECK_S = 15.0
BETWEEN_CHECKS_S = 1.0
STARTED_WITHIN_S = 180.0
SECRETS_FILE = "secrets.env"
# Names of variables that a client of the services needs, as `evergreen` in another terminal is.
OF_CLIENTS = ("AWS_", "EVERGREEN_", "MLFLOW_TRACKING_")


class Place(NamedTuple):
    """A host: the service that it runs, and its folder."""

    name: str
    container: Container
    folder: Path
    seen: Path
    """The folder as the service sees it."""
    user: str
    """Who runs it; empty: whoever runs the stack."""


class Stack(Services):
    """The services of docker-compose.yaml, with so many workers.

    with Stack(workers=2) as stack:
        stack.start(print)
        os.environ.update(stack.environment())
        stack.wait()
    """

    folders: ClassVar[Sequence[str]] = ("hosts", "volumes")

    def __init__(self, home: Path | None = None, workers: int = 2) -> None:
        super().__init__(home or default_home() / "stack")
        self.is_new = False
        """Whether this start made the secrets."""
        self._root = project_root()
        self._containers = description.read(self._root)
        names = [*filter(lambda name: name != WORKER, self._containers), *worker_names(workers)]
        self._has_hosts = os.geteuid() == 0 and sys.platform == "linux"
        self.places = {name: self._place(name) for name in names}
        self._namespaces = Namespaces(
            self.home, {name: place.container.networks for name, place in self.places.items()}
        )
        self._variables: dict[str, str] = {}
        self._ports: dict[str, int] = {}

    def environment(self) -> dict[str, str]:
        """What a client on this machine needs; known once `start` is under way."""
        scheduler = self.places["scheduler"].container.environment
        known = {name: self._outside(value) for name, value in scheduler.items() if name.startswith(OF_CLIENTS)}
        no_proxy = with_loopback(os.environ.get("NO_PROXY") or os.environ.get("no_proxy", ""))
        return {
            **known,
            "EVERGREEN_HOME": str(self.home),
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
        }

    def urls(self) -> dict[str, Endpoint]:
        """`airflow`, `mlflow` and `store`: what the summary shows to people."""
        return endpoints(self.environment())

    @property
    def secrets_file(self) -> Path:
        return self.home / SECRETS_FILE

    def cut_off(self, name: str, *, is_down: bool) -> None:
        """Take the links of a host down, or up again; there are hosts where root started the stack."""
        self._namespaces.cut_off(name, is_down=is_down)

    def _bring_up(self, supervisor: Supervisor, progress: Progress) -> None:
        programs.require(progress, is_root=self._has_hosts)
        self.is_new = not self.secrets_file.exists()
        self._variables = self._secrets()
        usual = {RESERVED[name]: translate.PORTS[name] for name in (PUBLISHED if self._has_hosts else RESERVED)}
        reserved = self._resources.enter_context(reserved_ports(self.home, usual))
        self._ports = {name: reserved.get(RESERVED[name], port) for name, port in translate.PORTS.items()}
        for place in self.places.values():
            self._make_folders(place)
        workers = [name for name, place in self.places.items() if place.container.name == WORKER]
        if self._has_hosts:
            self._resources.enter_context(self._namespaces.up())
            to = {self._ports[name]: (self._namespaces.address(name), translate.PORTS[name]) for name in PUBLISHED}
            self._resources.enter_context(publish(to))
            progress(f"hosts: a network namespace for each service, {' and '.join(workers)} among them")
        else:
            progress(f"hosts: without root all services are processes of this one, {' and '.join(workers)} too")
        save_environment(self.home, self.environment())
        for wave in waves(self._containers):
            self._start_wave(supervisor, wave, progress)

    def _start_wave(self, supervisor: Supervisor, wave: Sequence[str], progress: Progress) -> None:
        """Start the services that need nothing but what is there; those that end are waited for."""
        places = [place for place in self.places.values() if place.container.name in wave]
        ending = {
            other for about in self._containers.values() for other, what in about.needs.items() if what == COMPLETED
        }
        for place in places:
            if place.name in ending:
                supervisor.run(place.name, self._enter(place, self._command(place)), self._process_environment(place))
        services = [self._service(supervisor, place, progress) for place in places if place.name not in ending]
        if services:
            supervisor.start_together(services)
        progress(f"{', '.join(place.name for place in places)}: ready")

    def _service(self, supervisor: Supervisor, place: Place, progress: Progress) -> Service:
        environment = self._process_environment(place)
        if place.name == "s3":
            command, of_store = self._object_store(supervisor, place, environment, progress)
            environment = of_store | environment
        else:
            command = self._command(place)
        check = place.container.check
        timeout_s = max(STARTED_WITHIN_S, check.tries * check.interval_s) if check else STARTED_WITHIN_S
        is_ready = self._is_healthy(place, check, environment) if check else _is_started
        # As PostgreSQL's image: to SIGTERM it would wait for its clients, who wait for it.
        stop_signal = signal.SIGINT if place.name == "postgres" else signal.SIGTERM
        return Service(
            place.name, self._enter(place, command), environment, is_ready, timeout_s, stop_signal=stop_signal
        )

    def _object_store(
        self, supervisor: Supervisor, place: Place, environment: Mapping[str, str], progress: Progress
    ) -> tuple[list[str], dict[str, str]]:
        secrets = {
            "store_path_salt": self._variables["S3_PATH_SALT"],
            "store_secret_key": environment["AWS_SECRET_ACCESS_KEY"],
        }
        if reason := object_store.why_not(self._volume(place, "s3")):
            raise ConfigError(
                f"this machine cannot hold the S3 server: {reason}",
                where=str(self.home),
                cure="set EVERGREEN_HOME to a folder of another file system",
            )
        host, port = self._listen("s3")
        return object_store.server(supervisor, self._volume(place, "s3"), host, port, secrets, progress)

    def _is_healthy(self, place: Place, check: Check, environment: Mapping[str, str]) -> Callable[[float], bool]:
        command = self._enter(place, [self._inside(place, word) for word in check.command])

        def is_healthy(_since: float) -> bool:
            try:
                done = subprocess.run(command, check=False, env=environment, capture_output=True, timeout=CHECK_S)
            except subprocess.TimeoutExpired:
                return False
            if done.returncode:
                time.sleep(BETWEEN_CHECKS_S)
            return done.returncode == 0

        return is_healthy

    def _command(self, place: Place) -> list[str]:
        if place.name == "postgres":
            return ["bash", "-euc", images.POSTGRES]
        return [self._published(place, word) for word in place.container.command] + self._alone(place)

    def _alone(self, place: Place) -> list[str]:
        """What keeps services apart that share a host: names for workers, and no server of logs on all addresses."""
        command = place.container.command
        if self._has_hosts or command[:1] != ("airflow",) or command[1] not in ("celery", "triggerer"):
            return []
        named = ["--celery-hostname", place.name] if place.container.name == WORKER else []
        return ["--skip-serve-logs", *named]

    def _process_environment(self, place: Place) -> dict[str, str]:
        """That of docker-compose.yaml and its image, and what tells a process where it is."""
        own = {
            "HOME": str(place.seen / "home"),
            "TMPDIR": str(place.seen / "tmp"),
            "LANG": "C.UTF-8",
            "PATH": programs.SYSTEM,
        }
        if place.container.is_ours:
            image = description.image_environment(self._root)
            own |= {name: self._inside(place, value.replace("$PATH", own["PATH"])) for name, value in image.items()}
        elif place.name in USERS:
            own["PATH"] = programs.search_path()
        if place.name == "postgres":
            host, port = self._listen("postgres")
            own |= {"PGDATA": str(self._volume(place, "postgres") / "data"), "LISTEN": host, "PORT": str(port)}
        return own | {name: self._published(place, value) for name, value in place.container.environment.items()}

    def _published(self, place: Place, text: str) -> str:
        """Of a command or a variable: addresses of this machine are those that people use."""
        ports = {translate.PORTS[name]: self._ports[name] for name in PUBLISHED}
        return self._inside(place, translate.published(text, ports) if self._has_hosts else text)

    def _inside(self, place: Place, text: str) -> str:
        """Text of docker-compose.yaml as a service of this machine takes it."""
        if not self._has_hosts:
            text = translate.on_loopback(text, self._ports)
        return description.fill(translate.in_folders(text, self._seen_folders(place)), self._variables)

    def _outside(self, text: str) -> str:
        text = translate.on_loopback(text, self._ports)
        return description.fill(translate.in_folders(text, self._image_folders()), self._variables)

    def _listen(self, name: str) -> tuple[str, int]:
        """Where a server listens: on its host's networks, or on loopback."""
        if self._has_hosts:
            return "0.0.0.0", translate.PORTS[name]  # noqa: S104 - of a host whose networks lead nowhere
        return "127.0.0.1", self._ports[name]

    def _image_folders(self) -> dict[str, Path]:
        """Where the image has the repository and its Python, and where they are."""
        folder = description.image_folder(self._root)
        return {folder: self._root, f"{folder}/.venv": Path(sys.prefix)}

    def _seen_folders(self, place: Place) -> dict[str, Path]:
        """Folders of the container by their names there."""
        home, variable = place.seen / "home", place.seen / "var"
        own = {"/tmp": place.seen / "tmp", "/home/evergreen": home, "/var/lib/evergreen": variable}  # noqa: S108 - a container's
        volumes = {there: self._volume(place, name) for there, name in place.container.volumes.items()}
        return {**self._image_folders(), **own, **volumes}

    def _volume(self, place: Place, name: str) -> Path:
        """Several services may have one volume, but a host of a worker shares no folder; of USERS all is in theirs."""
        if place.name in USERS or (self._has_hosts and place.container.name == WORKER):
            return place.seen / name
        return self.home / "volumes" / name

    def _enter(self, place: Place, command: Sequence[str]) -> list[str]:
        """What runs a command as a service."""
        work = self._root if place.container.is_ours else place.seen
        if not self._has_hosts:
            return ["sh", "-euc", 'cd "$1"; shift; exec "$@"', "sh", str(work), *command]
        volumes = {self._volume(place, name) for name in place.container.volumes.values()}
        folders = {place.folder: place.seen} | {path: path for path in volumes if not path.is_relative_to(place.seen)}
        return self._namespaces.enter(place.name, place.user, work, folders, command)

    def _place(self, name: str) -> Place:
        container = self._containers[WORKER if name.startswith(f"{WORKER}-") else name]
        folder = self.home / "hosts" / name
        user = USERS.get(name, "") if self._has_hosts else ""
        return Place(name, container, folder, folder, user)

    def _make_folders(self, place: Place) -> None:
        """The folders of a host. Another user, who may not look into this one's folders, sees them at its own home."""
        volumes = [self._volume(place, name) for name in place.container.volumes.values()]
        own = [place.folder / "home", place.folder / "tmp"]
        for folder in [*own, *volumes]:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if place.name == "postgres":
            shutil.copyfile(self._root / "docker" / "databases.sql", place.folder / "databases.sql")
        if place.user:
            account = _account(place.user)
            for path in [place.folder, *place.folder.rglob("*")]:
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
            self.places[place.name] = place._replace(seen=Path(account.pw_dir))

    def _secrets(self) -> dict[str, str]:
        """The variables that docker-compose.yaml asks for, made at the first start as for Docker."""
        if not self.secrets_file.exists():
            draft = self.home / "secrets.new"
            draft.unlink(missing_ok=True)
            subprocess.run([sys.executable, "-P", str(self._root / "docker" / "make_env.py"), str(draft)], check=True)
            known = _read(draft) | {"S3_ACCESS_KEY": object_store.ACCESS_KEY, "S3_PATH_SALT": os.urandom(16).hex()}
            write_private(self.secrets_file, "".join(f"{name}={value}\n" for name, value in known.items()))
            draft.unlink()
        known = _read(self.secrets_file)
        if missing := description.required(self._root) - known.keys():
            raise ConfigError(
                f"it has no {', '.join(sorted(missing))}",
                where=str(self.secrets_file),
                cure="add each as a line NAME=value",
            )
        # What is no secret is the environment's, as with Docker.
        return {name: value for name, value in os.environ.items() if name.startswith("EVERGREEN_")} | known


def worker_names(workers: int) -> list[str]:
    """Of so many hosts of workers.

    >>> worker_names(2)
    ['worker-1', 'worker-2']
    """
    return [f"{WORKER}-{number + 1}" for number in range(workers)]


def waves(containers: Mapping[str, Container]) -> list[list[str]]:
    """Services that can start at once, after those before them. `containers` has each after those that it needs."""
    depth: dict[str, int] = {}
    for name, container in containers.items():
        depth[name] = max((depth[other] + 1 for other in container.needs), default=0)
    return [[name for name in containers if depth[name] == at] for at in range(max(depth.values()) + 1)]


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError as error:
        raise ConfigError(
            f"this system has no user {user}, as whom its programs are to run: they refuse root",
            where="/etc/passwd",
            cure="install the system's own package of them, or start the stack as another user than root",
        ) from error


def _is_started(_since: float) -> bool:
    return True


def _read(path: Path) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in path.read_text().splitlines())}
