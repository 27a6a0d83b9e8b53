"""A try of a task: what it was, what it used, how it ended."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipelines.config import How

Outcome = Literal["done", "skipped", "failed", "killed"]
"""Killed: it came to no end of its own, as its process was ended from without."""

LOCAL = "local-"
"""How the names of runs begin that Airflow knows nothing of."""


class Try(BaseModel):
    """A row of `runs`; what its fields mean stands in the contract. What a later version notes is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    stage: str
    part: str | None = None
    run: str
    try_number: int = 1
    partition: str | None = None
    how: How | None = None
    host: str
    started_time: datetime
    wall_s: float = 0.0
    cpu_s: float = 0.0
    children_cpu_s: float = 0.0
    peak_bytes: int = 0
    grown_bytes: int = 0
    rows: int | None = None
    requests: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    outcome: Outcome
    reason: str | None = None

    @property
    def month(self) -> str:
        """Of its start, in UTC."""
        return f"{self.started_time:%Y-%m}"

    @property
    def is_local(self) -> bool:
        """Whether it ran without Airflow."""
        return self.run.startswith(LOCAL)

    @property
    def dag(self) -> str:
        """Such as `train`."""
        return self.stage.partition(".")[0]

    @property
    def ended(self) -> datetime:
        """When it ended; of one that was killed, when it was last heard of."""
        return self.started_time + timedelta(seconds=self.wall_s)
