"""The sections of a problem.yaml: frozen pydantic models, each field bounded and described."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from pipelines.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=63)]
ColumnType = Literal["string", "integer", "float", "boolean", "timestamp"]
Metric = Literal["auc", "average_precision", "log_loss", "brier"]
LabelSource = Literal["natural", "hand", "weak", "self_trained"]
RESERVED_COLUMNS = frozenset({
    "event_time", "known_time", "cutoff_time", "superseded_time", "withdrawn_time", "statement", "partition", "label",
    "score", "split", "weight", "probability", "source", "confidence", "label_known_time", "faults", "raw",
})  # fmt: skip


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
    """A table that events.sql and labels.sql select from: a file or many, a Delta table, or a database's table.

    `${NAME}` in `path` and `database` stands for an environment variable: passwords belong there.

    >>> Source(path="orders/*.csv", columns={"order_id": "string", "paid": "float"}).kind
    'csv'
    >>> Source(database="${SHOP_DATABASE}", table="public.orders", time_column="placed_at").kind
    'database'
    """

    package: str | None = Field(None, description="distribution name of an installed Python package, as pip knows it")
    file: str | None = Field(None, description="path inside the package")
    path: str | None = Field(
        None,
        description="file, folder or glob (** too), on disk or s3://; a relative one starts at the problem's folder",
    )
    database: str | None = Field(None, description="URI: postgresql://user:${PASSWORD}@host/name or sqlite:///file")
    table: str | None = Field(None, description="table or view of the database")
    query: str | None = Field(None, description="query that the database runs, instead of table")
    format: Literal["csv", "jsonl", "parquet", "avro", "delta"] | None = Field(
        None, description="of the files; null: by their names (.csv, .csv.gz, .csv.zip, .jsonl, .parquet, .avro)"
    )
    columns: dict[str, ColumnType] = Field(
        {}, description="the source's columns and their types; a source that differs fails. Empty: as they come"
    )
    extra_columns: Literal["fail", "ignore"] = Field("fail", description="what to do with columns not declared")
    time_column: str | None = Field(
        None, description="read only the rows whose time lies in the run's partitions; null: read all rows"
    )
    lookback_days: int = Field(0, ge=0, description="days before the partition that are read too, for time_column")
    delimiter: str = Field(",", min_length=1, max_length=1, description="between the values of a CSV")
    encoding: Literal["utf-8", "utf-16", "latin-1"] = Field("utf-8", description="of a CSV")
    nulls: list[str] = Field(["", "NA"], description="texts of a CSV that stand for a missing value")

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        places = [name for name in ("package", "path", "database") if getattr(self, name) is not None]
        if len(places) != 1:
            raise ValueError(f"a source has one of package, path and database; found {', '.join(places) or 'none'}")
        if (self.package is None) != (self.file is None):
            raise ValueError("package and file go together")
        if (self.table is None and self.query is None) != (self.database is None) or (self.table and self.query):
            raise ValueError("database goes with one of table and query")
        if self.database and not re.match(r"(postgres(ql)?|sqlite)://|\$\{", self.database):
            raise ValueError("database is a postgresql:// or sqlite:/// URI")
        if self.database and self.format:
            raise ValueError("format is for files, not for a database")
        if self.time_column and self.columns and self.time_column not in self.columns:
            raise ValueError(f"time_column: {self.time_column!r} is not one of the columns")
        if self.lookback_days and not self.time_column:
            raise ValueError("lookback_days has no effect without time_column")
        if not self.database and self.kind == "unknown":
            raise ValueError("format: cannot be told from the name; say csv, jsonl, parquet, avro or delta")
        return self

    @field_serializer("database", when_used="json")
    def _without_password(self, value: str | None) -> str | None:
        return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", value) if value else value

    @property
    def kind(self) -> str:
        """csv, jsonl, parquet, avro, delta or database."""
        if self.database:
            return "database"
        if self.format:
            return self.format
        name = (self.file or self.path or "").rstrip("/")
        name = re.sub(r"\.(gz|zip)$", "", name)
        suffix = name.rpartition(".")[2].lower()
        return {"csv": "csv", "tsv": "csv", "txt": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl",
                "parquet": "parquet", "pq": "parquet", "avro": "avro"}.get(suffix, "unknown")  # fmt: skip


class Column(Config):
    """One column of `events`: what it means, what its values may be, and whether a prediction may use it."""

    type: ColumnType
    unit: str = ""
    description: str = ""
    owner: str = Field("", description="who answers for it; empty: the problem's owner")
    available: Literal["cutoff", "later"] | None = Field(
        None,
        description="when its value is known: by the cut-off of the prediction, or only later. A feature has to say",
    )
    source_columns: list[str] = Field([], description="where it comes from; empty: read from events.sql")
    nullable: bool = True
    unique: bool = Field(False, description="no two rows of a batch have the same value")
    min: float | None = None
    max: float | None = None
    allowed: list[str] | None = Field(None, description="the only values a string column may have")
    max_null_share: float | None = Field(None, ge=0, le=1, description="share of a partition's rows without a value")

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


class Volume(Config):
    """How many events a partition brings, against the mean of those before it."""

    trailing_partitions: int = Field(4, ge=1, description="partitions before this one that are averaged")
    min_ratio: float = Field(0.5, ge=0, description="fewer rows than this share of the mean fail the run")
    max_ratio: float = Field(2.0, gt=0, description="more rows than this multiple of the mean fail the run")

    @model_validator(mode="after")
    def _reachable(self) -> Volume:
        if self.min_ratio > self.max_ratio:
            raise ValueError(f"min_ratio ({self.min_ratio}) is above max_ratio ({self.max_ratio})")
        return self


class Validation(Config):
    """Rules beside those of `columns`, and when a batch is too bad to publish."""

    max_quarantined_share: float = Field(0.05, ge=0, le=1, description="share of rows that may be set aside")
    rules: dict[Name, str] = Field(
        {}, description="conditions over the columns of events, in SQL, that a row fulfils; null counts as fulfilled"
    )
    max_age_days: float | None = Field(
        None, gt=0, description="freshness: days between the newest event and the end of its partition, at most"
    )
    volume: Volume | None = None
    expectation_rows: int = Field(
        50_000, ge=1, description="rows that Great Expectations checks too, beside the bad ones; all if there are fewer"
    )


class LabelingFunction(Config):
    """Votes on events: 1, 0, or null where it abstains."""

    sql: str | None = Field(None, description="expression over the columns of events")
    python: str | None = Field(
        None, pattern=r"^[\w.]+:\w+$", description="module:function; takes a pyarrow Table of events, gives an array"
    )

    @model_validator(mode="after")
    def _one_language(self) -> LabelingFunction:
        if (self.sql is None) == (self.python is None):
            raise ValueError("a labeling function has one of sql and python")
        return self


class Weak(Config):
    """Weak supervision: many rough functions vote, and their combination labels (Huyen, ch. 4)."""

    functions: dict[Name, LabelingFunction] = Field(min_length=1)
    combine: Literal["majority", "dawid_skene"] = "dawid_skene"
    min_confidence: float = Field(0.6, ge=0.5, le=1, description="below it an event stays without a label")


class Hand(Config):
    """Labels that people are asked for in Airflow's UI."""

    question: str = Field(min_length=1, description="what they are asked about each event")
    batch: int = Field(10, ge=1, le=100, description="events asked about in one run")
    choose: Literal["random", "uncertainty", "margin", "disagreement"] = Field(
        "uncertainty", description="which events: any, or those that the champion or the candidates are least sure of"
    )
    annotators: int = Field(1, ge=1, le=9, description="people who are asked about each event")
    combine: Literal["majority", "dawid_skene"] = "majority"
    show: list[str] = Field([], description="columns that help them to answer; empty: the features")
    answer_within_hours: int = Field(72, ge=1, description="then the run goes on with the answers it has")
    seed: int = 0


