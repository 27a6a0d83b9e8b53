"""What one table gave: kept as JSON beside its store, so that a benchmark that was stopped goes on."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Frozen; written to a table's folder when all of it has been played."""

    model_config = ConfigDict(frozen=True)


class Stop(Record):
    """A stage that ended in an error, or held back partitions, on data that nobody has harmed."""

    stage: str
    partitions: tuple[str, ...]
    message: str
    went_on: str
    """what was set for the table to be played on; empty: it was not"""


class Alarm(Record):
    """A verdict that is not silent about a partition, and what its labels say when all of them are known."""

    partition: str
    verdict: str
    action: str
    reason: str
    is_right: bool
    judged: str


class Gain(Record):
    """How much better the champion is than the plain model, by the paired bootstrap over partitions."""

    metric: str
    champion: float
    plain: float
    gain: float
    low: float | None
    high: float | None

    @property
    def is_good(self) -> bool:
        """Not clearly worse: the interval of the gain reaches 0."""
        return self.high is None or self.high >= 0


class Played(Record):
    """A table from its first partition to the last of those that were scored; empty from where it stopped for good."""

    name: str
    task: str
    every: str
    features: int = 0
    rows: int
    history: tuple[str, ...] = ()
    """partitions with rows that came before the first scored one"""
    scored: tuple[str, ...] = ()
    """partitions with rows that were to be scored"""
    empty: int = 0
    """partitions without rows among those that were scored"""
    quarantined: int = 0
    refused: dict[str, str] = {}
    """sound partitions that ingest did not publish, and what it said of each"""
    stops: tuple[Stop, ...]
    verdicts: dict[str, str] = {}
    alarms: tuple[Alarm, ...] = ()
    candidate: str = ""
    gains: tuple[Gain, ...] = ()
    """the metric that decides first"""
    cpu_seconds: dict[str, float]


def kept(path: Path) -> Played | None:
    """What was played before, if all of it was."""
    return Played.model_validate_json(path.read_text()) if path.exists() else None
