"""How the stack would start each service, without starting one; that it works is shown by benchmarks.stack."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from pipelines.embedded.stack import Stack, runtime
from pipelines.embedded.stack.runtime import waves, worker_names
from pipelines.errors import ConfigError
from pipelines.problem import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
# What tells a process where it is: Docker and the images set these too.
OF_ITS_PLACE = {"HOME", "TMPDIR", "LANG", "PATH"}
OF_THE_IMAGE = {"PYTHONUNBUFFERED", "AIRFLOW_HOME"}
OF_POSTGRES = {"PGDATA", "LISTEN", "PORT"}


@pytest.fixture(params=["with hosts", "on loopback"])
def stack(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """As root would start it, and as somebody else: folders and secrets are made, and nothing else."""
    monkeypatch.setattr(os, "geteuid", lambda: 0 if request.param == "with hosts" else 1000)
    monkeypatch.setattr(runtime, "USERS", {})
    for name in [name for name in os.environ if name.startswith("EVERGREEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BANK_PASSWORD", "0000")
    home = tmp_path / "home"
    home.mkdir()
    stack = Stack(home)
    stack._ports = {"postgres": 15432, "redis": 16379, "s3": 18333, "api-server": 18080, "mlflow": 15000}
    stack._variables = stack._secrets()
    return stack


def known_secrets(stack: Stack) -> set[str]:
    return {value for name, value in stack._variables.items() if name != "S3_ACCESS_KEY"}


def test_a_process_has_the_environment_of_docker_compose_and_no_other(stack: Stack) -> None:
    assert [name for name in stack.places if name.startswith("worker")] == ["worker-1", "worker-2"]
    for name, place in stack.places.items():
        wanted = set(COMPOSE["services"][place.container.name].get("environment", {})) | OF_ITS_PLACE
        if place.container.is_ours:
            wanted |= OF_THE_IMAGE
        if name == "postgres":
            wanted |= OF_POSTGRES
        assert stack._process_environment(place).keys() == wanted, name


def test_a_process_knows_the_secrets_that_docker_compose_gives_it(stack: Stack) -> None:
    for place in stack.places.values():
        text = yaml.safe_dump(COMPOSE["services"][place.container.name].get("environment", {}))
        named = set(re.findall(r"\$\{(\w+)", text))
        values = "\n".join(stack._process_environment(place).values())
        for name, value in stack._variables.items():
            if name.startswith("S3_PATH") or name == "S3_ACCESS_KEY":
                continue
            assert (value in values) == (name in named), f"{name} of {place.name}"


def test_no_secret_is_in_arguments_or_health_checks(stack: Stack) -> None:
    for place in stack.places.values():
        words = [*stack._enter(place, stack._command(place))]
        if place.container.check:
            words += [stack._inside(place, word) for word in place.container.check.command]
        assert not [secret for secret in known_secrets(stack) if secret in " ".join(words)]


def test_no_name_address_or_folder_of_a_container_is_left_where_all_share_loopback(stack: Stack) -> None:
    texts = {
        f"{place.name} {name}": text
        for place in stack.places.values()
        for name, text in [*stack._process_environment(place).items(), ("command", " ".join(stack._command(place)))]
        if place.name != "s3"
    }
    for what, text in texts.items():
        assert not re.search(r"/opt/evergreen|/var/lib/evergreen|/home/evergreen|(?<![\w/-])/tmp/login", text), what
        if not stack._has_hosts:
            assert not re.search(r"//(mlflow|s3|api-server)\b|@(postgres|redis)\b|0\.0\.0\.0", text), what
            assert not re.search(r"(?<![\w.])(5432|6379|8333|8080|5000)(?![\w.])", text), what
    airflow = stack._process_environment(stack.places["worker-1"])
    database = airflow["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].partition("@")[2]
    assert database == ("postgres/airflow" if stack._has_hosts else "127.0.0.1:15432/airflow")
    assert airflow["AIRFLOW__API__BASE_URL"] == "http://localhost:18080", "where people go"


def test_workers_share_no_folder_with_another_host(stack: Stack) -> None:
    first, second = (stack._process_environment(stack.places[name]) for name in worker_names(2))
    for name in ("HOME", "TMPDIR", "AIRFLOW_HOME"):
        assert first[name] != second[name]
    logs = "AIRFLOW__LOGGING__BASE_LOG_FOLDER"
    assert (first[logs] != second[logs]) == stack._has_hosts, "of one machine they are one, as in docker-compose.yaml"


def test_services_of_one_machine_keep_out_of_each_others_way(stack: Stack) -> None:
    worker, triggerer, server = (stack._command(stack.places[name]) for name in ("worker-2", "triggerer", "api-server"))
    if stack._has_hosts:
        assert worker == ["airflow", "celery", "worker"] and triggerer == ["airflow", "triggerer"]
    else:
        assert worker == ["airflow", "celery", "worker", "--skip-serve-logs", "--celery-hostname", "worker-2"]
        assert triggerer == ["airflow", "triggerer", "--skip-serve-logs"], "it would listen on all addresses"
    assert "--skip-serve-logs" not in server


def test_a_client_has_addresses_of_loopback(stack: Stack) -> None:
    known = stack.environment()
    assert known["EVERGREEN_AIRFLOW_URL"] == "http://127.0.0.1:18080"
    assert known["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:15000"
    assert known["AWS_ENDPOINT_URL"] == "http://127.0.0.1:18333"
    assert known["EVERGREEN_PROBLEMS"] == str(ROOT / "include" / "problems")
    assert stack.urls()["airflow"].password == stack._variables["AIRFLOW_PASSWORD"]


def test_secrets_are_made_once_and_are_the_users_alone(stack: Stack) -> None:
    assert stack._secrets() == stack._variables
    assert stack.secrets_file.stat().st_mode & 0o077 == 0
    assert len(known_secrets(stack)) == len(stack._variables) - 1
    lines = stack.secrets_file.read_text().splitlines()
    stack.secrets_file.write_text("\n".join(line for line in lines if not line.startswith("FERNET_KEY")))
    with pytest.raises(ConfigError, match="has no FERNET_KEY"):
        stack._secrets()


def test_a_system_without_the_users_is_told_apart(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "USERS", {"redis": "nobody's name"})
    place = stack._place("redis")
    assert place.user == ("nobody's name" if stack._has_hosts else "")
    if stack._has_hosts:
        with pytest.raises(ConfigError, match="has no user nobody's name"):
            stack._make_folders(place)


def test_a_service_starts_after_those_that_it_needs(stack: Stack) -> None:
    assert waves(stack._containers) == [
        ["postgres", "redis", "s3"],
        ["init"],
        ["mlflow", "api-server"],
        ["scheduler", "dag-processor", "triggerer", "worker"],
    ]
