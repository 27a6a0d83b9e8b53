"""How problems stand, for a Prometheus: behind a token of its own, as a scraper is no user of Airflow.

    GET /evergreen/metrics    all problems

EVERGREEN_METRICS_TOKEN, or the file that EVERGREEN_METRICS_TOKEN_FILE names, holds the token; without one there is no
such page. Whoever has it sees every problem.
"""

from __future__ import annotations

import hmac
import logging
import os
from pathlib import Path
from typing import Annotated

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, Depends, Header, HTTPException
from fastapi.responses import PlainTextResponse

from include.health_app import look_at
from include.in_flight import dags_of_problems, in_flight
from pipelines.health.exposition import CONTENT_TYPE, exposition

TOKEN, TOKEN_FILE = "EVERGREEN_METRICS_TOKEN", "EVERGREEN_METRICS_TOKEN_FILE"
LEAST_CHARACTERS = 16

router = APIRouter()
log = logging.getLogger(__name__)


def scrapes(authorization: Annotated[str, Header()] = "") -> None:
    """The client has the token."""
    token = _token()
    if token is None:
        raise HTTPException(404, f"there are no metrics: neither {TOKEN} nor {TOKEN_FILE} is set")
    scheme, _, sent = authorization.partition(" ")
    is_right = hmac.compare_digest(sent.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not is_right:
        raise HTTPException(401, "the metrics need their bearer token", {"WWW-Authenticate": "Bearer"})


@router.get("/metrics", dependencies=[Depends(scrapes)])
def show_metrics(session: SessionDep) -> PlainTextResponse:
    """All problems; as of the last look where the store does not answer."""
    dags = dags_of_problems(session)
    healths, fault = look_at(dags)
    text = exposition(healths, in_flight(session, dags), is_store_up=fault is None)
    return PlainTextResponse(text, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})


def _token() -> str | None:
    """None: there is none, or none that anybody may rely on."""
    token = os.environ.get(TOKEN, "")
    path = os.environ.get(TOKEN_FILE, "")
    if not token and path:
        try:
            token = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            log.warning("no metrics: %s cannot be read: %s", TOKEN_FILE, error)
    token = token.strip()
    if token and len(token) < LEAST_CHARACTERS:
        log.warning("no metrics: a token has at least %s characters", LEAST_CHARACTERS)
        return None
    return token or None
