"""A training set in the store: its rows with labels and features, and what there is to know about it.

`pins` is what the stages of a training hand on: the set's id, the versions of the tables that it was made of, and its
moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import TRUTH, targets
from pipelines.dataset.label import SPLITS, label_number
from pipelines.handoffs.training import Featurized, HeldOutPower, Moment, TrainingSet
from pipelines.paths import datasheet_uri, feature_schema_uri
from pipelines.problem import Problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.dataset.facts import Facts
    from pipelines.dataset.leaks import Finding
    from pipelines.documents.dataset import Feature


def usable(problem: Problem, labelled: ds.Dataset) -> ds.Dataset:
    """Labelled rows that may be used: in a split, and truth where they measure a model rather than teach it."""
    usable = sql.is_among("split", SPLITS)
    if set(problem.labels.use) & set(TRUTH):
        usable &= (pc.field("split") == "train") | sql.is_among("source", [*TRUTH, "none"])
    return labelled.filter(usable)


def sampled(
    problem: Problem, labelled: ds.Dataset, splits: Sequence[str] = SPLITS
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The rows of a training set, with the chance that each was drawn with, and its weight; of `splits`."""
    from pipelines.dataset.sample import sample_batches

    schema, batches = sample_batches(usable(problem, labelled), problem.dataset.sampling, splits)
    return schema, map(_by_confidence, batches) if problem.labels.weigh_by_confidence else batches


def _by_confidence(rows: pa.RecordBatch) -> pa.RecordBatch:
    """A training row weighs by its label's confidence, too."""
    is_train = pc.equal(rows["split"], "train")
    weight = pc.if_else(is_train, pc.multiply(rows["weight"], rows["confidence"]), rows["weight"])
    return rows.set_column(rows.schema.get_field_index("weight"), "weight", weight)


def training_set(
    problem: Problem,
    pins: TrainingSet,
    split: str | None = None,
    columns: Sequence[str] | None = None,
    and_sets: Sequence[str] = (),
) -> pa.Table:
    """Rows of the set, and of others in the same table."""
    rows = members(problem, pins, split, and_sets)
    return rows.to_table(columns=None if columns is None else list(columns))


def members(problem: Problem, pins: TrainingSet, split: str | None = None, and_sets: Sequence[str] = ()) -> ds.Dataset:
    """As `training_set`, of more rows than fit in memory."""
    wanted = sql.is_among("training_set", [pins.training_set, *and_sets])
    if split is not None:
        wanted &= pc.field("split") == split
    return store.dataset(problem, "training_sets", pins.training_set_version).filter(wanted)


def partitions(
    problem: Problem, pins: TrainingSet, split: str | None = None, and_sets: Sequence[str] = ()
) -> list[str]:
    """The partitions that the set has rows of, sorted."""
    rows = members(problem, pins, split, and_sets)
    keys: list[str] = sql.query("SELECT DISTINCT partition FROM s ORDER BY partition", {"s": rows})[
        "partition"
    ].to_pylist()
    return keys


def split_rows(problem: Problem, pins: TrainingSet) -> dict[str, int]:
    """How many rows each split of the set has, the oldest split first."""
    names = ", ".join(map(sql.literal, SPLITS))
    text = f"SELECT split, count(*) AS rows FROM s GROUP BY split ORDER BY list_position([{names}], split)"
    counts = sql.query(text, {"s": members(problem, pins)})
    return dict(zip(counts["split"].to_pylist(), counts["rows"].to_pylist(), strict=True))


def split(
    problem: Problem,
    pins: TrainingSet,
    split: str,
    features_of: Problem | None = None,
    extra: Sequence[str] = (),
) -> pa.Table:
    """Rows of one split in time's order: key, partition, event_time, features, `extra`, label and weight.

    `label` is a number: int8 0 or 1, int64 position in labels.classes, or the float64 to predict. `extra` are columns
    of events that need not be features, as the event is predicted from; the features among them come once.
    """
    text, tables = _joined(problem, pins, split, features_of, extra)
    ordered = f"{text} ORDER BY f.event_time, f.{sql.quote(problem.key)}"
    return sql.query(ordered, tables, joins_as_written=True)


