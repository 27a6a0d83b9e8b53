"""What the stack reads out of docker-compose.yaml and docker/Dockerfile."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines.embedded.stack import description
from pipelines.errors import ConfigError
from pipelines.problem import ROOT

SERVICES = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]


def compose(root: Path, text: str) -> Path:
    (root / "docker-compose.yaml").write_text(text)
    return root


def test_every_service_is_read_with_all_that_is_said_of_it() -> None:
    containers = description.read(ROOT)
    assert containers.keys() == SERVICES.keys()
    for name, container in containers.items():
        about = SERVICES[name]
        assert container.environment.keys() == about.get("environment", {}).keys()
        assert container.needs.keys() == about.get("depends_on", {}).keys()
        assert (container.check is None) == ("healthcheck" not in about)
        assert container.is_ours == (about["image"] == "evergreen")
    assert containers["api-server"].ports == {8080: 8080}
    assert containers["api-server"].volumes == {
        "/var/lib/evergreen/logs": "logs",
        "/var/lib/evergreen/logins": "logins",
    }
    check = containers["redis"].check
    assert check is not None and check.command[:2] == ("sh", "-c") and check.interval_s == 5


def test_services_come_after_those_that_they_need(tmp_path: Path) -> None:
    containers = description.read(ROOT)
    before: set[str] = set()
    for name, container in containers.items():
        assert container.needs.keys() <= before
        before.add(name)
    round_about = "services: {a: {depends_on: {b: {condition: x}}}, b: {depends_on: {a: {condition: x}}}}"
    with pytest.raises(ConfigError, match="wait for each other"):
        description.read(compose(tmp_path, round_about))


def test_nothing_that_it_does_not_know_is_passed_over(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`a` has keys that the stack does not know: user"):
        description.read(compose(tmp_path, "services: {a: {image: x, user: nobody}}"))


def test_a_variable_without_which_docker_refuses_the_file_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="FERNET_KEY is missing"):
        description.fill("${FERNET_KEY:?missing from .env}", {"FERNET_KEY": ""})


def test_the_image_tells_its_environment_and_its_folder() -> None:
    environment = description.image_environment(ROOT)
    folder = description.image_folder(ROOT)
    assert environment["PATH"] == f"{folder}/.venv/bin:$PATH"
    assert environment.keys() == {"PATH", "PYTHONUNBUFFERED", "AIRFLOW_HOME"}
