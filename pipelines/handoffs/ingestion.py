"""What the stages of `<problem>.ingest` hand each other."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from pydantic import AliasChoices, Field

from pipelines.handoffs.base import HandOff


class Delivery(NamedTuple):
    """A delivery that has come."""

    key: str
    name: str
    stamp: str
    content: str
    came: datetime | None
    """When it was first seen; None where nothing remembers it."""


def most_readings(every: str) -> int:
    """Of how many partitions it is known how far a source reached: of hours, a week and the night after it.

    >>> most_readings("hour"), most_readings("day")
    (192, 26)
    """
    return 8 * 24 if every == "hour" else 26


class Reading(NamedTuple):
    """How far a source's rows reached when a partition ended."""

    partition: str
    until: datetime
    """That end; of a delivery, when it was taken in."""
    newest: datetime | None
    """Of the times before it that rows carry; None: none was read."""


class Reach(NamedTuple):
    """How far the rows of a source reach, as far as what was read of it says."""

    columns: str | None
    """By which; None: it has no columns of times, or files whose footers do not say."""
    readings: list[Reading] = []  # noqa: RUF012 - a NamedTuple's default, never changed
    """The oldest first."""
    arrived: datetime | None = None
    """When the newest of its files was written, or of its messages was sent; None: nobody can say."""


class Extracted(HandOff):
    """Rows of the partitions `first` to `last`, staged as they came, counted twice."""

    first: str
    last: str
    events: int
    labels: int
    rejected: int
    """Rows that a source could not give."""
    late: int
    """Rows of both queries that came late."""
    outside_of: dict[str, dict[str, int]]
    """By query: rows `before` and `after` the problem's time, and in partitions that are still `open`."""
    read: int
    """All of these rows, counted a second time."""
    sources: dict[str, dict[str, int]]
    """Of each source: `rows`, and `rejected`."""
    reach: dict[str, Reach] = Field({})
    """Of each source."""
    deliveries: dict[str, str] = Field({})
    """What each partition is called that is a delivery."""
    changed: list[Delivery] = Field([])
    """Those that hold something else than when they were last ingested."""
    notices: list[str] = Field([])
    """What became of other deliveries: which have changed or gone."""


class Validated(Extracted):
    """Good rows and bad ones are told apart, and partitions that are too bad to publish are held."""

    quarantined: int
    """Rows set aside."""
    held: int
    """Those of them in refused partitions."""
    refused: list[str]
    """Partitions."""
    repaired: int
    moved: int
    """Rows that were repaired into another partition."""
    labels_without_event: int = 0
    beside: list[str]
    """What the run met beside its own rows, each in a few words."""
    rules: dict[str, int]
    """Rows by the rule that they broke."""
    page: str
    """URI."""
    verdict: str | None = None
    """Where partitions are refused."""
    reason: str | None = None

    def line(self) -> str:
        return f"{self.quarantined:,} rows set aside"


class Published(HandOff):
    """What became of every row of a run."""

    first: str
    last: str
    events: int
    """Rows published."""
    labels: int = 0
    late: int
    """Rows that came late."""
    outside: int
    """Rows outside of the problem's time, and of partitions that have not ended; `outside_of` says which."""
    outside_of: dict[str, dict[str, int]]
    quarantined: int
    """All others."""
    held: int
    refused: list[str]
    labels_without_event: int = 0
    empty: int
    """Partitions without any event."""
    new: int
    unchanged: int
    corrected: int
    withdrawn: int
    returned: int
    events_version: int
    deliveries: dict[str, str] = Field({})
    """What each partition is called that is a delivery."""
    reach: dict[str, Reach] = Field({})
    """Of each source."""
    summary: str = Field(validation_alias=AliasChoices("summary", "line"))
    """All of it in a line; it was handed on as `line` before."""
    verdict: str | None = None
    """Where partitions are refused, earlier ones were missed, or earlier deliveries have changed or gone."""
    reason: str | None = None

    @property
    def came(self) -> list[str]:
        """The deliveries that were published, by key."""
        return [key for key in self.deliveries if key not in self.refused]

    def line(self) -> str:
        return self.summary
