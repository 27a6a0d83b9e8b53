"""The contract: every table and file that Evergreen keeps, who writes it, and what a row of it is.

Nothing else names a table's columns. `pipelines/store` builds Arrow schemas from here, and the tables of
docs/reference are generated from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.problem import Problem

TableName = Literal[
    "events",
    "quarantine",
    "labels",
    "features",
    "training_sets",
    "predictions",
    "shadow_predictions",
    "profiles",
    "estimates",
    "ledger",
    "votes",
    "runs",
    "topics",
]


@dataclass(frozen=True)
class Field:
    """One column: `type` is an Arrow type's name, or `label`: the type that the problem's task gives its labels.

    `nullable` is the contract, checked at every write.
    """

    name: str
    type: str
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """`grain` is what one row stands for; a write replaces whole values of `partition_by`.

    Where writers share a partition, `within` is the column that keeps them apart: each replaces its own rows.
    """

    name: TableName
    writer: str
    grain: str
    partition_by: str
    fields: tuple[Field, ...]
    within: str | None = None

    @property
    def folders(self) -> list[str]:
        """The columns that its files lie in folders by."""
        return [self.partition_by, *([self.within] if self.within else [])]

    def schema(self, problem: Problem, *more: pa.Field) -> pa.Schema:
        """Arrow schema for this problem: the key, the fields, then whatever the problem declares."""
        import pyarrow as pa

        fields = [pa.field(problem.key, pa.string(), nullable=False)] if self.keyed else []
        types = [problem.label_type if field.type == "label" else field.type for field in self.fields]
        fields += [
            pa.field(field.name, arrow_type(type_), nullable=field.nullable)
            for field, type_ in zip(self.fields, types, strict=True)
        ]
        return pa.schema([*fields, *more])

    @property
    def keyed(self) -> bool:
        """Whether a row is about one event and so carries the problem's key."""
        return self.name not in ("quarantine", "profiles", "estimates", "ledger", "runs", "topics")


# By kind of decision, what one row of the ledger says.
LEDGER_KINDS = {
    "ingest": "a partition was ingested and has no rows",
    "delivery": "a delivery has come and got its number, or was ingested or refused again with other content",
    "gate": "a challenger passed its gate or failed it, check by check",
    "refit": "the model that was fitted again after its gate is sound or not",
    "promotion": "which version serves from then on, and which it replaced: promoted, rolled back, fell back",
    "rollout": "a step of a version's release: it started, was assigned, looked at, asked about, went on, or ended",
    "monitoring": "what was found in a partition, and what was done about it",
    "partition": "a partition was held back from training sets, or readmitted",
    "release": "a row of the quarantine was mended and let in",
    "alert": "what people were told: claimed, sent, suppressed; by any task",
}

PARTITION = Field(
    "partition", "string", "partition key: its first day; of an hour its first moment in UTC; of a delivery its number"
)
EVENT_TIME = Field("event_time", "timestamp", "when the event happens")
SUPERSEDED = (
    Field("superseded_time", "timestamp", "from when on it no longer holds; null: it holds", nullable=True),
    Field("withdrawn_time", "timestamp", "from when on the source has taken it back; null: it has not", nullable=True),
)

PREDICTED = (
    PARTITION,
    EVENT_TIME,
    Field("score", "float", "probability of class 1, or of the one decided for; or the predicted number"),
    Field("decision", "string", "class that the model decides for: 0, 1 or a name; null of a number", nullable=True),
    Field("probabilities", "list<float>", "of several classes, in the order of labels.classes", nullable=True),
    Field("model_version", "string", "registry version that scored it"),
    Field("variant", "string", "champion; challenger: a version under release"),
    Field("scored_time", "timestamp", "wall clock of the scoring run"),
    Field("experiment", "string", "release that the row was assigned by; null: none was under way", nullable=True),
    Field("unit", "string", "what was assigned as a whole; null: no release", nullable=True),
    Field("propensity", "float", "chance that its unit had of this variant; null: no release", nullable=True),
)

