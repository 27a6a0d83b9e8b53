"""What the stages of `<problem>.monitor` hand each other."""

from __future__ import annotations

from pipelines.handoffs.base import HandOff


class Decided(HandOff):
    """What is to be done about a partition, and why."""

    partition: str
    version: str
    verdict: str
    action: str
    reason: str

    def line(self) -> str:
        return f"{self.verdict}, {self.action}: {self.reason}"


class Requested(HandOff):
    """A training is asked for."""

    partition: str
    action: str
    verdict: str
    reason: str

    def line(self) -> str:
        return f"{self.action} requested"
