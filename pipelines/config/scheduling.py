"""How the tasks of a problem share a machine with those of others."""

from __future__ import annotations

from pydantic import Field

from pipelines.config.base import Config


class Scheduling(Config):
    """Which of several tasks that wait for a slot goes first."""

    priority: int = Field(
        0,
        ge=0,
        le=99,
        description="of two problems whose tasks wait for a slot that of the larger number goes first. Tasks that "
        "serve go before those that watch, and these before those that learn, whatever their numbers",
    )
    trainings_at_once: int = Field(
        1,
        ge=1,
        le=64,
        description="candidates of a training that are fitted at the same time: slots of the pool `training` that "
        "one problem takes at most",
    )
