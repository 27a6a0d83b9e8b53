"""What the stages of `<problem>.monitor` hand each other.

What a stage has found in full lies in the store, written once; a hand-off says where, and what a person wants to read.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from pipelines.config import Action
from pipelines.handoffs.base import HandOff

Evidence = str | dict[str, Any]
"""URI of what a stage has found; of a run that began before it was kept in the store, the thing itself as JSON."""

HANDED_ON_WHOLE = {
    "detection": ("detected", "realised", "waiting"),
    "estimation": ("partition", "label_shift", "concept", "feedback"),
    "weighing": ("options", "readings"),
}
"""What each piece of evidence is made of where a run handed it on whole, by its name today."""


class Profiled(HandOff):
    """A partition, and the version that scored it."""

    partition: str
    version: str
    rows: int | None = None
    """None: nobody has counted them."""
    late: list[str] | None = None
    """Partitions too many of whose labels still have time to come in; None: nobody has looked."""

    def line(self) -> str:
        return "" if self.rows is None else f"{self.rows:,} rows, scored by version {self.version}"


class Detected(Profiled):
    """How far the partition lies from what is usual, and how good the newest labelled ones turned out."""

    detection: Evidence
    """A `Detection`."""
    columns: int = 0
    moved: list[str] = Field(default_factory=list)
    """Columns whose step from the partitions before is larger than usual."""
    labelled: list[str] = Field(default_factory=list)
    """Partitions whose labels tell how good the scores were, the oldest first."""

    @model_validator(mode="before")
    @classmethod
    def _handed_on_whole(cls, payload: Any) -> Any:
        """Evidence that stands in the payload itself, as before it was kept in the store, is taken as it is."""
        if not isinstance(payload, dict) or "detected" not in payload:
            return payload
        evidence = {
            name: {part: payload[part] for part in parts if part in payload}
            for name, parts in HANDED_ON_WHOLE.items()
            if any(part in payload for part in parts if part != "partition")
        }
        findings = (payload.get("diagnosis") or {}).get("findings") or []
        explanation = payload.get("explained")
        return {
            "kinds": [finding["kind"] for finding in findings],
            "measures": sorted(findings[0].get("numbers", {})) if findings else [],
            "since": (explanation or {}).get("since"),
            "explanation": explanation,
            **payload,
            **evidence,
        }

    def line(self) -> str:
        if not self.columns:
            return ""
        newest = f"newest labels of {self.labelled[-1]}" if self.labelled else "no labels yet"
        return f"{len(self.moved)} of {self.columns} columns moved by more than usual, {newest}"


class Estimated(HandOff):
    """What scores are worth before their labels come, and what labels show."""

    partition: str
    version: str
    estimation: Evidence
    """An `Estimation`."""
    verdict: str | None = None
    """A sentence; never to be read as a measurement."""

    @model_validator(mode="before")
    @classmethod
    def _handed_on_whole(cls, payload: Any) -> Any:
        is_whole = isinstance(payload, dict) and "label_shift" in payload
        return {**payload, "estimation": payload} if is_whole else payload

    def line(self) -> str:
        return self.verdict or ""


class Diagnosed(Detected):
    """Which kinds of shift it shows."""

    estimation: Evidence | None = None
    """An `Estimation`; None where `estimate` had nothing to say, or has failed."""
    diagnosis: Evidence
    """A `Diagnosis`."""
    kinds: list[str] = Field(default_factory=list)
    """Of the findings, the most harmful first."""
    measures: list[str] = Field(default_factory=list)
    """What the leading finding's numbers are of: an alert about the same is told once."""

    def line(self) -> str:
        return ", ".join(dict.fromkeys(self.kinds)) or "no finding"


class Explained(Diagnosed):
    """Since when, along with what, and where."""

    explanation: Evidence | None = None
    """An `Explanation`; None of a run of before there were any."""
    since: str | None = None
    """First partition of the change; None where none stands out."""

    def line(self) -> str:
        return f"since {self.since}" if self.since else "no partition stands out"


class Decided(Explained):
    """What is to be done about a partition, and why."""

    weighing: Evidence
    """A `Weighing` of the ways to act."""
    verdict: str
    action: Action
    reason: str
    window_from: str | None = None
    """First partition that a training should learn from; None: all."""

    def line(self) -> str:
        return f"{self.verdict}, {self.action}: {self.reason}"


class Requested(HandOff):
    """A training is asked for."""

    partition: str
    action: Action
    verdict: str
    reason: str

    def line(self) -> str:
        return f"{self.action} requested"


class Reported(HandOff):
    """The page about a partition is drawn."""

    partition: str
    page: str
    """URI."""
    report: str | None
    """URI of Evidently's; None where it is not wanted."""

    def line(self) -> str:
        return self.page
