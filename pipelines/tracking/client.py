"""The MLflow client, and its faults in words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import AccessError, ConfigError, DataError, ServiceUnavailable

SQLITE = "sqlite:///"
# What MLflow's client says of a server that gave no answer, or only some of one.
NO_ANSWER = ("Max retries exceeded", "timed out", "failed with exception")


def client() -> Any:
    """MLflow's client.

    Raises:
        ConfigError: nothing says where MLflow is.
    """
    from mlflow.tracking import MlflowClient

    _require_address()
    return MlflowClient()


def use_experiment(name: str) -> str:
    """Id of the experiment `name`, which what is logged from now on belongs to; made where there is none yet.

    Without a server MLflow would keep files in whatever folder a command runs in: they go beside its database.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if address.startswith(SQLITE) and mlflow.get_experiment_by_name(name) is None:
        beside = Path(address.removeprefix(SQLITE)).resolve().parent / "mlartifacts" / name
        try:
            mlflow.create_experiment(name, artifact_location=beside.as_uri())
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another candidate was quicker
                raise
    return str(mlflow.set_experiment(name).experiment_id)


@contextmanager
def explained() -> Iterator[None]:
    """What MLflow raises within becomes an EvergreenError.

    Raises:
        ConfigError: nothing says where MLflow is: it would make a database of its own in the working directory.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    _require_address()
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
        if any(word in text for word in NO_ANSWER) or status in (502, 503, 504):
            cause = text.partition("failed with exception")[2].splitlines()[:1]
            raise ServiceUnavailable(
                "MLflow does not answer" + "".join(f":{words}" for words in cause),
                where=where,
                cure="is it running? `evergreen up` starts the embedded one",
            ) from error
        raise DataError(f"MLflow refused: {text.splitlines()[0]}", where=where, cure="look at its log") from error
    except RequestException as error:  # of files, whose connections MLflow's client leaves to themselves
        if error.response is not None and error.response.status_code in (401, 403):
            raise AccessError(
                "MLflow refused the credentials",
                where=where,
                cure="check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            ) from error
        raise ServiceUnavailable(
            f"MLflow does not answer: {str(error).splitlines()[0]}",
            where=where,
            cure="is it running? `evergreen up` starts the embedded one",
        ) from error
    except json.JSONDecodeError as error:
        raise DataError(f"a file of the run is no JSON: {error}", where=where, cure="train again") from error


def _require_address() -> None:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ConfigError(
            "MLFLOW_TRACKING_URI is not set",
            where="environment",
            cure="set it to a server's address or to sqlite:////folder/mlflow.db, or start the embedded server with "
            "`evergreen up`",
        )
