"""Who is told of what, and how often."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from pipelines.config.base import Config

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
PACKAGE_OF = {"slack": "apache-airflow-providers-slack", "email": "apache-airflow-providers-smtp"}


def _no_address(value: object) -> object:
    # The value itself must not be told: it would stand in Airflow's list of import errors.
    if isinstance(value, str) and "://" in value:
        raise ValueError("an address may hold a secret: give the id of an Airflow connection (AIRFLOW_CONN_<ID>)")
    return value


ConnectionId = Annotated[
    str, BeforeValidator(_no_address), Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200)
]


def _duration(value: object) -> object:
    if isinstance(value, timedelta) or (isinstance(value, str) and value.startswith(("P", "-P"))):
        return value  # as it was kept with a model: ISO 8601
    match = re.fullmatch(r"(\d{1,4}) (minute|hour|day|week)s?", str(value))
    if match is None:
        raise ValueError("give a number and a unit, such as 30 minutes, 12 hours, 1 day or 2 weeks")
    return timedelta(**{f"{match[2]}s": int(match[1])})


Duration = Annotated[timedelta, BeforeValidator(_duration), WithJsonSchema({"type": "string"})]
Address = Annotated[str, Field(pattern=r"^[^@\s,;<>]+@[^@\s,;<>]+$", max_length=254)]


class Channel(Config):
    """One way to tell people: exactly one of webhook, slack and email."""

    webhook: ConnectionId | None = Field(None, description="id of the Airflow connection that holds the address")
    slack: ConnectionId | None = Field(None, description="id of a connection of Airflow's Slack provider")
    email: list[Address] | None = Field(
        None, min_length=1, description="recipients; sent by the connection that Airflow's [email] email_conn_id names"
    )
    min_severity: Severity = Field(
        "warning", description="info: retraining requested, promoted; warning: drift, gate; error: failed, refused"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Channel:
        given = [name for name in ("webhook", "slack", "email") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a channel is one of webhook, slack and email; given: {' and '.join(given) or 'none'}")
        return self

    @property
    def kind(self) -> Literal["webhook", "slack", "email"]:
        return "webhook" if self.webhook else "slack" if self.slack else "email"

    def takes(self, severity: Severity) -> bool:
        """Whether this channel wants to hear of it.

        >>> Channel(webhook="ops", min_severity="warning").takes("info")
        False
        """
        return SEVERITIES.index(severity) >= SEVERITIES.index(self.min_severity)


class Alerts(Config):
    """Who is told, and how often the same."""

    channels: list[Channel] = Field([], description="none: nothing is sent, the task's log says what would have been")
    repeat_after: Duration = Field(
        timedelta(days=1), ge=timedelta(0), description="the same is told again after this long; 0 days: every time"
    )

    def missing_packages(self) -> Iterator[tuple[str, str]]:
        """Each channel's place whose package is not installed, and the package."""
        for number, channel in enumerate(self.channels):
            package = PACKAGE_OF.get(channel.kind)
            try:
                _ = package and version(package)
            except PackageNotFoundError:
                yield f"alerts.channels.{number}.{channel.kind}", str(package)
