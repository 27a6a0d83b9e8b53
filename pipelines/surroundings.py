"""What a run ran on: the commit of the code, and the packages around it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from urllib.parse import quote

from pipelines.problem import ROOT

_MODEL_PACKAGES = ("evergreen", "mlflow", "numpy", "pandas", "pyarrow", "scikit-learn", "skops")
_XGBOOST_BUILDS = ("xgboost-cpu", "xgboost")  # distributions of the package xgboost: without and with a GPU's code


def git_commit() -> str:
    """Commit of the checkout, with `-dirty` when files differ from it; `unknown` outside of one."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def airflow_address() -> str | None:
    """Where people reach Airflow, which may be another address than what a container uses; None: nothing says."""
    address = os.environ.get("AIRFLOW__API__BASE_URL") or os.environ.get("EVERGREEN_AIRFLOW_URL", "")
    return address.rstrip("/") or None


def mlflow_address() -> str | None:
    """Where people reach MLflow, which may be another address than what a container uses; None: it is no server."""
    address = os.environ.get("EVERGREEN_MLFLOW_URL") or os.environ.get("MLFLOW_TRACKING_URI", "")
    return address.rstrip("/") if address.startswith(("http://", "https://")) else None


def airflow_run() -> str | None:
    """Page of the DAG run that this task belongs to; None: Airflow runs no task here, or nothing says where it is."""
    address, dag, run = (
        airflow_address(),
        os.environ.get("AIRFLOW_CTX_DAG_ID"),
        os.environ.get("AIRFLOW_CTX_DAG_RUN_ID"),
    )
    if not (address and dag and run):
        return None
    return f"{address}/dags/{quote(dag)}/runs/{quote(run, safe='')}"


def evidence_page(problem_name: str, path: str) -> str | None:
    """A page of the store, as Airflow's UI shows it; None: nothing says where that is."""
    address = airflow_address()
    return f"{address}/evergreen/pages/{quote(problem_name)}/{quote(path)}" if address else None


def environment() -> str:
    """Python, platform and the version of every installed distribution, one a line."""
    installed = sorted({_named(distribution) for distribution in importlib.metadata.distributions()}, key=str.lower)
    return "\n".join([f"# Python {platform.python_version()} on {platform.platform()}", *installed, ""])


def _named(distribution: importlib.metadata.Distribution) -> str:
    """Name and version, by the first lines of its metadata: to parse all of it takes ten times as long."""
    about = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    lines = dict(re.findall(r"^(Name|Version): *(.*?) *$", about.partition("\n\n")[0], re.MULTILINE))
    return f"{lines.get('Name')}=={lines.get('Version')}"


def requirements() -> list[str]:
    """What a model needs to be loaded, as pip takes it: each distribution with the version that is installed here."""
    builds = [name for name in _XGBOOST_BUILDS if _is_installed(name)]
    return [f"{name}=={importlib.metadata.version(name)}" for name in [*_MODEL_PACKAGES, *builds]]


def _is_installed(distribution: str) -> bool:
    return any(importlib.metadata.distributions(name=distribution))
