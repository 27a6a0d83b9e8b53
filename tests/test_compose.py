"""docker-compose.yaml as it is written: who knows which secret, and who reaches whom. Docker itself is not run here."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from pipelines.problem import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AIRFLOW = {"DATABASE": {"POSTGRES_PASSWORD"}, "KEYS": {"FERNET_KEY", "AIRFLOW_API_KEY", "AIRFLOW_JWT_SECRET"}}
OF_AIRFLOW = AIRFLOW["DATABASE"] | AIRFLOW["KEYS"]
STORE, MLFLOW, QUEUE = {"S3_ACCESS_KEY", "S3_SECRET_KEY"}, {"MLFLOW_PASSWORD"}, {"REDIS_PASSWORD"}
SECRETS = {
    "postgres": {"POSTGRES_PASSWORD"},
    "redis": QUEUE,
    "s3": STORE,
    "init": OF_AIRFLOW | STORE,
    "mlflow": STORE | MLFLOW | {"POSTGRES_PASSWORD", "MLFLOW_FLASK_KEY"},
    "api-server": OF_AIRFLOW | STORE | {"AIRFLOW_PASSWORD", "EVERGREEN_METRICS_TOKEN"},
    "scheduler": OF_AIRFLOW | STORE | MLFLOW | QUEUE | {"AIRFLOW_PASSWORD"},
    "dag-processor": OF_AIRFLOW,
    "triggerer": OF_AIRFLOW,
    "worker": OF_AIRFLOW | STORE | MLFLOW | QUEUE,
}
NO_SECRET = {"EVERGREEN_PROBLEMS"}
HOSTS = {"postgres": "POSTGRES_PASSWORD", "redis": "REDIS_PASSWORD", "s3": "S3_SECRET_KEY"}


def secrets(service: str) -> set[str]:
    values = SERVICES[service].get("environment", {}).values()
    return {name for value in values for name in re.findall(r"\$\{(\w+)", str(value))} - NO_SECRET


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_knows_the_secrets_that_it_needs(service: str) -> None:
    assert secrets(service) == SECRETS[service]


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_stands_in_what_ps_shows(service: str) -> None:
    command = str(SERVICES[service].get("command", ""))
    assert not re.search(r"(?<!\$)\$\{?\w", command), "name it as $$NAME: the container's shell fills it in"
    assert "--requirepass" not in command, "a program shows its arguments, a shell's here-document nobody"
    assert "$$" not in str(SERVICES[service].get("healthcheck", {}))


def test_redis_keeps_its_environment_readable() -> None:
    assert "set-proc-title no" in SERVICES["redis"]["command"][-1], (
        "its title is written over its environment, by which `evergreen stack` finds what a killed start has left"
    )


def test_every_secret_that_is_asked_for_is_made(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    command = [sys.executable, str(ROOT / "docker" / "make_env.py"), str(path)]
    subprocess.run(command, check=True)
    made = dict(line.split("=", 1) for line in path.read_text().splitlines())
    asked = re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yaml").read_text())
    assert made.keys() == set(asked)
    assert len(set(made.values())) == len(made)
    assert len(made["AIRFLOW_JWT_SECRET"]) >= 64, "Airflow signs with SHA-512, and warns of shorter keys at each task"
    assert path.stat().st_mode & 0o077 == 0
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == 1 and "is there already" in again.stderr
    asked_for_help = subprocess.run([*command[:2], "--help"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "usage:" in asked_for_help.stdout and list(tmp_path.iterdir()) == [path], "an option is no file's name"


@pytest.mark.parametrize(("host", "secret"), HOSTS.items())
def test_who_reaches_a_service_knows_its_secret(host: str, secret: str) -> None:
    networks = set(SERVICES[host]["networks"])
    reaching = {name for name, service in SERVICES.items() if networks & set(service.get("networks", ["default"]))}
    assert reaching == {name for name in SERVICES if secret in secrets(name)}
    assert all(COMPOSE["networks"][network]["internal"] for network in networks)


def test_the_stores_parts_without_a_login_listen_to_their_own_container() -> None:
    command = SERVICES["s3"]["command"]
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0"} <= set(command)
    assert {"-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"} <= set(command), "they would listen as S3 does"


def test_ports_are_open_on_this_machine_alone() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(ports) == {"mlflow", "api-server"}
    assert all(port.startswith("127.0.0.1:") for of_service in ports.values() for port in of_service)


def test_passwords_that_airflow_has_made_for_others_outlive_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, script = SERVICES["api-server"], "docker/set_password.py"
    file = PurePosixPath(server["environment"]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    assert f"logins:{file.parent}" in server["volumes"] and "logins" in COMPOSE["volumes"]
    assert str(file.parent) in (ROOT / "docker" / "Dockerfile").read_text(), "the volume is its user's"
    assert [name for name, service in SERVICES.items() if "logins:" in str(service.get("volumes"))] == ["api-server"]
    assert f"{script}\nexec airflow api-server" in server["command"][-1]
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(tmp_path / "passwords.json"))
    for password in ("first", "second"):
        monkeypatch.setenv("EVERGREEN_AIRFLOW_PASSWORD", password)
        runpy.run_path(str(ROOT / script))
        passwords = json.loads((tmp_path / "passwords.json").read_text())
        assert passwords == {"admin": password} | ({"ann": "hers"} if password == "second" else {})
        (tmp_path / "passwords.json").write_text(json.dumps(passwords | {"ann": "hers"}))
    assert (tmp_path / "passwords.json").stat().st_mode & 0o077 == 0