TABLES: dict[TableName, Table] = {
    table.name: table
    for table in (
        Table(
            "events",
            "ingest.publish, quarantine release",
            "statement about an event: one, unless it was corrected",
            "partition",
            (
                PARTITION,
                EVENT_TIME,
                Field("known_time", "timestamp", "when we learnt what this row says"),
                Field("cutoff_time", "timestamp", "when its prediction is due; nothing learnt later may be used"),
                Field("statement", "int64", "0 for the first statement about the event, then 1, 2, ..."),
                *SUPERSEDED,
            ),
        ),
        Table(
            "quarantine",
            "ingest.publish, quarantine release",
            "rejected row",
            "partition",
            (
                PARTITION,
                Field("id", "string", "hash of source and row: the same rejected row has the same id in every run"),
                Field(
                    "source", "string", "what gave the row: events, labels, or the name of one of the problem's sources"
                ),
                Field("row", "string", "the row as it came, JSON"),
                Field("rules", "list<string>", "every rule that it broke"),
            ),
        ),
        Table(
            "labels",
            "ingest.publish, annotate.vote, annotate.collect, annotate.self_train, quarantine release",
            "label statement",
            "partition",
            (
                Field("partition", "string", "partition in which the statement arrived"),
                EVENT_TIME,
                Field("known_time", "timestamp", "when the statement arrived here"),
                Field("label", "label", "1 positive, 0 negative; the name of a class; a number: as the task asks"),
                Field("source", "string", "natural, hand, weak or self_trained"),
                Field("confidence", "float", "0 to 1"),
                Field("labeler", "string", "who said so: events' own outcome, people, functions or a model"),
                *SUPERSEDED,
            ),
            within="source",
        ),
        Table(
            "votes",
            "annotate.vote, annotate.collect",
            "voter and event",
            "batch",
            (
                Field("batch", "string", "id of the run that asked"),
                Field("partition", "string", "newest partition when it asked"),
                EVENT_TIME,
                Field("voter", "string", "labeling function, or person"),
                Field("kind", "string", "function or person"),
                Field("vote", "int8", "1 positive, 0 negative; who abstains has no row"),
                Field("known_time", "timestamp", "when the vote was given"),
            ),
        ),
        Table(
            "features",
            "train.featurize, score.publish",
            "event, per feature set version",
            "partition",
            (
                PARTITION,
                EVENT_TIME,
            ),
        ),
        Table(
            "training_sets",
            "train.sample",
            "event in a training set",
            "training_set",
            (
                Field("training_set", "string", "id: hash of everything the set is made of"),
                PARTITION,
                EVENT_TIME,
                Field("split", "string", "train, validation or test"),
                Field("label", "label", "as known at the set's cut-off"),
                Field("source", "string", "the label's source; none: unlabelled once mature, taken as negative"),
                Field("confidence", "float", "the label's confidence"),
                Field("probability", "float", "chance with which the row was drawn (its inclusion probability)"),
                Field("weight", "float", "weight in the fit and the metrics"),
            ),
        ),
        Table("predictions", "score.publish", "event", "partition", PREDICTED),
        Table(
            "shadow_predictions",
            "score.publish",
            "event of a partition under release: the score of the version that did not serve it",
            "partition",
            PREDICTED,
        ),
        Table(
            "profiles",
            "monitor.profile",
            "partition and column, and slice of the score",
            "partition",
            (
                PARTITION,
                Field("column", "string", "feature, or score"),
                Field("slice", "string", "rows that it is of, such as carrier=UA; empty: all rows"),
                Field("model_version", "string", "version whose reference gives the bins"),
                Field("rows", "int64", "rows seen"),
                Field("nulls", "int64", "rows without a value"),
                Field("non_finite", "int64", "rows with a number that is none: NaN or infinite"),
                Field("unseen", "int64", "rows with a category that the reference lacks"),
                Field("mean", "float", "of numbers", nullable=True),
                Field("std", "float", "standard deviation of numbers", nullable=True),
                Field("min", "float", "of numbers", nullable=True),
                Field("max", "float", "of numbers", nullable=True),
                Field("counts", "list<int64>", "rows per bin of the reference; last come unseen and missing"),
                Field("new", "list<string>", "the most frequent categories that the reference lacks"),
                Field("new_counts", "list<int64>", "rows of each, at least"),
            ),
        ),
        Table(
            "estimates",
            "monitor.estimate",
            "partition and metric, estimated before its labels come",
            "partition",
            (
                PARTITION,
                Field("model_version", "string", "version that scored it"),
                Field("metric", "string", "what is estimated, such as auc"),
                Field("value", "float", "estimated; never measured"),
                Field("low", "float", "lower end of the interval that the realised one is expected in"),
                Field("high", "float", "its upper end"),
                Field("rows", "int64", "rows of the partition that it is of"),
                Field("method", "string", "cbpe, or weighted cbpe"),
                Field("note", "string", "why that method"),
                Field("effective_rows", "float", "held-out rows that the weights leave", nullable=True),
                Field(
                    "domain_auc", "float", "how well inputs are told from held-out ones; 0.5: not at all", nullable=True
                ),
                Field("domain_low", "float", "lower end of its interval", nullable=True),
                Field("domain_high", "float", "its upper end", nullable=True),
                Field(
                    "past_error", "float", "mean |estimated - realised| of partitions labelled by then", nullable=True
                ),
                Field("past_partitions", "int64", "how many those are"),
                Field("realised", "float", "measured, once the labels are mature; null until then", nullable=True),
                Field("realised_rows", "int64", "rows with a label by then", nullable=True),
            ),
        ),
        Table(
            "ledger",
            "ingest.extract, ingest.validate, ingest.publish, train.gate, train.refit, train.promote, score.plan, "
            "score.publish, monitor.act, alerts, quarantine release, quarantine hold, quarantine readmit, roll-back, "
            "fall-back, release.assess, release.step, release",
            "decision",
            "kind",
            (
                Field("decision", "string", "id: the same decision is written once"),
                Field("kind", "string", f"what was decided about: {', '.join(LEDGER_KINDS)}"),
                Field("partition", "string", "newest partition that the decision knew"),
                Field("verdict", "string", "what was found"),
                Field("action", "string", "what was done about it"),
                Field("reason", "string", "why, in a sentence"),
                Field("model_version", "string", "version it is about", nullable=True),
                Field("evidence", "string", "the numbers, JSON"),
                Field("decided_time", "timestamp", "wall clock"),
            ),
        ),
        Table(
            "runs",
            "train.promote, monitor.act, release.step, cost",
            "try of a task",
            "month",
            (
                Field("month", "string", "of its start, UTC, such as 2026-11"),
                Field("id", "string", "the same try is written once"),
                Field("stage", "string", "such as train.evaluate"),
                Field("part", "string", "which of several tasks of the stage, from 0 on", nullable=True),
                Field("run", "string", "run of Airflow; or what `evergreen run` did at once"),
                Field("try_number", "int64", "1 for the first try, then 2, ..."),
                Field("partition", "string", "that it was about; null: of none, or of several", nullable=True),
                Field("how", "string", "of a training: scratch, continue or recalibrate", nullable=True),
                Field("host", "string", "machine that it ran on"),
                Field("started_time", "timestamp", "wall clock; in Airflow when its process began"),
                Field("wall_s", "float", "seconds until its end; of a killed one, until it was last heard of"),
                Field("cpu_s", "float", "CPU seconds until then, user and system, of all threads and child processes"),
                Field("children_cpu_s", "float", "those of them that child processes used"),
                Field(
                    "peak_bytes", "int64", "most memory at once: what it shares with others (modules) and its children"
                ),
                Field("grown_bytes", "int64", "how much of it came since its start: its own share"),
                Field("rows", "int64", "rows that it handed on; null: of a stage that counts none", nullable=True),
                Field("requests", "int64", "requests to the store, repeated ones too; of a folder 0"),
                Field("bytes_read", "int64", "read from the store; of a folder: from files at all"),
                Field("bytes_written", "int64", "written to the store; of a folder: to files at all"),
                Field("outcome", "string", "done, skipped, failed or killed"),
                Field("reason", "string", "of another than done: the kind of error; how it was killed", nullable=True),
            ),
        ),
        Table(
            "topics",
            "ingest.extract",
            "message of a topic",
            "source",
            (
                Field("source", "string", "for which of the problem's sources it was landed"),
                Field("topic", "string", "where it was read"),
                Field("message_partition", "int64", "partition of the topic"),
                Field("message_offset", "int64", "its place there"),
                Field(
                    "message_time", "timestamp", "when it was sent, or reached its broker; null: unknown", nullable=True
                ),
                Field("message_key", "string", "as text; null: it has none", nullable=True),
                Field(
                    "payload",
                    "binary",
                    "as it came; of one over 1 MB the beginning; null: a tombstone",
                    nullable=True,
                ),
                Field("bytes", "int64", "length of the payload"),
                Field(
                    "event_time",
                    "timestamp",
                    "by which runs find it: as dated_by says, or when it was sent",
                ),
                Field("dated_by", "string", "the source's time_column when it was landed, or message_time"),
            ),
            within="dated_by",
        ),
    )
}

