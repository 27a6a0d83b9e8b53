"""The pages that Evergreen adds to Airflow's UI: what a run decided, and the page in the store behind it.

    GET /evergreen/runs/{dag_id}/{run_id}    verdicts of a run; below them, its page
    GET /evergreen/pages/{problem}/{path}    a page in the store: validation, datasheet, drift, weak supervision

and the Health page of include/health_app.py, and the metrics of include/metrics_app.py.

Airflow does not authenticate apps that plugins mount: each route asks for a user who may read the DAG, or for a token.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, NamedTuple

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select

from include import health_app, metrics_app
from include.pages import dag_of, path_of
from pipelines.errors import EvergreenError, TransientError
from pipelines.html.render import render

app = FastAPI(title="Evergreen", docs_url=None, redoc_url=None, openapi_url=None)
app.include_router(health_app.router)
app.include_router(metrics_app.router)

# A report carries values out of the data: it may run its own scripts, but not as the user who looks at it.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


# The first task of each DAG, which pins the run's config.
PINNED_BY = {
    "ingest": "extract",
    "train": "label",
    "annotate": "choose",
    "score": "plan",
    "monitor": "profile",
    "release": "assess",
}


class RunPage(NamedTuple):
    """`verdicts`: task and text, in the order in which they fell. `address`: of the page below them, None without.

    `config`: hash of the config that the run goes by, None of one that has pinned none.
    """

    verdicts: list[tuple[str, str]]
    address: str | None
    config: str | None


class MissingPage(NamedTuple):
    """`dag_id`: of the DAG that saves it."""

    dag_id: str


class UnreadablePage(NamedTuple):
    error: str


def reads_run(dag_id: str, request: Request, user: GetUserDep) -> None:
    """The user may read this DAG's runs."""
    requires_access_dag("GET", DagAccessEntity.XCOM, dag_id)(request, user)


def reads_page(problem: str, path: str, request: Request, user: GetUserDep) -> None:
    """The user may read the runs that leave such pages."""
    dag = dag_of(path)
    if dag is None:
        raise HTTPException(404, f"no page of Evergreen lies at {path}")
    reads_run(f"{problem}.{dag}", request, user)


@app.get("/runs/{dag_id}/{run_id}", dependencies=[Depends(reads_run)])
def show_run(dag_id: str, run_id: str, session: SessionDep) -> HTMLResponse:
    """Each verdict of the run, in the order in which they fell."""
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        raise HTTPException(404, f"DAG {dag_id} has no run {run_id}")
    verdicts = session.scalars(
        select(XComModel)
        .where(XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key == "verdict")
        .order_by(XComModel.timestamp)
    ).all()
    # A task may pass on the verdict of one before it: each is shown once, by whom it was given.
    given_by = {_text(verdict.value): verdict.task_id for verdict in reversed(verdicts)}
    path = path_of(dag_id, run.partition_key, run.conf or {}, lambda task: _returned(session, run, task))
    page = RunPage(
        verdicts=[(task_id, text) for text, task_id in reversed(given_by.items())],
        address=f"/evergreen/pages/{dag_id.rpartition('.')[0]}/{path}" if path else None,
        config=_config(session, run),
    )
    return _page("run.html", f"{dag_id}, partition {run.partition_key or 'none'}", page)


@app.get("/pages/{problem}/{path:path}", dependencies=[Depends(reads_page)])
def show_page(problem: Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]*$")], path: str) -> HTMLResponse:
    """A page of the store; 404 when none was saved, 503 when the store does not answer."""
    from pipelines import store

    dag = dag_of(path)
    if dag is None:
        raise HTTPException(404, f"no page of Evergreen lies at {path}")
    try:
        uri = store.store_uri(problem, path)
        content = store.find_bytes(uri)
        if content is not None:
            return HTMLResponse(content, headers=_headers(REPORT_POLICY))
    except EvergreenError as error:
        status = 503 if isinstance(error, TransientError) else 500
        return _page("unreadable.html", "The page cannot be read", UnreadablePage(str(error)), status)
    return _page("missing.html", f"{problem} has no {path}", MissingPage(f"{problem}.{dag}"), status=404)


def _config(session: Any, run: DagRun) -> str | None:
    """The hash of the config that the run began with, as its first task handed it on."""
    handed_on = _returned(session, run, PINNED_BY.get(run.dag_id.rpartition(".")[2], ""))
    first = handed_on[0] if isinstance(handed_on, list) and handed_on else handed_on
    return first.get("config") if isinstance(first, dict) else None


def _returned(session: Any, run: DagRun, task_id: str) -> Any:
    """What a task of the run has returned; None when it has not."""
    value = session.scalar(
        select(XComModel.value).where(
            XComModel.dag_id == run.dag_id,
            XComModel.run_id == run.run_id,
            XComModel.task_id == task_id,
            XComModel.key == "return_value",
        )
    )
    return json.loads(value) if isinstance(value, str) else value


def _page(template: str, title: str, page: object, status: int = 200) -> HTMLResponse:
    content = render(template, title, page)
    return HTMLResponse(content, status_code=status, headers=_headers(PAGE_POLICY))


def _headers(policy: str) -> dict[str, str]:
    return {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def _text(value: object) -> str:
    """An XCom's value as text; the database may hold it as JSON."""
    try:
        return str(json.loads(value)) if isinstance(value, str) else str(value)
    except ValueError:
        return str(value)
