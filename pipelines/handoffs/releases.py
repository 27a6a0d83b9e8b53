"""What the stages of `<problem>.release` hand each other, and how a release assigns a partition's rows."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipelines.config import RungKind
from pipelines.handoffs.base import HandOff

Variant = Literal["champion", "challenger"]
Verdict = Literal["go on", "promote", "roll back", "hold", "expire", "overtaken"]
"""What the evidence says of a release: to the next rung, to serving, back, wait, out of time; or it has ended already,
as something else serves."""


class Assignment(BaseModel):
    """How a release assigns the rows of one partition: frozen before it is scored, and the same ever after."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    release: str
    rung: int
    """Place of the rung among the release's."""
    kind: RungKind
    champion: str
    champion_run: str
    challenger: str
    challenger_run: str
    share: float
    """Chance that the challenger serves a unit: its propensity."""
    unit: str
    """Column that is assigned as a whole; `key`: each row by itself."""
    sticky: bool

    def version(self, variant: Variant) -> str:
        return self.challenger if variant == "challenger" else self.champion

    def chance(self, variant: Variant) -> float:
        """Of a unit to be served by it."""
        return self.share if variant == "challenger" else 1 - self.share


class Assessed(HandOff):
    """What the evidence says of a release, at the end of a partition."""

    partition: str
    release: str
    champion: str
    challenger: str
    rung: int
    kind: RungKind
    verdict: Verdict
    reason: str
    share: float | None = None
    """Of a bandit: what the challenger serves from now on."""
    asks: bool = False
    """Whether people are asked before the step is taken."""
    subject: str = ""
    body: str = ""
    """What they read, Markdown."""
    page: str
    """URI."""

    def line(self) -> str:
        return f"{self.kind}, {self.verdict}: {self.reason}"


class Answer(HandOff):
    """What people said of a step, or what counts as nobody did."""

    is_approved: bool
    user: str | None = None
    """Who answered; None: nobody did in time."""
    time: str | None = None
    """When, ISO 8601."""

    @property
    def in_words(self) -> str:
        """
        >>> Answer(is_approved=True, user="ada").in_words, Answer(is_approved=False).in_words
        ('approved by ada', 'rejected, as nobody answered in time')
        """
        word = "approved" if self.is_approved else "rejected"
        return f"{word} by {self.user}" if self.user else f"{word}, as nobody answered in time"


class Stepped(HandOff):
    """What was done about a release."""

    partition: str
    release: str
    action: str
    verdict: str
    reason: str
    version: str
    """That serves now."""

    def line(self) -> str:
        return f"{self.action}: {self.reason}"
