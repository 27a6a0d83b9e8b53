"""The only module that talks to MLflow: runs and their models, registry versions and their aliases.

`MLFLOW_TRACKING_URI` says where, `MLFLOW_TRACKING_USERNAME` and `_PASSWORD` who. An experiment and a registered
model per problem, both with the problem's name. A model is kept with skops: loading one runs none of its code.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.errors import AccessError, ConfigError, DataError, NothingToDo, ServiceUnavailable
from pipelines.problem import ROOT, Problem

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from sklearn.pipeline import Pipeline

# What a model file may hold beside scikit-learn's own; anything else is refused when it is loaded.
TRUSTED_TYPES = [
    "numpy.dtype",
    "pipelines.training.encode.FrameEncoder",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
]
MODEL_FILE = "model.skops"

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def log_candidate(
    problem: Problem,
    name: str,
    model: Pipeline,
    *,
    tags: dict[str, str],
    parameters: dict[str, Any],
    metrics: dict[str, float],
    dataset_uri: str,
    dataset_version: int,
    example: pa.Table,
    files: dict[str, bytes],
) -> str:
    """Log one fitted candidate as a finished run; gives the run's id. Lineage, config and environment go along."""
    import mlflow
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.models import infer_signature

    frame = example.to_pandas()
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("integer"), "float64"))  # integers have no missing values
    with _explained():
        mlflow.set_experiment(problem.name)
        with mlflow.start_run(run_name=f"{name} {tags['partition']}", tags={**tags, "git_commit": git_commit()}) as run:
            mlflow.log_params(parameters)
            mlflow.log_metrics(metrics)
            source = DeltaDatasetSource(path=dataset_uri, delta_table_version=dataset_version)
            mlflow.log_input(
                MetaDataset(source, name=f"{problem.name} training set", digest=tags["training_set"]), "training"
            )
            mlflow.log_dict(problem.model_dump(mode="json"), "problem.json")
            mlflow.log_text(environment(), "environment.txt")
            for path, content in files.items():
                mlflow.log_text(content.decode(), path)
            mlflow.sklearn.log_model(
                model,
                name="model",
                serialization_format="skops",
                skops_trusted_types=TRUSTED_TYPES,
                signature=infer_signature(frame, model.predict_proba(frame)[:, 1]),
                input_example=frame,
                pyfunc_predict_fn="predict_proba",
                pip_requirements=[f"{p}=={importlib.metadata.version(p)}" for p in _MODEL_PACKAGES],
            )
    return str(run.info.run_id)


_MODEL_PACKAGES = ("evergreen", "mlflow", "numpy", "pandas", "pyarrow", "scikit-learn", "skops", "xgboost")


def find_run(problem: Problem, tags: dict[str, str]) -> tuple[str, dict[str, float]] | None:
    """Id and metrics of the finished run that carries all `tags`: what an earlier try of a task has done."""
    import mlflow

    wanted = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    with _explained():
        runs = mlflow.search_runs(
            experiment_names=[problem.name], filter_string=f"{wanted} AND attributes.status = 'FINISHED'",
            max_results=1, output_format="list",
        )  # fmt: skip
    return (str(runs[0].info.run_id), dict(runs[0].data.metrics)) if runs else None


def annotate(
    run_id: str,
    *,
    metrics: dict[str, float] | None = None,
    tags: dict[str, str] | None = None,
    files: dict[str, Any] | None = None,
) -> None:
    """Add metrics, tags and JSON files to a finished run."""
    client = _client()
    with _explained():
        for name, value in (metrics or {}).items():
            client.log_metric(run_id, name, value)
        for name, tag in (tags or {}).items():
            client.set_tag(run_id, name, tag)
        for name, content in (files or {}).items():
            client.log_dict(run_id, content, name)


def run_tag(run_id: str, name: str) -> str | None:
    """A tag of a run; None when it has none of that name."""
    with _explained():
        value: str | None = _client().get_run(run_id).data.tags.get(name)
        return value


def run_file(run_id: str, name: str) -> Any:
    """A JSON file of a run."""
    from mlflow.artifacts import load_dict

    with _explained():
        return load_dict(f"{_client().get_run(run_id).info.artifact_uri}/{name}")