# Files beside the tables, under <store>/<problem>/.
FILES = {
    "predictions_manifest/<partition>.json": "written last by score.publish: rows, the champion's version, rows by "
    "the version that serves them, files, rows by feature with a category new to the champion, the release's "
    "assignment and how far its challenger strays; wait for it",
    "models/<version>/reference.json": "written by train.register: what the training data looked like",
    "models/<version>/held_out.parquet": "written by train.register: a sample of its test rows, labels and scores, "
    "on which its estimates rest",
    "models/<version>/problem.json": "written by train.register: the config that the version was trained with",
    "models/<version>/lineage.json": "written by train.register: what it is made of; `evergreen reproduce` reads it",
    "models/<version>/card.{md,html}": "written by train.register: what the version is, is for and can do",
    "evaluations/<training>.json": "written by train.evaluate: what the gate judges",
    "evaluations/<training>.html": "written by train.gate: the same for people, with its verdict",
    "evaluations/<training>.parquet": "written by train.evaluate: held_out.parquet of a challenger with no version yet",
    "feature_sets/<feature set>.json": "written by train.check: what each feature is, its coverage and range",
    "datasheets/<training set>.{md,html,json}": "written by train.check: what the set is, for who has to answer for it",
    "monitoring/<partition>/<version>/{detection,estimation,diagnosis,explanation,weighing}.json": "written by "
    "monitor.detect, estimate, diagnose, explain and decide: what each found, for the stages after it",
    "reports/<first>_<last>/validation.html": "written by ingest.validate: every rule, what broke it, samples",
    "reports/<partition>/weak_supervision.html": "written by annotate.vote: how each labeling function does",
    "reports/<partition>/monitoring.html": "written by monitor.report: what happened, since when, where",
    "reports/<partition>/drift.html": "written by monitor.report: Evidently's report on a bounded sample",
    "reports/<partition>/release.html": "written by release.assess: how far a release has come, and on what evidence",
    "../_health/<problem>/{health,history}.json": "written at the end of runs, where one waits for people, and "
    "by `evergreen status`: how the problem stands, for the Health page; derived from the ledger and the tables",
    "staging/...": "rows on their way between two tasks; safe to delete when nothing runs",
}