def stream(problem: Problem, pins: TrainingSet, split: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The rows of `split`, in the same order, batch by batch: for more than fit in memory."""
    text, tables = _joined(problem, pins, split)
    schema = sql.query(f"{text} LIMIT 0", tables).schema
    ordered = f"{text} ORDER BY f.event_time, f.{sql.quote(problem.key)}"
    return schema, sql.stream(ordered, tables, joins_as_written=True)


def drawn(problem: Problem, pins: TrainingSet, split: str, most: int, and_sets: Sequence[str] = ()) -> pa.Table:
    """`most` rows of a split, or all if there are fewer, in time's order: by a hash of the key, always the same.

    With those of the same split of other sets: what a model that was continued has learnt from before.
    """
    key = sql.quote(problem.key)
    text, tables = _joined(problem, pins, split, and_sets=and_sets)
    chosen = f"SELECT * FROM ({text}) ORDER BY hash({key}), {key} LIMIT {most}"
    return sql.query(f"SELECT * FROM ({chosen}) ORDER BY event_time, {key}", tables, joins_as_written=True)


def _joined(
    problem: Problem,
    pins: TrainingSet,
    split: str,
    features_of: Problem | None = None,
    extra: Sequence[str] = (),
    and_sets: Sequence[str] = (),
) -> tuple[str, dict[str, ds.Dataset]]:
    """Query and tables of a split's rows, in no order. Its joins are to be done as they are written: what is kept to
    look rows up in is narrow, and the features stream past it."""
    features = store.dataset(features_of or problem, "features", pins.features_version)
    in_split = sql.is_among("partition", partitions(problem, pins, split, and_sets))
    more = [name for name in dict.fromkeys(extra) if name not in features.schema.names]
    key = sql.quote(problem.key)
    tables = {"s": members(problem, pins, split, and_sets), "f": features.filter(in_split)}
    chosen, joined = "", ""
    if more:
        events = store.dataset(problem, "events", pins.events_version).filter(in_split)
        tables["e"] = targets(events, datetime.fromisoformat(pins.as_of))
        chosen = "".join(f"e.{sql.quote(name)}, " for name in more)
        joined = f"JOIN e USING ({key}, partition)"
    text = f"""SELECT f.*, {chosen} {label_number(problem, "s.label")} AS label, s.weight
        FROM f JOIN s USING ({key}, partition) {joined}"""
    return text, tables


def with_features(
    problem: Problem, pins: TrainingSet, labelled: ds.Dataset
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Every row of the training set with all that is known of it: what `label` gave, weight, features. In time's order
    and batch by batch, for more than fit in memory."""
    key = sql.quote(problem.key)
    known = [name for name in labelled.schema.names if name not in problem.feature_names]
    text = f"""SELECT {", ".join(f"l.{sql.quote(name)}" for name in known)}, s.probability, s.weight,
            {", ".join(f"f.{sql.quote(name)}" for name in problem.feature_names)}
        FROM f JOIN s USING ({key}, partition) JOIN l USING ({key}, partition)"""
    in_set = sql.is_among("partition", partitions(problem, pins))
    tables = {
        "l": labelled,
        "s": members(problem, pins),
        "f": store.dataset(problem, "features", pins.features_version).filter(in_set),
    }
    schema = sql.query(f"{text} LIMIT 0", tables).schema
    return schema, sql.stream(f"{text} ORDER BY l.event_time, l.{key}", tables, joins_as_written=True)


def write_features(features_of: Problem, pins: Moment, keys: list[str]) -> int:
    """Features, as `features_of` defines them, of all events in partitions `keys`; gives the table's version."""
    from pipelines.features.featurize import featurize as featurize_rows

    events = store.dataset(features_of, "events", pins.events_version)
    labels = store.dataset(features_of, "labels", pins.labels_version)
    wanted = targets(events.filter(sql.is_among("partition", keys)), datetime.fromisoformat(pins.as_of))
    schema = table_schema(features_of, "features")
    batches = (batch.cast(schema) for batch in featurize_rows(features_of, wanted, events, labels))
    return store.write_table(features_of, "features", pa.RecordBatchReader.from_batches(schema, batches), keys)


def training_files(problem: Problem, pins: TrainingSet) -> dict[str, bytes]:
    """What each candidate's run keeps of its training set: the datasheet and the feature schema."""
    page = datasheet_uri(problem, pins.training_set)
    return {
        "datasheet.html": store.read_bytes(page),
        "datasheet.md": store.read_bytes(page.replace(".html", ".md")),
        "features.json": store.read_bytes(feature_schema_uri(problem)),
    }


def facts(
    problem: Problem,
    pins: Featurized,
    rows: ds.Dataset,
    features: list[Feature],
    findings: list[Finding],
    power: HeldOutPower,
) -> Facts:
    """What the datasheet says beside the problem; `rows` are those of `with_features`."""
    from pipelines.dataset.facts import Facts, source_counts, split_counts
    from pipelines.dataset.label import Sizes, splits
    from pipelines.surroundings import git_commit

    available = store.partition_keys(problem, "events")
    events = store.dataset(problem, "events", pins.events_version)
    sizes = Sizes(**pins.held_out.model_dump()) if pins.held_out else None
    passed_over = {*pins.held, *pins.waiting}
    planned = splits(problem, pins.partition, available, pins.window_from, passed_over, sizes=sizes)
    return Facts(
        training_set=pins.training_set,
        partition=pins.partition,
        as_of=pins.as_of,
        available=available,
        partitions=planned,
        young=pins.too_young,
        young_events=events.count_rows(filter=sql.is_among("partition", pins.too_young)),
        excluded=pins.left_out,
        not_drawn=pins.not_drawn,
        quarantined=_quarantined(problem, list(planned)),
        splits=split_counts(problem, rows),
        label_sources=source_counts(problem, rows),
        features=features,
        findings=[finding.document() for finding in findings],
        queries={name: problem.sql(name) for name in problem.queries},
        table_versions={
            "events": pins.events_version,
            "labels": pins.labels_version,
            "features": pins.features_version,
            "training_sets": pins.training_set_version,
        },
        git_commit=git_commit(),
        power=power.document(),
    )


def _quarantined(problem: Problem, keys: list[str]) -> dict[str, int]:
    rows = store.dataset(problem, "quarantine").to_table(columns=["rules"], filter=sql.is_among("partition", keys))
    counts = pc.value_counts(pc.list_flatten(rows["rules"].combine_chunks())).to_pylist()
    return {
        group["values"]: group["counts"]
        for group in sorted(counts, key=lambda group: (-group["counts"], group["values"]))
    }
