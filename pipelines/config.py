"""The sections of a problem.yaml: frozen pydantic models, each field bounded and described."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=63)]
ColumnType = Literal["string", "integer", "float", "boolean", "timestamp"]
Metric = Literal["auc", "average_precision", "log_loss", "brier"]
RESERVED_COLUMNS = frozenset(
    {"event_time", "known_time", "cutoff_time", "partition", "label", "score", "split", "weight"}
)


class Config(BaseModel):
    """Frozen, and strict about what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Partitions(Config):
    """How time is cut: a partition is named by its first day, in the problem's time zone.

    >>> weeks = Partitions(every="week", first=date(2012, 12, 31), timezone="America/New_York")
    >>> weeks.key_of(date(2013, 4, 3)), weeks.shift("2013-04-01", 1)
    ('2013-04-01', '2013-04-08')
    >>> weeks.start("2013-04-01").isoformat(), weeks.end("2013-04-01").isoformat()
    ('2013-04-01T00:00:00-04:00', '2013-04-08T00:00:00-04:00')
    """

    every: Literal["day", "week"] = Field(description="length of a partition; weeks start on Monday")
    timezone: str = Field("UTC", description="IANA time zone in which days begin")
    first: date = Field(description="first day of the first partition")
    last: date | None = Field(None, description="first day of the last partition; null while data keeps coming")
    at: str = Field("04:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="when a closed partition is ingested")

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"unknown time zone{did_you_mean(value, available_timezones())}")
        return value

    @model_validator(mode="after")
    def _whole_partitions(self) -> Partitions:
        for name, day in (("first", self.first), ("last", self.last)):
            if day is not None and self.every == "week" and day.weekday() != 0:
                monday = day - timedelta(days=day.weekday())
                raise ValueError(f"{name}: a week starts on Monday and {day} is not one; use {monday}")
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last ({self.last}) is before first ({self.first})")
        return self

    @property
    def days(self) -> int:
        return 7 if self.every == "week" else 1

    @property
    def cron(self) -> str:
        hour, minute = (int(part) for part in self.at.split(":"))
        return f"{minute} {hour} * * {1 if self.every == 'week' else '*'}"

    def key_of(self, day: date) -> str:
        """The key of the partition that holds `day`."""
        return (day - timedelta(days=day.weekday() if self.every == "week" else 0)).isoformat()

    def parse(self, key: str) -> date:
        """The first day of partition `key`; raises ConfigError when it is no partition's name."""
        try:
            day = date.fromisoformat(key)
        except ValueError:
            day = None
        if day is None or self.key_of(day) != key:
            raise ConfigError(
                f"{key!r} names no partition",
                where="partition key",
                cure=f"name the first day of a {self.every}, such as {self.key_of(day or self.first)}",
            )
        return day

    def start(self, key: str) -> datetime:
        """First moment of the partition, time zone aware."""
        day = self.parse(key)
        return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.timezone))

    def end(self, key: str) -> datetime:
        """First moment after the partition: what is known then is what its run may use."""
        return self.start(self.shift(key, 1))

    def shift(self, key: str, steps: int) -> str:
        return (self.parse(key) + timedelta(days=self.days * steps)).isoformat()

    def between(self, first: str, last: str) -> list[str]:
        """All keys from `first` to `last`, both included; none when `last` comes first."""
        count = (self.parse(last) - self.parse(first)).days // self.days + 1
        return [self.shift(first, step) for step in range(count)]


class Source(Config):
    """A CSV file (plain, or alone in a zip) that an installed Python package carries."""

    package: str = Field(description="distribution name, as pip knows it")
    file: str = Field(description="path inside the distribution")


