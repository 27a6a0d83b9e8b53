"""The only package that talks to MLflow: runs and their models, trials of a search, registry versions, aliases.

`MLFLOW_TRACKING_URI` says where, `MLFLOW_TRACKING_USERNAME` and `_PASSWORD` who. An experiment and a registered
model per problem, both with the problem's name. A model is kept with skops: loading one runs none of its code.
"""

from __future__ import annotations

import logging
import os

from pipelines.tracking.kept import (
    Registered,
    Size,
    TrainingRun,
    aliases,
    check_login,
    delete_run,
    delete_run_files,
    run_files,
    training_runs,
    versions,
)
from pipelines.tracking.pages import comparison
from pipelines.tracking.registry import (
    challenge,
    champion,
    describe,
    leave,
    previous,
    promote,
    register,
    roll_back,
    serving,
)
from pipelines.tracking.runs import (
    annotate,
    fail,
    find_run,
    load_model,
    log_candidate,
    log_files,
    logged_sha256,
    model_sha256,
    require_same,
    run_evaluation,
    run_experiment,
    run_file,
    run_lineage,
    run_tag,
    start_candidate,
)
from pipelines.tracking.trials import RunTrials

__all__ = [
    "Registered",
    "RunTrials",
    "Size",
    "TrainingRun",
    "aliases",
    "annotate",
    "challenge",
    "champion",
    "check_login",
    "comparison",
    "delete_run",
    "delete_run_files",
    "describe",
    "fail",
    "find_run",
    "leave",
    "load_model",
    "log_candidate",
    "log_files",
    "logged_sha256",
    "model_sha256",
    "previous",
    "promote",
    "register",
    "require_same",
    "roll_back",
    "run_evaluation",
    "run_experiment",
    "run_file",
    "run_files",
    "run_lineage",
    "run_tag",
    "serving",
    "start_candidate",
    "training_runs",
    "versions",
]

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A model's files come and go through MLflow's server, which names the store as it is reached from there itself: an
# address that MLflow hands out may be none where a task runs.
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
# What MLflow says on standard error is its warnings: not each table that it makes.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
# A model names its packages itself, and is kept with the same files whichever folder a command runs in.
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")


def _is_news(record: logging.LogRecord) -> bool:
    """uv's environments have no pip, which MLflow warns of once a model; nothing here reads its conda.yaml."""
    return "Failed to resolve installed pip version" not in record.getMessage()


logging.getLogger("mlflow.utils.environment").addFilter(_is_news)
