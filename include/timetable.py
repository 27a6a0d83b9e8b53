"""When ingest runs: once for each partition of a problem, after it has closed; of deliveries, once a day."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from airflow.timetables.trigger import CronTriggerTimetable

from pipelines.config import Partitions


class NewDeliveries(CronTriggerTimetable):
    """A look for deliveries, each day at `Partitions.at`.

    What a run finds it does not know beforehand: it has no key, and its `publish` tells the keys of what has come. A
    run by hand may have the key of one delivery.
    """

    partitioned_at_runtime = True

    def __init__(self, partitions: Partitions) -> None:
        hour, minute = map(int, partitions.at.split(":"))
        super().__init__(f"{minute} {hour} * * *", timezone=partitions.timezone)
        self.partitions = partitions
        self.description = f"Looks for new deliveries at {partitions.at} {partitions.timezone}"

    @property
    def summary(self) -> str:
        return f"new deliveries, {self.partitions.at}"

    def serialize(self) -> dict[str, Any]:
        return self.partitions.model_dump(mode="json")

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> NewDeliveries:
        return cls(Partitions.model_validate(data))


class ClosedPartitions(Timetable):
    """One run for each partition, at `Partitions.ingested_at`, with its key.

    Airflow's own timetable of partitions counts ticks of a clock, back from the run to its partition: where clocks
    skip the tick, one day has no run and the next has it before it is over. Here the partitions are counted.
    """

    partitioned = True

    def __init__(self, partitions: Partitions) -> None:
        self.partitions = partitions
        when = "{0.at} later" if partitions.every == "hour" else "at {0.at} {0.timezone}"
        self.description = f"Each {partitions.every} once it has closed, {when.format(partitions)}"

    @property
    def summary(self) -> str:
        at = f"+{self.partitions.at}" if self.partitions.every == "hour" else self.partitions.at
        return f"{self.partitions.every} closed, {at}"

    def serialize(self) -> dict[str, Any]:
        return self.partitions.model_dump(mode="json")

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ClosedPartitions:
        return cls(Partitions.model_validate(data))

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        """Of a run by hand that was given a date: partitions go by their keys alone."""
        return DataInterval.exact(run_after)

    def next_dagrun_info(self, **_: Any) -> None:
        """There are no runs by data interval."""

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        ran = last_dagrun_info.partition_key if last_dagrun_info else None
        key = self.next_key(ran, datetime.now(UTC), restriction.catchup)
        return None if key is None else self._run(key)

    def next_key(self, ran: str | None, now: datetime, catchup: bool) -> str | None:
        """The partition after `ran`, the one that ran last; without catching up none but the newest that is due."""
        parts, keys = self.partitions, [self.partitions.first_key]
        if ran is not None:
            keys.append(parts.shift(ran, 1))
        if not catchup:
            keys.append(self._first_of_its_time(parts.newest_due(now)))
        key = max(keys)
        return None if parts.last_key and key > parts.last_key else key

    def iter_partition_dagrun_infos(self, *, earliest: datetime, latest: datetime) -> Iterator[DagRunInfo]:
        """The partitions of a backfill: those that begin from `earliest` to `latest`, as clocks of the zone show.

        Of hours by the minute, and both of two that clocks show alike; of all others by the day.
        """
        parts = self.partitions
        since, until = self._shown(earliest, fold=0), self._shown(latest, fold=1)
        first = max(parts.key_of(since), parts.first_key)
        last = min(filter(None, [parts.key_of(until), parts.last_key]))
        for key in parts.between(first, last):
            if parts.parse(key) >= since:
                yield self._run(key)

    def localize_partition_datetime(self, dt: datetime) -> pendulum.DateTime:
        """What the problem's clocks show at `dt`, whatever zone it is given in, as a moment."""
        return pendulum.instance(dt.replace(tzinfo=None), tz=self.partitions.timezone).in_timezone("UTC")

    def generate_run_id(
        self, *, run_type: Any, run_after: pendulum.DateTime, data_interval: DataInterval | None, **extra: Any
    ) -> str:
        key = extra.get("partition_key")
        return str(run_type.generate_run_id(suffix=f"{run_after.isoformat()}__{key}__{secrets.token_hex(4)}"))

    def _decode_partition_date(self, partition_key: str) -> datetime:
        return self._begins(partition_key)

    def _first_of_its_time(self, key: str) -> str:
        """Where a day was left out of the calendar, it and the day before may be due at once: one after the other."""
        parts = self.partitions
        before = parts.shift(key, -1)
        return before if before >= parts.first_key and self._due(before) == self._due(key) else key

    def _shown(self, bound: datetime, fold: int) -> date:
        """The day that a bound is given by; of hours the moment at which the zone's clocks show its day and time."""
        if self.partitions.every != "hour":
            return bound.date()
        zone = ZoneInfo(self.partitions.timezone)
        return datetime.combine(bound.date(), bound.time(), zone).replace(fold=fold).astimezone(UTC)

    def _run(self, key: str) -> DagRunInfo:
        return DagRunInfo(
            run_after=self._due(key), data_interval=None, partition_date=self._begins(key), partition_key=key
        )

    def _due(self, key: str) -> pendulum.DateTime:
        return pendulum.instance(self.partitions.ingested_at(key).astimezone(UTC))

    def _begins(self, key: str) -> pendulum.DateTime:
        return pendulum.instance(self.partitions.start(key).astimezone(UTC))