class Column(Config):
    """One column of `events`, and what its values may be."""

    type: ColumnType
    unit: str = ""
    description: str = ""
    nullable: bool = True
    min: float | None = None
    max: float | None = None
    allowed: list[str] | None = Field(None, description="the only values a string column may have")

    @model_validator(mode="after")
    def _rules_fit_the_type(self) -> Column:
        is_number = self.type in ("integer", "float")
        if not is_number and (self.min is not None or self.max is not None):
            raise ValueError(f"min and max are for integer and float columns, not {self.type}")
        if self.type != "string" and self.allowed is not None:
            raise ValueError(f"allowed is for string columns, not {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class Validation(Config):
    """When a batch is too bad to publish."""

    max_quarantined_share: float = Field(0.05, ge=0, le=1, description="share of rows that may be set aside")


class Labels(Config):
    """Where truth comes from and when."""

    delay_days: int = Field(0, ge=0, description="days between a label's own known_time and its arrival here")
    description: str = ""


class Split(Config):
    """Newest labelled partitions are held out: test is the newest, validation lies before it."""

    validation_partitions: int = Field(1, ge=1)
    test_partitions: int = Field(2, ge=1)


class Sampling(Config):
    """Which rows of the training split are used (validation and test always keep all of theirs)."""

    method: Literal["all", "random"] = "all"
    fraction: float = Field(1.0, gt=0, le=1, description="share of rows to draw, for random")
    seed: int = 0

    @model_validator(mode="after")
    def _fraction_is_used(self) -> Sampling:
        if self.method == "all" and self.fraction != 1.0:
            raise ValueError("fraction has no effect with method 'all'; use method 'random'")
        return self


class Dataset(Config):
    window_partitions: int | None = Field(None, ge=1, description="newest partitions to learn from; null for all")
    split: Split = Split()
    sampling: Sampling = Sampling()


class History(Config):
    """A feature over the past labels of the same group, as known at the event's cut-off."""

    by: list[str] = Field(min_length=1, description="columns that form the group")
    of: Literal["label"] = "label"
    function: Literal["mean", "sum", "count"] = "mean"
    window_days: int = Field(ge=1, description="how far back events count, in days before the cut-off")


class Features(Config):
    columns: list[str] = Field(min_length=1, description="event columns that the model sees")
    history: dict[Name, History] = {}


class Candidate(Config):
    model: Literal["prior", "logistic", "xgboost"]
    parameters: dict[str, Any] = {}


class Training(Config):
    seed: int = 0
    candidates: dict[Name, Candidate] = Field(min_length=1)
    baseline: str = Field(description="the candidate that every other one has to beat")
    select_by: Metric = Field("log_loss", description="validation metric that picks the challenger")


class Limit(Config):
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Limit:
        if self.min is None and self.max is None:
            raise ValueError("a limit needs min or max")
        return self


class Gate(Config):
    """What a challenger has to reach on the test split before it may serve.

    A gain is positive when the challenger is better, whichever way the metric runs; a negative minimum
    is how much worse it may be.
    """

    limits: dict[Metric, Limit] = Field(min_length=1, description="absolute bounds")
    gain_over_baseline: dict[Metric, float] = Field(min_length=1)
    gain_over_champion: dict[Metric, float] = Field(min_length=1)
    min_rows: int = Field(100, ge=1, description="fewer test rows than this prove nothing")


class Scoring(Config):
    shard_rows: int = Field(250_000, ge=1, description="rows a scoring task takes")
    batch_rows: int = Field(65_536, ge=1, description="rows in memory at once")


class Policy(Config):
    """When monitoring alarms and when it asks for a new model."""

    max_column_psi: float = Field(0.25, gt=0, description="covariate shift: worth a look, never a retraining alone")
    max_prediction_psi: float = Field(0.25, gt=0)
    max_label_rate_shift: float = Field(0.1, gt=0, le=1, description="absolute change of the positive rate")
    max_auc_drop: float = Field(0.05, gt=0, le=1, description="below the champion's own test AUC")
    max_calibration_gap: float = Field(0.05, gt=0, le=1, description="|mean score - positive rate|")
    min_labels: int = Field(200, ge=1, description="fewer labels than this prove nothing")
    at_least: int = Field(2, ge=1, description="so many bad partitions ...")
    of_last: int = Field(3, ge=1, description="... of so many newest labelled ones ask for a retraining")
    cool_down_partitions: int = Field(4, ge=0, description="partitions to wait after a request for the next")

    @model_validator(mode="after")
    def _reachable(self) -> Policy:
        if self.at_least > self.of_last:
            raise ValueError(f"at_least ({self.at_least}) can never be reached in of_last ({self.of_last})")
        return self


class Monitoring(Config):
    bins: int = Field(10, ge=2, le=100, description="quantile bins of a numeric column's profile")
    report_rows: int = Field(5_000, ge=100, description="rows of each side in the Evidently report")
    policy: Policy = Policy()


class Replay(Config):
    """How `evergreen demo` and `evergreen replay` play the problem's past as if it happened now."""

    history_until: date = Field(description="first day of the last partition that is ingested in bulk, as history")
    until: date = Field(description="first day of the last partition that the demo plays one by one")


def did_you_mean(word: str, options: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(options), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