class SelfTraining(Config):
    """A model labels what it is sure of, and learns from that (scikit-learn's SelfTrainingClassifier)."""

    candidate: str = Field(description="one of training.candidates")
    threshold: float = Field(0.95, gt=0.5, le=1, description="probability of a class at which its label is taken")
    max_iterations: int = Field(5, ge=1)


class Labels(Config):
    """Where truth comes from and when."""

    delay_days: int = Field(0, ge=0, description="days between a label's own known_time and its arrival here")
    description: str = ""
    maturity_days: int | None = Field(
        None, ge=0, description="days after its end from which a partition is learnt from; null: delay_days"
    )
    after_maturity: Literal["leave_out", "negative"] = Field(
        "leave_out", description="what an event is that has no label by then: unlabelled is not negative, unless it is"
    )
    use: list[LabelSource] = Field(
        ["hand", "natural"], min_length=1, description="sources to learn from, the most trusted first"
    )
    weigh_by_confidence: bool = Field(False, description="a training row weighs by its label's confidence")
    hand: Hand | None = None
    weak: Weak | None = None
    self_training: SelfTraining | None = None

    @model_validator(mode="after")
    def _declared(self) -> Labels:
        if len(set(self.use)) != len(self.use):
            raise ValueError("use: a source is named twice")
        for source, section in (("weak", "weak"), ("self_trained", "self_training")):
            if source in self.use and getattr(self, section) is None:
                raise ValueError(f"use: {source} needs labels.{section}")
        if self.maturity_days is not None and self.maturity_days < self.delay_days:
            raise ValueError(f"maturity_days ({self.maturity_days}) ends before labels arrive ({self.delay_days} days)")
        return self

    @property
    def are_made(self) -> bool:
        """Whether there are labels that do not come by themselves: from functions, people or a model."""
        return bool(self.weak or self.hand or self.self_training)

    @property
    def mature_after_days(self) -> int:
        return self.delay_days if self.maturity_days is None else self.maturity_days


