"""Addresses of MLflow's pages, and the view of a problem's runs that they open.

MLflow 3 opens an experiment in its view for language models, which has nothing to show of a training. Which view it is
stands in the address, and so may the key of a *shared view*: which columns the table has, kept as a tag of the
experiment.
"""

from __future__ import annotations

import json
import os
from urllib.parse import quote

from pipelines.problem import Problem
from pipelines.surroundings import airflow_run, evidence_page, mlflow_address
from pipelines.tracking.client import client

VIEW = "evergreen"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
ANSWER_TIMEOUT_S = 5.0


def runs_page(address: str, experiment_id: str, *, has_view: bool) -> str:
    """Address of an experiment's runs, side by side, newest first.

    Args:
        address: of MLflow.
        experiment_id: of the experiment.
        has_view: whether the experiment has the tag `VIEW_TAG`; where it has not, MLflow would show an error.

    >>> runs_page("http://127.0.0.1:5000/", "1", has_view=True)
    'http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=evergreen'
    """
    page = f"{address.rstrip('/')}/#/experiments/{quote(experiment_id)}/runs?workflowType=machine_learning"
    return page + f"&viewStateShareKey={VIEW}" * has_view


def comparison(problem_name: str) -> str | None:
    """Address of the problem's runs, those of the newest training first; None: MLflow is no server, does not answer
    soon, or knows no such problem. Does not load mlflow."""
    import httpx

    address = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    if not address.startswith(("http://", "https://")):
        return None
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    try:
        answer = httpx.get(
            f"{address}/api/2.0/mlflow/experiments/get-by-name",
            params={"experiment_name": problem_name},
            auth=(user, password) if user else None,
            timeout=ANSWER_TIMEOUT_S,
        )
        experiment = answer.raise_for_status().json()["experiment"]
        has_view = any(tag["key"] == VIEW_TAG for tag in experiment.get("tags", []))
        return runs_page(mlflow_address() or address, str(experiment["experiment_id"]), has_view=has_view)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return None


def view(problem: Problem) -> str:
    """The shared view of the problem's runs, as MLflow's UI keeps one: which columns there are, and in which order."""
    chosen_by = problem.training.select_by
    metrics = [f"{split}_{chosen_by}{end}" for split in ("validation", "test") for end in ("", "_low", "_high")]
    columns = [
        *(f"metrics.`{name}`" for name in metrics),
        "params.`train_rows`",
        *(f"tags.`{name}`" for name in ("gate", "window")),
    ]
    return json.dumps({"selectedColumns": columns, "orderByKey": "attributes.start_time", "orderByAsc": False})


def references(problem: Problem, training: str | None) -> dict[str, str]:
    """Tags of a run that lead back to what has made it, as far as it is known where that is; MLflow shows
    `mlflow.note.content` as the run's description."""
    pages = {"airflow_run": airflow_run()}
    if training:
        tested = training.removesuffix("-refit")
        pages["evidence"] = evidence_page(problem.name, f"evaluations/{tested}.html")
    known = {name: page for name, page in pages.items() if page}
    words = {"airflow_run": "Run in Airflow", "evidence": "Evaluation and verdict"}
    if known:
        known["mlflow.note.content"] = " | ".join(f"[{words[name]}]({page})" for name, page in known.items())
    return known


def keep_view(problem: Problem, experiment_id: str) -> None:
    """Have the experiment hold the view, as problem.yaml asks for it now."""
    wanted = view(problem)
    if client().get_experiment(experiment_id).tags.get(VIEW_TAG) != wanted:
        client().set_experiment_tag(experiment_id, VIEW_TAG, wanted)
