"""What the stages of `<problem>.annotate` hand each other."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict

from pydantic import BaseModel, ConfigDict

from pipelines.handoffs.base import HandOff


class Voted(HandOff):
    """What the labeling functions have labelled."""

    partition: str
    events: int
    voted: int
    labelled: int
    positive: int
    functions: dict[str, int]
    """Votes of each function."""
    report: str
    """URI of the page."""
    verdict: str


class Form(BaseModel):
    """What one annotator is asked, in the words of Airflow's form operator."""

    model_config = ConfigDict(frozen=True)

    subject: str
    body: str
    params: dict[str, dict[str, Any]]
    """Airflow's `Param` of each event: a JSON schema."""


class User(TypedDict, total=False):
    """Who answered a form, as Airflow says it."""

    id: str | None
    name: str | None


class Response(TypedDict, total=False):
    """What a form brought, as Airflow's form operator gives it."""

    responded_by_user: User | None
    """None: it ran out of time."""
    responded_at: str | datetime | None
    params_input: dict[str, str] | None
    """Answer by the parameter that asks about an event."""


class Chosen(HandOff):
    """Events that people are asked about, and the forms, one an annotator."""

    batch: str
    partition: str
    """The newest when it was asked."""
    partitions: list[str]
    """Those of the events."""
    events: list[str]
    event_times: list[str]
    """ISO 8601."""
    forms: list[Form]
    verdict: str


class Collected(HandOff):
    """What people have answered."""

    batch: str
    partition: str
    people: list[str]
    votes: int
    labelled: int
    positive: int
    verdict: str


class SelfTrained(HandOff):
    """What a model has labelled."""

    partition: str
    labelled_before: int
    unlabelled: int
    labelled: int
    positive: int
    verdict: str
