"""kubernetes/ as it is written: what docker-compose.yaml says of each service, and no secret. No cluster runs here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

from pipelines.embedded.stack import description
from pipelines.problem import ROOT

FOLDER = ROOT / "kubernetes"
COMPOSE: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
SERVICES = description.read(ROOT)
VALUES: dict[str, Any] = yaml.safe_load((FOLDER / "values.yaml").read_text())
PODS: dict[str, Any] = yaml.safe_load((FOLDER / "values-pods.yaml").read_text())
TEMPLATE: dict[str, Any] = yaml.safe_load((FOLDER / "pod_template.yaml").read_text())
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    manifest for name in KUSTOMIZATION["resources"] for manifest in yaml.safe_load_all((FOLDER / name).read_text())
]
WORKLOADS = {made["metadata"]["name"]: made for made in MANIFESTS if made["kind"] in ("Deployment", "StatefulSet")}
OF_CHART: dict[str, dict[str, Any]] = {
    "init": VALUES["migrateDatabaseJob"],
    "api-server": VALUES["apiServer"],
    "scheduler": VALUES["scheduler"],
    "dag-processor": VALUES["dagProcessor"],
    "triggerer": VALUES["triggerer"],
    "worker": VALUES["workers"]["celery"],
}
COMPONENTS = {name: "run-airflow-migrations" if name == "init" else name for name in OF_CHART}
"""The label `component` that the chart gives the pods of a service."""
NAME = "evergreen"  # of the release, its namespace and the Secret
ONLY_HERE = {
    "AIRFLOW_HOME",  # the chart sets it, the image has another
    "AIRFLOW__CORE__HOSTNAME_CALLABLE",
    "PGDATA",
}


class Part(NamedTuple):
    """What runs one service of docker-compose.yaml, or one task."""

    image: str
    args: list[str]
    env: list[dict[str, Any]]
    checks: list[list[str]]
    """Commands of its probes."""
    resources: dict[str, Any]
    pod: dict[str, Any]
    """What is said of the pod."""
    container: dict[str, Any]
    """The container's securityContext."""


def of_pod(spec: dict[str, Any]) -> Part:
    container = spec["containers"][0]
    assert len(spec["containers"]) == 1 and "initContainers" not in spec and "command" not in container
    probes = [probe for name, probe in container.items() if name.endswith("Probe")]
    return Part(
        container["image"],
        container.get("args", []),
        container["env"],
        [probe["exec"]["command"] for probe in probes if "exec" in probe],
        container["resources"],
        spec,
        container["securityContext"],
    )


def of_chart(name: str) -> Part:
    about = OF_CHART[name]
    secrets = [
        {
            "name": entry["envName"],
            "valueFrom": {"secretKeyRef": {"name": entry["secretName"], "key": entry["secretKey"]}},
        }
        for entry in VALUES["secret"]
    ]
    everywhere = yaml.safe_load(VALUES["extraEnv"].replace("{{ .Values.executor }}", VALUES["executor"]))
    image = VALUES["images"]["airflow"]
    return Part(
        f"{image['repository']}:{image['tag']}",
        about["args"],
        [*secrets, *everywhere, *about.get("env", [])],
        [probe["command"] for key, probe in about.items() if key.endswith("Probe") and "command" in probe],
        about["resources"],
        {
            "securityContext": VALUES["securityContexts"]["pod"],
            "enableServiceLinks": VALUES["enableServiceLinks"],
            "automountServiceAccountToken": about["serviceAccount"]["automountServiceAccountToken"],
        },
        VALUES["securityContexts"]["containers"],
    )


PARTS = {name: of_pod(made["spec"]["template"]["spec"]) for name, made in WORKLOADS.items()}
PARTS |= {name: of_chart(name) for name in OF_CHART}
WITH_TASKS = PARTS | {"a task": of_pod(TEMPLATE["spec"])}
"""Those, and the pod of one task."""


def named(text: str) -> str:
    """The text with the api-server's name in the cluster."""
    return text.replace("//api-server:", f"//{NAME}-api-server:")


def wanted(service: str) -> dict[str, str]:
    """The service's environment, as a pod has it: `$(NAME)` is what the Secret has under this name."""

    def reference(match: re.Match[str]) -> str:
        return match["text"] if match["kind"] == "-" else f"$({match['name']})"

    return {
        name: named(description.VARIABLE.sub(reference, value)) for name, value in SERVICES[service].environment.items()
    }


def written(part: Part) -> dict[str, str]:
    """The part's environment likewise; what is there only for another value to refer to is left out."""
    env, referred = {}, set()
    for entry in part.env:
        name, secret = entry["name"], entry.get("valueFrom", {}).get("secretKeyRef")
        env[name] = f"$({secret['key']})" if secret else entry["value"]
        referred |= set(re.findall(r"\$\((\w+)\)", entry.get("value", "")))
    return {name: value for name, value in env.items() if not (name in referred and value == f"$({name})")}


