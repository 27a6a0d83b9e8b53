"""What docker-compose.yaml and its image say of each service: the one description of the full stack.

Only what the file uses is read; a key that stands for something else is an error, so that nothing is passed over.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipelines.errors import ConfigError

COMPOSE, DOCKERFILE = Path("docker-compose.yaml"), Path("docker", "Dockerfile")
COMPLETED, HEALTHY, STARTED = "service_completed_successfully", "service_healthy", "service_started"

# What concerns Docker alone: what makes, limits, starts again and stops a container.
PASSED_OVER = {"image", "build", "restart", "mem_limit", "stop_grace_period"}
VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<kind>[?-])(?P<text>[^}]*))?\})")


class Check(NamedTuple):
    """A health check: the command that succeeds where a service is healthy."""

    command: tuple[str, ...]
    tries: int
    interval_s: float


class Container(NamedTuple):
    """A service as docker-compose.yaml describes it; variables are not filled in yet."""

    name: str
    command: tuple[str, ...]
    """Empty: that of its image."""
    environment: Mapping[str, str]
    networks: tuple[str, ...]
    volumes: Mapping[str, str]
    """Named volumes by the folder in which a service has them."""
    ports: Mapping[int, int]
    """Port on this machine's loopback, by the service's own."""
    needs: Mapping[str, str]
    """What has to be true of other services before it starts."""
    check: Check | None
    is_ours: bool
    """Whether it runs the image of docker/Dockerfile."""


def read(root: Path) -> dict[str, Container]:
    """The services of the repository's docker-compose.yaml, each after those that it needs."""
    services: dict[str, dict[str, Any]] = yaml.safe_load((root / COMPOSE).read_text())["services"]
    containers = {name: _container(name, about) for name, about in services.items()}
    ordered: dict[str, Container] = {}
    while len(ordered) < len(containers):
        ready = [
            name for name, about in containers.items() if name not in ordered and about.needs.keys() <= ordered.keys()
        ]
        if not ready:
            raise ConfigError(
                f"services wait for each other: {', '.join(containers.keys() - ordered.keys())}",
                where=str(root / COMPOSE),
                cure="take one `depends_on` out",
            )
        ordered |= {name: containers[name] for name in ready}
    return ordered


def required(root: Path) -> set[str]:
    """Variables without which docker-compose.yaml is refused."""
    found = VARIABLE.finditer((root / COMPOSE).read_text())
    return {match["name"] for match in found if match["kind"] == "?"}


def fill(text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables filled in, as `docker compose` does.

    >>> fill("${WHO:?missing} has $$5, ${WHAT:-nothing} else", {"WHO": "Ann"})
    'Ann has $5, nothing else'
    """

    def value(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return "$"
        known = variables.get(name, "")
        if not known and match["kind"] == "?":
            raise ConfigError(f"{name} is {match['text']}", where=str(COMPOSE), cure=f"set {name}")
        return known or (match["text"] or "" if match["kind"] == "-" else "")

    return VARIABLE.sub(value, text)


def image_environment(root: Path) -> dict[str, str]:
    """What docker/Dockerfile sets for every service of ours; `$PATH` in it is that of the image below."""
    lines = (root / DOCKERFILE).read_text().splitlines()
    words = [word for line in lines if line.startswith("ENV ") for word in shlex.split(line)[1:]]
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def image_folder(root: Path) -> str:
    """Where docker/Dockerfile puts the repository, and commands run."""
    return str(re.findall(r"^WORKDIR (\S+)$", (root / DOCKERFILE).read_text(), flags=re.MULTILINE)[-1])


def _container(name: str, about: Mapping[str, Any]) -> Container:
    readers: dict[str, Callable[[Any], Any]] = {
        "command": _words,
        "environment": lambda values: {key: "" if value is None else str(value) for key, value in values.items()},
        "networks": tuple,
        "volumes": _volumes,
        "ports": _ports,
        "depends_on": lambda needs: {other: need["condition"] for other, need in needs.items()},
        "healthcheck": _check,
    }
    unknown = about.keys() - readers.keys() - PASSED_OVER
    if unknown:
        raise ConfigError(
            f"`{name}` has keys that the stack does not know: {', '.join(sorted(unknown))}",
            where=str(COMPOSE),
            cure="teach pipelines/embedded/stack/description.py what they mean",
        )
    read = {key: reader(about[key]) for key, reader in readers.items() if key in about}
    return Container(
        name,
        read.get("command", ()),
        read.get("environment", {}),
        read.get("networks", ("default",)),
        read.get("volumes", {}),
        read.get("ports", {}),
        read.get("depends_on", {}),
        read.get("healthcheck"),
        about.get("image") == "evergreen",
    )


def _words(command: list[Any] | str) -> tuple[str, ...]:
    return tuple(shlex.split(command)) if isinstance(command, str) else tuple(str(word) for word in command)


def _volumes(volumes: list[str]) -> dict[str, str]:
    parts = [volume.split(":") for volume in volumes]
    return {place: name for name, place, *_ in parts if not name.startswith(".")}


def _ports(ports: list[str]) -> dict[int, int]:
    parts = [port.split(":") for port in ports]
    return {int(inside): int(outside) for _host, outside, inside in parts}


def _check(about: Mapping[str, Any]) -> Check:
    kind, *words = about["test"]
    command = ("sh", "-c", *words) if kind == "CMD-SHELL" else tuple(words)
    return Check(command, int(about.get("retries", 3)), float(str(about.get("interval", "30s")).removesuffix("s")))
