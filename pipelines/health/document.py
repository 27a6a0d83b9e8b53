"""What is kept of how a problem stands: facts alone, whose age whoever shows them knows."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

FORMAT = 2
"""Of what is kept: another one is derived anew."""


class Kept(BaseModel):
    """Goes to JSON and comes back; what a later version adds is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Champion(Kept):
    """The version that serves."""

    version: str
    since: datetime
    partition: str
    """Newest one when it came to serve."""
    how: str
    """`promoted`, `rolled back` or `fell back`."""
    trained_on: str | None
    """Partition at whose end it was trained; None: nobody knows."""
    age: int | None
    """Partitions that were ingested since."""


class Point(Kept):
    """How good the scores of a partition are: measured, or estimated as long as its labels are on their way."""

    partition: str
    realised: float | None = None
    estimated: float | None = None
    low: float | None = None
    high: float | None = None
    """Ends of the interval that the realised value is expected in."""
    labels_due: datetime | None = None
    """None: they are in, or nobody can say, as with deliveries."""


class Turn(Kept):
    """A decision of the ledger, without the evidence."""

    decision: str
    kind: str
    partition: str
    verdict: str
    action: str
    reason: str
    version: str | None
    decided: datetime
    by: str | None = None
    """Who approved or answered."""


class Held(Kept):
    """A partition in quarantine."""

    partition: str
    reason: str
    since: datetime


class Release(Kept):
    """A challenger on its way to serve."""

    name: str
    challenger: str
    where: str
    """The rung that it is on, in words."""
    next_step: str
    """What it waits for, and what comes then."""
    is_held: bool
    asked: str | None
    """Partition since which people are asked; None: they are not."""

    @property
    def in_words(self) -> str:
        return f"version {self.challenger}: {self.where}{', held' * self.is_held}"


class FailedGate(Kept):
    """A training whose model did not pass, and that no other has followed."""

    partition: str
    reason: str
    decided: datetime
    training: str


class Fresh(Kept):
    """How far a table reaches."""

    name: str
    partition: str | None
    until: datetime | None
    """End of its newest partition; None of deliveries, which are no time."""


class KeptReading(Kept):
    """How far a source's rows reached when a partition ended."""

    partition: str
    until: datetime
    newest: datetime | None


class SourceReach(Kept):
    """What ingests have read of a source: it is told by no table, and kept here alone."""

    name: str
    columns: str | None
    """By which columns of times; None: it has none."""
    readings: tuple[KeptReading, ...]
    """The oldest first: of partitions over which it stood still, the newest."""
    arrived: datetime | None = None
    """When the newest file was written, or message sent."""


class SourceFresh(Kept):
    """How fresh a source is."""

    name: str
    columns: str | None
    """By which columns of times; None: it has none."""
    newest: datetime | None
    """Of the times that its rows carry, but for those after `until`."""
    arrived: datetime | None
    partition: str | None
    """Of the newest reading."""
    until: datetime | None
    """That partition's end."""
    allowed_s: float | None
    """Seconds that it may lag by; None: its pace is not known."""

    @property
    def is_behind(self) -> bool:
        """Whether it lags by more than is usual for it."""
        if self.newest is None or self.until is None or self.allowed_s is None:
            return False
        return (self.until - self.newest).total_seconds() > self.allowed_s


class Cost(Kept):
    """What a partition costs, from its ingest to its page, on average of the newest."""

    per_partition: float
    unit: str
    partitions: int = 1
    """Of so many."""


class StageUse(Kept):
    """What a stage used when it last came to a good end, and how its tries of the newest month ended."""

    stage: str
    ended: datetime | None = None
    """Of that try; None: there was none within a month."""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    outcomes: dict[str, int] = {}
    """Tries by how they ended."""


class Health(Kept):
    """How a problem stands."""

    format: int = FORMAT
    problem: str
    every: str
    derived: datetime
    """When it was looked up."""
    metric: str
    gate: float | None
    """What the gate asks of the metric; None: it does not limit it."""
    higher_is_better: bool
    champion: Champion | None
    points: tuple[Point, ...]
    """Of the newest scored partitions, the oldest first."""
    judged: Turn | None
    """What monitoring said last."""
    held: tuple[Held, ...]
    quarantined_rows: int
    event_rows: int = 0
    """Rows of `events`: each event's statements."""
    release: Release | None
    waiting: tuple[str, ...]
    """Versions whose release has not begun."""
    failed_gate: FailedGate | None
    gate_failures: int = 0
    """Trainings in a row, the newest, whose model did not pass."""
    tables: tuple[Fresh, ...]
    sources: tuple[SourceFresh, ...] = ()
    """Those that an ingest has read."""
    lies_in_past: bool
    """Whether no more data comes."""
    next_due: datetime | None
    """When the next partition is to be ingested; None: nobody can say."""
    missed: str | None
    """Partitions that were not ingested though their time has come, or not scored, and what does so."""
    cost: Cost | None = None
    """None: nobody has counted it."""
    stages: tuple[StageUse, ...] = ()
    """Those that ran within a month."""

    def newest(self, name: str) -> str | None:
        """The newest partition of a table."""
        return next((table.partition for table in self.tables if table.name == name), None)


class Watched(Kept):
    """What monitoring measured at a partition."""

    decision: str
    partition: str
    version: str | None
    decided: datetime
    drift: dict[str, float | None]
    """By column: the step from the partitions before over what is usual; above 1 is a shift. None: not known."""
    realised: dict[str, float]
    """By partition: the metric, as its labels had it by then."""


class History(Kept):
    """How a problem came to stand as it does."""

    format: int = FORMAT
    problem: str
    metric: str
    turns: tuple[Turn, ...] = ()
    """Oldest first."""
    is_whole: bool = True
    """False: older turns were left out."""
    sources: tuple[SourceReach, ...] = ()
    watched: tuple[Watched, ...] = ()
    """Oldest first; of a partition that was looked at again the newest look is last."""

    def realised(self) -> dict[str, float]:
        """The metric by partition: the newest look knows most of its labels."""
        return {key: value for look in self.watched for key, value in look.realised.items()}

    def of(self, kind: str) -> list[Turn]:
        return [turn for turn in self.turns if turn.kind == kind]
