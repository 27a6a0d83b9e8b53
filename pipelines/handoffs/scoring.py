"""What the stages of `<problem>.score` hand each other."""

from __future__ import annotations

from pipelines.config.release import share_in_words
from pipelines.handoffs.base import HandOff
from pipelines.handoffs.releases import Assignment, Variant


class Shard(HandOff):
    """A part of a partition's rows, and the version that scores it."""

    partition: str
    variant: Variant = "champion"
    assignment: Assignment | None = None
    """Of the partition's rows, where a release is under way."""
    shard: int
    shards: int
    events: int | None = None
    """How many are to be scored, of all shards; None of a run that began before they were handed on."""
    version: str
    run_id: str
    as_of: str
    """ISO 8601: what became known later is not seen."""
    events_version: int | None
    labels_version: int | None


class ScoredShard(HandOff):
    """The scores of a shard, staged at `uri`."""

    partition: str
    variant: Variant = "champion"
    assignment: Assignment | None = None
    failed: str | None = None
    """Why the challenger has not scored it; its champion's shards are there."""
    version: str
    as_of: str
    uri: str
    rows: int
    events: int | None = None
    """How many `plan` has counted, of all shards."""
    events_version: int | None
    unseen: dict[str, int]
    """Rows with a category that the model did not see in training, by feature."""


class ScoredPartition(HandOff):
    """A partition whose scores are published."""

    partition: str
    rows: int
    version: str
    """The champion's."""
    challenger: str | None = None
    """Version that has scored all rows too; None: no release is under way."""
    challenger_rows: int | None = None
    """How many it serves; None: no release is under way, or it was taken back."""
    taken_back: str | None = None
    """Why the challenger serves none, and its release has ended."""
    predictions_version: int
    manifest: str
    """URI."""
    verdict: str | None = None
    reason: str | None = None
    """Where earlier partitions were not scored."""

    def line(self) -> str:
        line = f"{self.rows:,} predictions by version {self.version}"
        if self.taken_back is not None:
            return f"{line}; version {self.challenger} is taken back: {self.taken_back}"
        if self.challenger_rows is None or not self.rows:
            return line
        if not self.challenger_rows:
            return f"{line}; version {self.challenger} in its shadow"
        return f"{line}; {share_in_words(self.challenger_rows / self.rows)} by version {self.challenger}"