def test_each_service_is_there() -> None:
    assert PARTS.keys() == SERVICES.keys()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_its_environment(service: str) -> None:
    env = written(PARTS[service])
    assert {name: value for name, value in env.items() if name not in ONLY_HERE} == wanted(service)


def test_a_task_has_the_environment_of_a_worker_without_its_queue() -> None:
    env = wanted("worker") | {"AIRFLOW__CORE__EXECUTOR": PODS["executor"]}
    env = {name: value for name, value in env.items() if not name.startswith("AIRFLOW__CELERY__")}
    assert written(WITH_TASKS["a task"]) == env | {"AIRFLOW_HOME": VALUES["airflowHome"]}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_its_command(service: str) -> None:
    # `$$` is one `$` for Docker Compose and for Kubernetes.
    assert PARTS[service].args == list(SERVICES[service].command)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_checked_as_there(service: str) -> None:
    check, commands = SERVICES[service].check, PARTS[service].checks
    if check is None or service == "api-server":  # the chart asks the api-server by itself
        assert commands == []
        return
    assert commands and all(command == [named(word) for word in check.command] for command in commands)
    if service in WORKLOADS:
        container = PARTS[service].pod["containers"][0]
        assert container["readinessProbe"]["periodSeconds"] == check.interval_s


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_its_image(service: str) -> None:
    image = COMPOSE[service]["image"]
    assert PARTS[service].image.removesuffix(":latest") == image
    assert KUSTOMIZATION["images"][0]["name"] == COMPOSE["mlflow"]["image"] == VALUES["images"]["airflow"]["repository"]


@pytest.mark.parametrize("part", WITH_TASKS)
def test_each_container_has_requests_and_a_limit_of_memory(part: str) -> None:
    resources = WITH_TASKS[part].resources
    assert resources["requests"].keys() == {"cpu", "memory"}
    limit = COMPOSE.get(part, {}).get("mem_limit")
    if limit:
        assert resources["limits"] == {"memory": limit.replace("g", "Gi").replace("m", "Mi")}
    assert "cpu" not in resources["limits"], "a component that is throttled loses its heartbeats"
    assert resources["limits"]["memory"]


@pytest.mark.parametrize("part", WITH_TASKS)
def test_secrets_are_named_and_come_before_what_refers_to_them(part: str) -> None:
    made, before = description.required(ROOT), set()
    for entry in WITH_TASKS[part].env:
        if "valueFrom" in entry:
            secret = entry["valueFrom"]["secretKeyRef"]
            assert secret["name"] == NAME and secret["key"] in made, "docker/make_env.py makes it"
            before.add(entry["name"])
        else:
            assert set(re.findall(r"\$\((\w+)\)", entry["value"])) <= before
    assert not re.search(r"(?<!\$)\$[({]?\w", str(WITH_TASKS[part].args)), "a program shows its arguments"


def test_no_secret_is_contained() -> None:
    assert "Secret" not in {made["kind"] for made in MANIFESTS}
    off = VALUES["enableBuiltInSecretEnvVars"]
    assert off and not any(off.values())
    names = [VALUES[f"{key}SecretName"] for key in ("fernetKey", "apiSecretKey", "jwt")]
    assert {*names, *VALUES["data"].values()} == {NAME}, "else the chart makes one"


