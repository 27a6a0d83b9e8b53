"""Where rows come from, what a column may hold, and when a batch is too bad."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import ConfigDict, Field, field_serializer, model_validator

from pipelines.config.base import Available, ColumnType, Config, Name, SourceType, is_none, is_vector, may_be_left_out
from pipelines.config.partitions import DayOrHour

Script = Literal[
    "Arabic",
    "Armenian",
    "Bengali",
    "Cyrillic",
    "Devanagari",
    "Ethiopic",
    "Georgian",
    "Greek",
    "Gujarati",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hebrew",
    "Hiragana",
    "Kannada",
    "Katakana",
    "Khmer",
    "Lao",
    "Latin",
    "Malayalam",
    "Mongolian",
    "Myanmar",
    "Sinhala",
    "Tamil",
    "Telugu",
    "Thai",
    "Tibetan",
]


# Of what librdkafka takes, what says who one is: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
SecuritySetting = Literal[
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "sasl.kerberos.service.name",
    "sasl.kerberos.principal",
    "sasl.kerberos.keytab",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.endpoint.identification.algorithm",
]
SECRET_SETTINGS: tuple[SecuritySetting, ...] = (
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "ssl.key.password",
)
MESSAGE_COLUMNS: dict[str, SourceType] = {
    "message_partition": "integer",
    "message_offset": "integer",
    "message_time": "timestamp",
    "message_key": "string",
}
"""What is known of a topic's message beside its payload: columns that its source may declare."""


