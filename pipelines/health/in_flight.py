"""What goes on in Airflow about a problem: only its database knows that."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Run(NamedTuple):
    """A run of one of the problem's DAGs."""

    dag: str
    """Without the problem's name, such as `train`."""
    run_id: str
    partition: str | None
    since: datetime | None
    """When it began, or of a failed one when it ended."""
    tasks: tuple[str, ...] = ()
    """Of a failed one: those that failed."""


class Question(NamedTuple):
    """What people are asked in *Required Actions*."""

    dag: str
    run_id: str
    subject: str
    since: datetime
    users: tuple[str, ...]
    """Who may answer; empty: anybody."""


class InFlight(NamedTuple):
    """All of that about one problem."""

    running: tuple[Run, ...] = ()
    waiting: tuple[str, ...] = ()
    """DAGs of which runs are in line."""
    failed: tuple[Run, ...] = ()
    """DAGs whose newest run has failed."""
    questions: tuple[Question, ...] = ()
    paused: tuple[str, ...] = ()
    """DAGs that nothing starts."""
