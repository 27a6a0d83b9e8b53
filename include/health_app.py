"""The Health page: how every problem stands, those that need a person first, and a page of each.

    GET /evergreen/health              all problems that the user may see
    GET /evergreen/health/{problem}    one: its versions, drift and ledger
    GET /evergreen/comparison/{problem}    goes to its runs in MLflow

A problem is seen by who may read every one of its DAGs; of any other nothing is shown, not even its name.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from include.in_flight import dags_of_problems, in_flight, run_ids
from pipelines.artifacts import LEDGER_KINDS
from pipelines.errors import EvergreenError
from pipelines.health import overview, problem_page
from pipelines.health.document import Health, History
from pipelines.health.in_flight import InFlight
from pipelines.health.links import Links, newest_training
from pipelines.health.problem_page import SEARCHED_CHARACTERS, WINDOWS, Filter
from pipelines.health.rows import row, rows
from pipelines.health.script import SCRIPT
from pipelines.surroundings import mlflow_address

if TYPE_CHECKING:
    from pipelines.health.shelf import Shelf

router = APIRouter()
log = logging.getLogger(__name__)

POLICY = (
    f"default-src 'none'; style-src 'unsafe-inline'; script-src '{SCRIPT.allowed}'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def readable(session: SessionDep, user: GetUserDep) -> dict[str, list[str]]:
    """The problems that the user may see, each with its DAGs."""
    dags = dags_of_problems(session)
    teams = DagModel.get_dag_id_to_team_name_mapping(
        [f"{problem}.{dag}" for problem, names in dags.items() for dag in names], session=session
    )

    def may_read(problem: str) -> bool:
        ids = [f"{problem}.{dag}" for dag in dags[problem]]
        return get_auth_manager().batch_is_authorized_dag(
            [
                {
                    "method": "GET",
                    "access_entity": DagAccessEntity.XCOM,
                    "details": DagDetails(id=dag_id, team_name=teams.get(dag_id)),
                }
                for dag_id in ids
            ],
            user=user,
        )

    return {problem: names for problem, names in dags.items() if may_read(problem)}


Readable = Annotated[dict[str, list[str]], Depends(readable)]


@router.get("/health")
def show_health(dags: Readable, session: SessionDep) -> HTMLResponse:
    """All problems; as of the last look where the store does not answer."""
    now = datetime.now(UTC)
    healths, fault = look_at(dags)
    made = rows(healths, in_flight(session, dags), _links(""), now)
    return _page(overview.page(made, _links(""), now, fault))


@router.get("/health/{problem}")
def show_problem(
    problem: str,
    dags: Readable,
    session: SessionDep,
    kind: Annotated[str, Query()] = "",
    text: Annotated[str, Query(max_length=SEARCHED_CHARACTERS)] = "",
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    window: Annotated[int, Query()] = WINDOWS[0],
) -> HTMLResponse:
    """A problem; 404 of one that there is not, and of one that the user may not see."""
    if problem not in dags:
        raise HTTPException(404, "there is no such problem")
    if kind and kind not in LEDGER_KINDS:
        raise HTTPException(422, f"kind is one of {', '.join(LEDGER_KINDS)}")
    if window not in WINDOWS:
        raise HTTPException(422, f"window is one of {', '.join(map(str, WINDOWS))}")
    now, links = datetime.now(UTC), _links("../")
    healths, fault = look_at([problem])
    history, history_fault = _history(problem)
    going_on = in_flight(session, {problem: dags[problem]}).get(problem, InFlight())
    chosen = Filter(kind, text, page)
    content = problem_page.page(
        row(problem, healths[problem], going_on, links, now),
        history,
        links,
        now,
        chosen=chosen,
        window=window,
        runs=_runs(session, problem, history, chosen),
        dags=dags[problem],
        fault=fault or history_fault,
    )
    return _page(content)


@router.get("/comparison/{problem}")
def go_to_comparison(problem: str, dags: Readable) -> RedirectResponse:
    """The problem's runs side by side in MLflow, in the experiment of its newest training; 404 where none is known.

    This server has no login for MLflow: where the runs are stands in the training's evaluation.
    """
    from pipelines import store
    from pipelines.tracking.pages import runs_page

    if problem not in dags:
        raise HTTPException(404, "there is no such problem")
    history, fault = _history(problem)
    if fault is not None:
        raise HTTPException(503, "the store does not answer")
    address, training = _links("../").mlflow, newest_training(history.of("gate") if history else [])
    uri = store.store_uri(problem, "evaluations", f"{training}.json")
    experiment = store.read_json(uri).get("experiment") if training and store.exists(uri) else None
    if address is None or experiment is None:
        raise HTTPException(404, "no training of this problem has left the address of its runs yet: the next one does")
    page = runs_page(address, experiment, has_view=True)
    return RedirectResponse(page, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


@cache
def _shelf() -> Shelf:
    """This process's; the first visit loads what reads the store."""
    from pipelines.health.shelf import Shelf

    return Shelf()


def look_at(problems: Collection[str]) -> tuple[dict[str, Health | None], str | None]:
    """How these problems stand, and why that is of an earlier look, where it is."""
    fault = None
    try:
        healths = _shelf().healths()
    except EvergreenError as error:
        healths, fault = _shelf().last_read(), error.what
        log.warning("%s", error)
    return {problem: healths.get(problem) for problem in problems}, fault


def _history(problem: str) -> tuple[History | None, str | None]:
    try:
        return _shelf().history(problem), None
    except EvergreenError as error:
        log.warning("%s", error)
        return None, error.what


def _runs(session: Session, problem: str, history: History | None, chosen: Filter) -> dict[problem_page.RunKey, str]:
    return {} if history is None else run_ids(session, problem, problem_page.shown_runs(history, chosen))


def _links(up: Literal["", "../"]) -> Links:
    """MLflow has pages only where it is a server."""
    return Links(up, mlflow_address())


def _page(content: bytes) -> HTMLResponse:
    return HTMLResponse(content, headers=HEADERS)
