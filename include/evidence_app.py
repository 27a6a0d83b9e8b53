"""The pages that Evergreen adds to Airflow's UI: what a run decided, and the drift reports behind it.

    GET /evergreen/runs/{dag_id}/{run_id}          verdicts of a run; below them, a monitor's report
    GET /evergreen/reports/{problem}/{partition}   the Evidently report of a partition

Airflow does not authenticate apps that plugins mount: each route asks for a user who may read the DAG.
"""

from __future__ import annotations

import json
from html import escape
from typing import Annotated

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select

from pipelines.errors import EvergreenError, TransientError

app = FastAPI(title="Evergreen", docs_url=None, redoc_url=None, openapi_url=None)

# A report carries values out of the data: it may run its own scripts, but not as the user who looks at it.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:; frame-ancestors 'self'"
)
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'self'"
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>
  :root {{ color-scheme: light dark }}
  body {{ font: 14px/1.5 system-ui, sans-serif; margin: 1rem }}
  td, th {{ padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top }}
  iframe {{ width: 100%; height: 80vh; border: 1px solid #8886; background: white }}
</style><h1 style="font-size: 1.1rem">{title}</h1>{body}"""


def reads_run(dag_id: str, request: Request, user: GetUserDep) -> None:
    """The user may read this DAG's runs."""
    requires_access_dag("GET", DagAccessEntity.XCOM, dag_id)(request, user)


def reads_monitor(problem: str, request: Request, user: GetUserDep) -> None:
    """The user may read the runs of this problem's monitor."""
    reads_run(f"{problem}.monitor", request, user)


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
    given = {_text(verdict.value): verdict.task_id for verdict in reversed(verdicts)}
    rows = "".join(f"<tr><th>{escape(by)}<td>{escape(text)}" for text, by in reversed(given.items()))
    body = f"<table>{rows}</table>" if rows else "<p>No task of this run has given a verdict.</p>"
    problem, _, stage = dag_id.rpartition(".")
    if stage == "monitor" and run.partition_key:
        body += f'<iframe src="/evergreen/reports/{escape(problem)}/{escape(run.partition_key)}"></iframe>'
    return _page(f"{dag_id}, partition {run.partition_key or 'none'}", body)


@app.get("/reports/{problem}/{partition}", dependencies=[Depends(reads_monitor)])
def show_report(
    problem: Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]*$")],
    partition: Annotated[str, Path(pattern=r"^\d{4}-\d\d-\d\d$")],
) -> HTMLResponse:
    """The Evidently report of a partition; 404 when none was saved, 503 when the store does not answer."""
    from pipelines import store

    try:
        uri = store.store_uri(problem, "reports", partition, "drift.html")
        if store.exists(uri):
            return HTMLResponse(store.read_bytes(uri), headers={"Content-Security-Policy": REPORT_POLICY})
    except EvergreenError as error:
        status = 503 if isinstance(error, TransientError) else 500
        return _page("The drift report cannot be read", f"<pre>{escape(str(error))}</pre>", status=status)
    return _page(
        f"No drift report of {problem} for partition {partition}",
        f"<p>The task <code>report</code> of <code>{problem}.monitor</code> saves it; look there whether it ran.",
        status=404,
    )


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(
        PAGE.format(title=escape(title), body=body),
        status_code=status,
        headers={"Content-Security-Policy": PAGE_POLICY},
    )


def _text(value: object) -> str:
    """An XCom's value as text; the database may hold it as JSON."""
    try:
        return str(json.loads(value)) if isinstance(value, str) else str(value)
    except ValueError:
        return str(value)