@pytest.mark.parametrize("part", WITH_TASKS)
def test_pods_are_restricted(part: str) -> None:
    """By Kubernetes' Pod Security Standard of that name."""
    pod, container = WITH_TASKS[part].pod, WITH_TASKS[part].container
    context = pod["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] and context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod["enableServiceLinks"] is False, "MLFLOW_PORT would be an address"
    assert pod["automountServiceAccountToken"] is False


def test_the_user_is_that_of_the_image() -> None:
    user = re.findall(r"useradd .*--uid (\d+) ", (ROOT / "docker" / "Dockerfile").read_text())
    ours = [
        part.pod["securityContext"]
        for name, part in WITH_TASKS.items()
        if "evergreen" in part.image or name == "a task"
    ]
    assert len(ours) == 8
    assert {context["runAsUser"] for context in ours} == {VALUES["uid"]} == {VALUES["gid"]} == set(map(int, user))


def reaching(service: str) -> Iterator[str]:
    """The services that may reach it, by the policies."""
    policies = [made["spec"] for made in MANIFESTS if made["kind"] == "NetworkPolicy"]
    spec = next(spec for spec in policies if spec["podSelector"] == {"matchLabels": {"app": service}})
    assert spec["policyTypes"] == ["Ingress"]
    (rule,) = spec["ingress"]
    (port,) = rule["ports"]
    made = next(made for made in MANIFESTS if made["kind"] == "Service" and made["metadata"]["name"] == service)
    assert made["spec"] == {"selector": {"app": service}, "ports": [port]}
    assert PARTS[service].pod["containers"][0]["ports"] == [{"containerPort": port["port"]}]
    for peer in rule["from"]:
        labels = peer["podSelector"]["matchLabels"]
        if labels == {"release": NAME}:
            (expression,) = peer["podSelector"]["matchExpressions"]
            assert expression["key"] == "component" and expression["operator"] == "In"
            yield from (name for name, component in COMPONENTS.items() if component in expression["values"])
        else:
            yield labels["app"]


@pytest.mark.parametrize("service", WORKLOADS)
def test_who_shares_a_network_with_a_service_reaches_it(service: str) -> None:
    networks = set(SERVICES[service].networks)
    sharing = {name for name, other in SERVICES.items() if networks & set(other.networks)} - {service}
    if service == "mlflow":
        sharing -= WORKLOADS.keys()  # they answer, and ask nobody
    assert set(reaching(service)) == sharing
    assert WORKLOADS[service]["spec"]["template"]["metadata"]["labels"] == {"app": service}


def test_a_worker_may_end_what_it_has_begun() -> None:
    grace = COMPOSE["worker"]["stop_grace_period"]
    worker = OF_CHART["worker"]
    assert worker["terminationGracePeriodSeconds"] == int(grace.removesuffix("m")) * 60
    assert TEMPLATE["spec"]["terminationGracePeriodSeconds"] == worker["terminationGracePeriodSeconds"]
    assert worker["podDisruptionBudget"] == {"enabled": True, "config": {"maxUnavailable": 1}}


@pytest.mark.parametrize("service", WORKLOADS)
def test_volumes_lie_where_they_do_there(service: str) -> None:
    claims = WORKLOADS[service]["spec"].get("volumeClaimTemplates", [])
    mounts = {
        mount["mountPath"]: mount["name"] for mount in PARTS[service].pod["containers"][0].get("volumeMounts", [])
    }
    kept = {place: name for place, name in mounts.items() if name in {claim["metadata"]["name"] for claim in claims}}
    assert kept == SERVICES[service].volumes


def test_passwords_of_others_and_logs_have_their_folders() -> None:
    folders = {place: name for place, name in SERVICES["api-server"].volumes.items() if name == "logins"}
    server = OF_CHART["api-server"]
    assert {mount["mountPath"]: mount["name"] for mount in server["extraVolumeMounts"]} == folders
    assert server["extraVolumes"] == [{"name": "logins", "persistentVolumeClaim": {"claimName": "logins"}}]
    assert server["strategy"] == {"type": "Recreate"}, "the new pod would wait for the volume that the old one has"
    assert "logins" in {made["metadata"]["name"] for made in MANIFESTS if made["kind"] == "PersistentVolumeClaim"}
    # The chart mounts its volume of logs there.
    assert wanted("worker")["AIRFLOW__LOGGING__BASE_LOG_FOLDER"] == f"{VALUES['airflowHome']}/logs"


def test_databases_are_those_of_docker() -> None:
    (databases,) = [made["data"] for made in MANIFESTS if made["kind"] == "ConfigMap"]
    assert databases == {"databases.sql": (ROOT / "docker" / "databases.sql").read_text()}


def test_the_chart_asks_for_nothing_that_the_image_lacks() -> None:
    grooming = [name for name, about in OF_CHART.items() if about.get("logGroomerSidecar") != {"enabled": False}]
    assert grooming == ["init", "api-server"], "/clean-logs is in Airflow's own image; these two have no such container"
    probed = {name for name, about in OF_CHART.items() if about.get("livenessProbe", {}).get("command")}
    assert probed == {"scheduler", "dag-processor", "triggerer"}, "/entrypoint, which the chart calls, is there too"
    assert OF_CHART["worker"]["livenessProbe"] == {"enabled": False}
    assert VALUES["airflowLocalSettings"] == "", "it would come before plugins/airflow_local_settings.py"
    assert VALUES["airflowVersion"] in (ROOT / "pyproject.toml").read_text()
    off = ("postgresql", "redis", "pgbouncer", "statsd", "createUserJob")
    assert [VALUES[name] for name in off] == [{"enabled": False}] * len(off)


def test_a_task_is_a_pod_that_the_executor_knows() -> None:
    spec = TEMPLATE["spec"]
    assert [container["name"] for container in spec["containers"]] == ["base"]
    assert spec["restartPolicy"] == "Never"
    assert TEMPLATE["metadata"]["labels"] == {"tier": "airflow", "component": "worker", "release": NAME}
    assert spec["containers"][0]["image"] == '{{ include "airflow_image" . }}', "the chart fills it in"
    place = f"{VALUES['airflowHome']}/pod_templates/pod_template_file.yaml"  # where the chart mounts it
    assert {entry["name"]: entry["value"] for entry in PODS["env"]} == {
        "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE": KUSTOMIZATION["namespace"],
        "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": place,
    }
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["temporary"] == OF_CHART["worker"]["extraVolumes"][0]
    assert volumes["logs"]["persistentVolumeClaim"] == {"claimName": f"{NAME}-logs"}
    assert PODS["logs"]["persistence"]["enabled"] is True