def load_model(run_id: str) -> Pipeline:
    """The model of a run.

    Raises:
        DataError: the run has none, or its file holds types that are not trusted.
    """
    import mlflow
    from skops.io import load
    from skops.io.exceptions import UntrustedTypesFoundException

    uri = f"runs:/{run_id}/model"
    with TemporaryDirectory() as folder, _explained():
        local = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
        try:
            return load(local / MODEL_FILE, trusted=TRUSTED_TYPES)
        except FileNotFoundError as error:
            raise DataError(f"the run has no {MODEL_FILE}", where=uri, cure="train and register a new model") from error
        except UntrustedTypesFoundException as error:
            raise DataError(
                f"the model's file is not to be trusted: {error}",
                where=uri,
                cure="find out who wrote it; add a type of your own to TRUSTED_TYPES",
            ) from error


def champion(problem: Problem) -> ModelVersion | None:
    """The registry version that serves; None when none does yet."""
    from mlflow.exceptions import MlflowException

    with _explained():
        try:
            return _client().get_model_version_by_alias(problem.name, "champion")
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def serving(problem: Problem) -> ModelVersion:
    """The champion; raises NothingToDo when there is none yet."""
    version = champion(problem)
    if version is None:
        raise NothingToDo(
            "no champion serves yet", where=f"registered model {problem.name}", cure=f"run the DAG {problem.name}.train"
        )
    return version


def register(problem: Problem, run_id: str, tags: dict[str, str]) -> str:
    """Make the run's model a registry version with the alias challenger; the same run is registered once."""
    from mlflow.exceptions import MlflowException

    client = _client()
    with _explained():
        try:
            client.create_registered_model(problem.name, description=problem.description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.search_model_versions(f"name = '{problem.name}' and run_id = '{run_id}'")
        version = (
            found[0]
            if found
            else client.create_model_version(problem.name, source=f"runs:/{run_id}/model", run_id=run_id, tags=tags)
        )
        client.set_registered_model_alias(problem.name, "challenger", version.version)
    return str(version.version)


def promote(problem: Problem, version: str) -> str | None:
    """Point the alias champion at `version`, and previous at what served before; gives the latter, if another did."""
    client = _client()
    before = champion(problem)
    replaced = None if before is None or str(before.version) == version else str(before.version)
    with _explained():
        if replaced is not None:
            client.set_registered_model_alias(problem.name, "previous", replaced)
        client.set_registered_model_alias(problem.name, "champion", version)
        client.delete_registered_model_alias(problem.name, "challenger")
    return replaced


def git_commit() -> str:
    """Commit of the checkout, with `-dirty` when files differ from it; `unknown` outside of one."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def environment() -> str:
    """Python, platform and the version of every installed distribution, one a line."""
    installed = sorted({f"{d.name}=={d.version}" for d in importlib.metadata.distributions()}, key=str.lower)
    return "\n".join([f"# Python {platform.python_version()} on {platform.platform()}", *installed, ""])


def _client() -> Any:
    from mlflow.tracking import MlflowClient

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ConfigError(
            "MLFLOW_TRACKING_URI is not set",
            where="environment",
            cure="set it, or start the embedded server with `evergreen up`",
        )
    return MlflowClient()


@contextmanager
def _explained() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    where = f"MLflow at {os.environ.get('MLFLOW_TRACKING_URI', '')}"
    try:
        yield
    except MlflowException as error:
        text = str(error)
        status = error.get_http_status_code() if hasattr(error, "get_http_status_code") else 500
        if status in (401, 403) or "401" in text or "Permission denied" in text:
            raise AccessError(
                "MLflow refused the credentials",
                where=where,
                cure="check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            ) from error
        if "Max retries exceeded" in text or "timed out" in text or status in (502, 503, 504):
            raise ServiceUnavailable(
                "MLflow does not answer", where=where, cure="is it running? `evergreen up` starts the embedded one"
            ) from error
        raise DataError(f"MLflow refused: {text.splitlines()[0]}", where=where, cure="look at its log") from error
    except json.JSONDecodeError as error:
        raise DataError(f"a file of the run is no JSON: {error}", where=where, cure="train again") from error
