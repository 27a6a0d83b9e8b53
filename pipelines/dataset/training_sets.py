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


def usable(problem: Problem, labelled: ds.Dataset) -> pa.Table:
    """Labelled rows that may be used: in a split, and truth where they measure a model rather than teach it."""
    usable = sql.is_among("split", SPLITS)
    if set(problem.labels.use) & set(TRUTH):
        usable &= (pc.field("split") == "train") | sql.is_among("source", [*TRUTH, "none"])
    return labelled.to_table(filter=usable)


def sampled(problem: Problem, labelled: ds.Dataset, splits: Sequence[str] = SPLITS) -> pa.Table:
    """The rows of a training set, with the chance that each was drawn with, and its weight; of `splits`."""
    from pipelines.dataset.sample import sample

    rows = sample(usable(problem, labelled), problem.dataset.sampling, splits)
    if not problem.labels.weigh_by_confidence:
        return rows
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
    wanted = sql.is_among("training_set", [pins.training_set, *and_sets])
    if split is not None:
        wanted &= pc.field("split") == split
    rows = store.dataset(problem, "training_sets", pins.training_set_version)
    return rows.to_table(columns=None if columns is None else list(columns), filter=wanted)


def partitions(problem: Problem, pins: TrainingSet, split: str) -> list[str]:
    return sorted(training_set(problem, pins, split, ["partition"])["partition"].unique().to_pylist())


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
    return sql.query(f"{text} ORDER BY f.event_time, f.{sql.quote(problem.key)}", tables)


def stream(problem: Problem, pins: TrainingSet, split: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The rows of `split`, in the same order, batch by batch: for more than fit in memory."""
    text, tables = _joined(problem, pins, split)
    schema = sql.query(f"{text} LIMIT 0", tables).schema
    return schema, sql.stream(f"{text} ORDER BY f.event_time, f.{sql.quote(problem.key)}", tables)


def drawn(problem: Problem, pins: TrainingSet, split: str, most: int, and_sets: Sequence[str] = ()) -> pa.Table:
    """`most` rows of a split, or all if there are fewer, in time's order: by a hash of the key, always the same.

    With those of the same split of other sets: what a model that was continued has learnt from before.
    """
    key = sql.quote(problem.key)
    text, tables = _joined(problem, pins, split, and_sets=and_sets)
    chosen = f"SELECT * FROM ({text}) ORDER BY hash({key}), {key} LIMIT {most}"
    return sql.query(f"SELECT * FROM ({chosen}) ORDER BY event_time, {key}", tables)


def _joined(
    problem: Problem,
    pins: TrainingSet,
    split: str,
    features_of: Problem | None = None,
    extra: Sequence[str] = (),
    and_sets: Sequence[str] = (),
) -> tuple[str, dict[str, pa.Table | ds.Dataset]]:
    """Query and tables of a split's rows, in no order."""
    features = store.dataset(features_of or problem, "features", pins.features_version)
    rows = training_set(problem, pins, split, [problem.key, "partition", "label", "weight"], and_sets)
    in_split = pc.field("partition").isin(rows["partition"].unique())
    more = [name for name in dict.fromkeys(extra) if name not in features.schema.names]
    key, tables = sql.quote(problem.key), {"s": rows, "f": features.filter(in_split)}
    chosen, joined = "", ""
    if more:
        events = store.dataset(problem, "events", pins.events_version).filter(in_split)
        tables["e"] = targets(events, datetime.fromisoformat(pins.as_of))
        chosen = "".join(f"e.{sql.quote(name)}, " for name in more)
        joined = f"JOIN e USING ({key}, partition)"
    text = f"""SELECT f.*, {chosen} {label_number(problem, "s.label")} AS label, s.weight
        FROM s JOIN f USING ({key}, partition) {joined}"""
    return text, tables


def with_features(problem: Problem, pins: TrainingSet, labelled: ds.Dataset) -> pa.Table:
    """Every row of the training set with all that is known of it: what `label` gave, weight, features."""
    key = sql.quote(problem.key)
    known = [name for name in labelled.schema.names if name not in problem.feature_names]
    return sql.query(
        f"""SELECT {", ".join(f"l.{sql.quote(name)}" for name in known)}, s.probability, s.weight,
                {", ".join(f"f.{sql.quote(name)}" for name in problem.feature_names)}
            FROM l JOIN s USING ({key}, partition) JOIN f USING ({key}, partition)
            ORDER BY l.event_time, l.{key}""",
        {
            "l": labelled,
            "s": training_set(problem, pins).select([problem.key, "partition", "probability", "weight"]),
            "f": store.dataset(problem, "features", pins.features_version),
        },
    )


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
    rows: pa.Table,
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
