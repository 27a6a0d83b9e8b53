"""Modules that many tasks import, imported once in the process that starts tasks.

A task is a fork of a fork server (`include.executor`) or of its Celery worker, and has what they had loaded. Without
this each task spends one to five CPU seconds on imports, which is more than most of them work. The price is memory,
which all tasks share, and some seconds at the start. Where a module is not installed, or memory is short, tasks import
what they need themselves.

When they are imported the modules start no Python threads and open no connections: a fork would not have them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from importlib import import_module
from pkgutil import walk_packages

import psutil  # type: ignore[import-untyped]

import pipelines

log = logging.getLogger(__name__)

# What DAG files import: the DAG processor forks for each file it reads, tasks read their file too.
FOR_DAGS = (
    "airflow.sdk",
    "airflow.providers.standard.operators.hitl",
    "include.approval",
    "include.bundle",
    "include.links",
    "include.problem_dags",
    # What Airflow asks of each task when it stores a DAG: whether it triggers another, or waits for one.
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.sensors.external_task",
)
# Beside all of `pipelines`: what its functions import where they need it.
FOR_TASKS = (
    "boto3",
    "deltalake",
    "evidently.presets",
    "git",  # MLflow asks it for the commit of a run
    "great_expectations",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.rest_store",
    "mlflow.store.tracking.rest_store",
    "mlflow.tracking",
    "mlflow.tracking.request_header.registry",
    "plotly.subplots",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "scipy.stats",
    "skops.io",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "xgboost",
    # Last: skops looks at every attribute of what is there, and to look at some of Airflow's is to be warned of them.
    "airflow.executors.local_executor",
    "airflow.executors.workloads",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
)
NOT_FOR_TASKS = ("pipelines.cli", "pipelines.embedded")
NEEDS_MIB = 1500  # free before anything is loaded: some 500 for all of it, the rest for the tasks


def preload(argv: Sequence[str]) -> None:
    """Import what the forks of the Airflow component with the command line `argv` will need."""
    arguments = list(argv[1:])
    if arguments[:2] == ["celery", "worker"]:
        preload_for_tasks()
    elif arguments[:1] == ["dag-processor"]:
        _import(FOR_DAGS)


def preload_for_tasks() -> None:
    """Import what tasks need, unless memory is short."""
    free = psutil.virtual_memory().available / 2**20
    if free < NEEDS_MIB:
        log.warning("tasks import for themselves: %.0f MiB of memory are free, %d are wanted", free, NEEDS_MIB)
        return
    _import((*for_stages(), *FOR_TASKS, *FOR_DAGS))
    look_up_installed()


def for_stages() -> list[str]:
    """The modules of `pipelines` that stages are made of."""
    names = (module.name for module in walk_packages(pipelines.__path__, "pipelines."))
    return [name for name in names if not name.startswith(NOT_FOR_TASKS)]


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        with contextlib.suppress(ImportError):  # a task that needs it says so
            import_module(module)


def look_up_installed() -> None:
    """MLflow holds what a model requires against all that is installed, and looks that up once in a process.

    A task that trains would have to do it, for two thirds of a second.
    """
    with contextlib.suppress(ImportError):
        from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

        warn_dependency_requirement_mismatches(["mlflow"])