class Split(Config):
    """Newest labelled partitions are held out: test is the newest, validation lies before it."""

    validation_partitions: int = Field(1, ge=1)
    test_partitions: int = Field(2, ge=1)
    embargo: bool = Field(
        True, description="leave out rows whose label was not known yet when the next split's first prediction was due"
    )
    group_by: str | None = Field(
        None, description="column of a group that may stand in one split only; the newest split keeps it"
    )


class Sampling(Config):
    """Which rows of the training split are used (validation and test always keep all of theirs)."""

    method: Literal["all", "random", "systematic", "stratified", "cluster", "weighted", "reservoir", "importance"] = (
        "all"
    )
    fraction: float | None = Field(None, gt=0, le=1, description="share of rows to draw")
    rows: int | None = Field(None, ge=1, description="rows to draw, instead of fraction")
    by: list[str] = Field([], description="columns (or label) that form the strata, the clusters or the groups")
    shares: dict[str, float] = Field(
        {}, description="share of each stratum in the sample; or, for importance, in the world that is learnt for. "
        "Values of several columns are joined by |. Empty: as in the population"
    )  # fmt: skip
    weight_column: str | None = Field(None, description="column that the chance to be drawn is proportional to")
    half_life_days: float | None = Field(None, gt=0, description="a row's chance halves with so many days of age")
    correct: bool = Field(
        False, description="weigh each row by one over its chance to be drawn, so that the sample speaks for the whole"
    )
    seed: int = 0

    @model_validator(mode="after")
    def _settings_are_used(self) -> Sampling:
        if self.method == "all":
            for name in ("fraction", "rows"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect with method 'all'; use method 'random'")
        elif (self.fraction is None) == (self.rows is None):
            raise ValueError(f"method {self.method!r} needs one of fraction and rows")
        if self.method == "reservoir" and self.rows is None:
            raise ValueError("method 'reservoir' needs rows: the size of the reservoir")
        if (self.method in ("stratified", "cluster")) and not self.by:
            raise ValueError(f"method {self.method!r} needs by: the columns that form the groups")
        if self.by and self.method not in ("stratified", "cluster", "importance"):
            raise ValueError(f"by has no effect with method {self.method!r}")
        if self.shares and (self.method not in ("stratified", "importance") or not self.by):
            raise ValueError("shares are for the methods 'stratified' and 'importance', with by")
        if self.shares and not (
            all(share >= 0 for share in self.shares.values()) and abs(sum(self.shares.values()) - 1) < 1e-6
        ):
            raise ValueError(f"shares are not negative and sum to 1, not {sum(self.shares.values()):g}")
        proposal = (self.weight_column is not None) + (self.half_life_days is not None)
        if proposal and self.method not in ("weighted", "importance"):
            raise ValueError("weight_column and half_life_days are for the methods 'weighted' and 'importance'")
        if self.method == "weighted" and proposal != 1:
            raise ValueError("method 'weighted' needs one of weight_column and half_life_days")
        if self.method == "importance" and not (self.shares or proposal):
            raise ValueError("method 'importance' needs shares (with by), weight_column or half_life_days")
        if proposal > 1:
            raise ValueError("weight_column or half_life_days, not both")
        if self.correct and self.method == "all":
            raise ValueError("correct has no effect with method 'all'")
        return self


class Resampling(Config):
    """Balance of the classes in the training split, at the fit (imbalanced-learn)."""

    method: Literal["none", "undersample", "oversample", "smote", "tomek"] = Field(
        "none", description="smote is SMOTENC where there are categories"
    )
    ratio: float = Field(1.0, gt=0, le=1, description="minority rows per majority row afterwards; not for tomek")
    neighbours: int = Field(5, ge=1, description="for smote")
    seed: int = 0


class Augmentation(Config):
    """More rows for the training split, at the fit, made from those it has (Huyen, ch. 4)."""

    method: Literal["none", "perturb", "mixup"] = "none"
    share: float = Field(0.2, gt=0, le=10, description="made rows per row")
    noise: float = Field(0.05, gt=0, description="perturb: standard deviation, in those of each column")
    alpha: float = Field(0.2, gt=0, description="mixup: of the Beta distribution of the mixing weight")
    seed: int = 0


class Leaks(Config):
    """What is looked for in a training set before anything learns from it."""

    max_single_feature_auc: float = Field(
        0.85, gt=0.5, le=1, description="a feature that alone predicts the label better than this is suspicious"
    )
    accepted: list[str] = Field([], description="features that may: somebody has looked, and it is no leak")
    entities: list[str] = Field([], description="columns of which no value may stand in two splits")
    duplicates: bool = Field(False, description="whether equal feature rows may not stand in two splits")


class Dataset(Config):
    window_partitions: int | None = Field(None, ge=1, description="newest partitions to learn from; null for all")
    split: Split = Split()
    sampling: Sampling = Sampling()
    resampling: Resampling = Resampling()
    augmentation: Augmentation = Augmentation()
    leaks: Leaks = Leaks()


class History(Config):
    """A feature over the past of the same group, as known at the event's cut-off."""

    by: list[str] = Field(description="columns that form the group; none: all events")
    of: str = Field("label", description="label, or the column of events that is aggregated")
    function: Literal["mean", "sum", "count", "min", "max", "std", "last", "distinct", "time_since"] = Field(
        "mean", description="std is the sample's; distinct counts values; time_since gives days since the last event"
    )
    window_days: int = Field(ge=1, description="how far back events count, in days before the cut-off")
    unit: str = ""
    description: str = ""
    owner: str = ""


class Cross(Config):
    """A category made of several columns' values."""

    of: list[str] = Field(min_length=2, description="columns; a missing value among them gives a missing value")
    description: str = ""
    owner: str = ""


class DatetimePart(Config):
    """A part of a time, in the problem's time zone."""

    of: str = Field("event_time", description="event_time, cutoff_time or a timestamp column")
    part: Literal["minute", "hour", "weekday", "day", "week", "month", "quarter", "year"] = Field(
        description="weekday: 1 is Monday; hour has its minutes as a fraction"
    )
    cyclical: bool = Field(
        False, description="two features, <name>_sin and <name>_cos, in which the last is next to the first"
    )
    description: str = ""
    owner: str = ""

    @model_validator(mode="after")
    def _goes_round(self) -> DatetimePart:
        if self.cyclical and self.part == "year":
            raise ValueError("cyclical: a year does not come again")
        return self


class Features(Config):
    columns: list[str] = Field(min_length=1, description="event columns that the model sees")
    history: dict[Name, History] = {}
    crosses: dict[Name, Cross] = {}
    datetime: dict[Name, DatetimePart] = {}


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