def arrow_type(name: str) -> pa.DataType:
    """Arrow type of a contract's or a problem's type name.

    >>> arrow_type("timestamp"), arrow_type("list<string>")
    (TimestampType(timestamp[us, tz=UTC]), ListType(list<element: string>))
    """
    import pyarrow as pa

    if name.startswith("list<"):
        return pa.list_(pa.field("element", arrow_type(name[5:-1])))
    return {
        "string": pa.string(),
        "text": pa.string(),
        "embedding": pa.list_(pa.field("element", pa.float32())),
        "integer": pa.int64(),
        "int64": pa.int64(),
        "int8": pa.int8(),
        "float": pa.float64(),
        "boolean": pa.bool_(),
        "binary": pa.binary(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }[name]


def event_columns(problem: Problem) -> list[pa.Field]:
    """The columns that a problem adds to `events`."""
    import pyarrow as pa

    return [pa.field(name, arrow_type(column.type)) for name, column in problem.columns.items()]


def feature_columns(problem: Problem) -> list[pa.Field]:
    """The columns that a problem adds to `features`, in the model's order."""
    import pyarrow as pa

    types = {name: arrow_type(problem.columns[name].type) for name in problem.features.columns}
    types |= dict.fromkeys(problem.features.crosses, pa.string())
    return [pa.field(name, types.get(name, pa.float64())) for name in problem.feature_names]


def table_schema(problem: Problem, name: TableName) -> pa.Schema:
    """Arrow schema of a problem's table."""
    more = {"events": event_columns, "features": feature_columns}.get(name)
    return TABLES[name].schema(problem, *(more(problem) if more else ()))