class Source(Config):
    """A table that events and labels are selected from: a file or many, a Delta table, a database's table, or a topic.

    `${NAME}` in `path`, `database`, `brokers` and `security` is an environment variable: passwords belong there.

    >>> Source(path="orders/*.csv", columns={"order_id": "string", "paid": "float"}).kind
    'csv'
    >>> Source(database="${SHOP_DATABASE}", table="public.orders", time_column="placed_at").kind
    'database'
    >>> Source(topic="orders", brokers="kafka:9092", columns={"order_id": "string", "message_time": "timestamp"}).kind
    'topic'
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
    topic: str | None = Field(None, exclude_if=is_none, description="topic of Kafka whose messages are JSON objects")
    brokers: str | None = Field(
        None, exclude_if=is_none, description="where the topic is: host:port, several with commas between them"
    )
    security: dict[SecuritySetting, str] | None = Field(
        None,
        exclude_if=is_none,
        description="of the brokers, as librdkafka names it; what is secret comes from the environment: ${NAME}",
    )
    lost_messages: Literal["fail", "accept"] | None = Field(
        None,
        exclude_if=is_none,
        description="what to do where the brokers have deleted messages before they were landed; null: fail",
    )
    format: Literal["csv", "jsonl", "parquet", "avro", "delta"] | None = Field(
        None, description="of the files; null: by their names (.csv, .csv.gz, .csv.zip, .jsonl, .parquet, .avro)"
    )
    columns: dict[str, SourceType] = Field(
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
        places = [name for name in ("package", "path", "database", "topic") if getattr(self, name) is not None]
        if len(places) != 1:
            named = ", ".join(places) or "none"
            raise ValueError(f"a source has one of package, path, database and topic; found {named}")
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
        if self.kind == "unknown":
            raise ValueError("format: cannot be told from the name; say csv, jsonl, parquet, avro or delta")
        return self

    @model_validator(mode="after")
    def _topic_is_whole(self) -> Source:
        if self.topic is None:
            for name in ("brokers", "security", "lost_messages"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect without topic")
            return self
        if not re.fullmatch(r"[\w.-]{1,249}", self.topic):
            raise ValueError("topic: letters, digits, '.', '_' and '-' make a topic's name, 249 at most")
        if self.brokers is None:
            raise ValueError("topic goes with brokers: host:port")
        if self.format not in (None, "jsonl"):
            raise ValueError(f"format: messages of a topic are read as JSON objects (jsonl), not as {self.format}")
        if not set(self.columns) - set(MESSAGE_COLUMNS):
            raise ValueError("a topic's columns are declared: what no message of a run has cannot be guessed")
        for name, kind in MESSAGE_COLUMNS.items():
            if self.columns.get(name, kind) != kind:
                raise ValueError(f"columns: {name} is the message's own, of type {kind}")
        for setting in SECRET_SETTINGS:
            value = (self.security or {}).get(setting)
            if value is not None and not re.fullmatch(r"\$\{\w+\}", value):
                raise ValueError(f"security: {setting} is secret: write ${{NAME}}, a variable of the environment")
        return self

    @field_serializer("database", when_used="json")
    def _without_password(self, value: str | None) -> str | None:
        """Without what stands for a password before the host, to the last @ that may be part of it, or after the ?."""
        if not value:
            return value
        login_hidden = re.sub(r"(://[^:/@]*):[^?]*@", r"\1:***@", value)
        return re.sub(r"(?i)([?&][^=&]*(?:pass|pwd|secret|token|key)[^=&]*=)[^&]*", r"\1***", login_hidden)

    @property
    def kind(self) -> str:
        """csv, jsonl, parquet, avro, delta, database or topic."""
        if self.topic is not None:
            return "topic"
        if self.database:
            return "database"
        if self.format:
            return self.format
        name = (self.file or self.path or "").rstrip("/")
        name = re.sub(r"\.(gz|zip)$", "", name)
        suffix = name.rpartition(".")[2].lower()
        return {
            "csv": "csv",
            "tsv": "csv",
            "txt": "csv",
            "jsonl": "jsonl",
            "ndjson": "jsonl",
            "json": "jsonl",
            "parquet": "parquet",
            "pq": "parquet",
            "avro": "avro",
        }.get(suffix, "unknown")


class Column(Config):
    """One column of `events`: what it means, what its values may be, and whether a prediction may use it."""

    model_config = ConfigDict(json_schema_extra=may_be_left_out("type"))

    type: ColumnType = Field(description="left out: as the sources declare a column of this name")
    unit: str = Field("", description="what a value counts, for the feature schema and the model card")
    description: str = Field("", description="what it means, for the feature schema and the model card")
    owner: str = Field("", description="who answers for it; empty: the problem's owner")
    available: Available | None = Field(
        None,
        description="when its value is known: by the cut-off of the prediction, or only later. A feature has to say, "
        "or `available` for all columns",
    )
    source_columns: list[str] = Field([], description="where it comes from; empty: read from events.sql")
    nullable: bool = Field(True, description="whether a row may be without a value; else it is set aside")
    unique: bool = Field(False, description="no two rows of a batch have the same value")
    min: float | None = Field(None, description="of a number: a row below it is set aside")
    max: float | None = Field(None, description="of a number: a row above it is set aside")
    allowed: list[str] | None = Field(None, description="the only values a string column may have")
    max_null_share: float | None = Field(None, ge=0, le=1, description="share of a partition's rows without a value")
    min_length: int | None = Field(
        None, ge=1, exclude_if=is_none, description="characters of a text, at least; 1: it is not empty"
    )
    max_length: int | None = Field(None, ge=1, exclude_if=is_none, description="characters of a text, at most")
    length: int | None = Field(
        None, ge=1, le=4096, exclude_if=is_none, description="numbers of an embedding, in each row"
    )
    scripts: list[Script] | None = Field(
        None,
        min_length=1,
        exclude_if=is_none,
        description="Unicode's scripts of the letters that a text may have; digits, marks and punctuation are free",
    )

    @model_validator(mode="after")
    def _rules_fit_the_type(self) -> Column:
        is_number = self.type in ("integer", "float")
        if not is_number and (self.min is not None or self.max is not None):
            raise ValueError(f"min and max are for integer and float columns, not {self.type}")
        if self.type != "string" and self.allowed is not None:
            raise ValueError(f"allowed is for string columns, not {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        for name in ("min_length", "max_length", "scripts"):
            if self.type != "text" and getattr(self, name) is not None:
                raise ValueError(f"{name} is for text columns, not {self.type}")
        if (self.type == "embedding") != (self.length is not None):
            raise ValueError("length goes with type embedding, which needs it: how many numbers each row has")
        if self.min_length is not None and self.max_length is not None and self.min_length > self.max_length:
            raise ValueError(f"min_length ({self.min_length}) is above max_length ({self.max_length})")
        if is_vector(self.type) and self.unique:
            raise ValueError(f"unique is not for {self.type} columns: it would keep each value")
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


class Shape(Config):
    """Whether a partition looks like those before it, column by column."""

    trailing_partitions: int = Field(8, ge=2, description="partitions before this one that it is compared with")
    min_partitions: int = Field(3, ge=2, description="with fewer before it, a partition is not judged")
    tolerance: float = Field(
        4.0, gt=0, description="a partition may lie so many times as far from the nearest as the others usually do"
    )
    max_repeated_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of rows with the same values as a row of the partitions before, beyond the usual",
    )
    ignore: list[str] = Field(
        [], description="columns, or rules of the whole partition such as `number of rows`, that do not count"
    )
    accepted: list[DayOrHour] = Field(
        [],
        description="keys of partitions that somebody has looked at: the world has changed, the feed is sound; "
        "of hours, also a day for all of its own",
    )


class Validation(Config):
    """Rules beside those of `columns`, and when a batch is too bad to publish."""

    max_quarantined_share: float = Field(0.05, ge=0, le=1, description="share of rows that may be set aside")
    max_refused_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of a run's partitions that may be refused and held while the others are published; "
        "with more, nothing is",
    )
    allow_empty: bool | None = Field(
        None,
        description="whether a partition may be without events, as out of season; null: in a history that has some, "
        "and later where a partition before was empty too",
    )
    rules: dict[Name, str] = Field(
        {}, description="conditions over the columns of events, in SQL, that a row fulfils; null counts as fulfilled"
    )
    max_age_days: float | None = Field(
        None, gt=0, description="freshness: days between the newest event and the end of its partition, at most"
    )
    volume: Volume | None = None
    shape: Shape | None = Shape()
    lookback_partitions: int = Field(
        7, ge=0, description="ingested partitions before a run's first in which it looks for rows that came late"
    )
    max_unmatched_label_share: float = Field(
        0.2, ge=0, le=1, description="share of a run's labels that may be of no event, in partitions that were ingested"
    )
    expectation_rows: int = Field(
        50_000, ge=1, description="rows that Great Expectations checks too, beside the bad ones; all if there are fewer"
    )
