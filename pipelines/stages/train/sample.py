"""sample: which of the labelled rows a model learns from, and in what shares their features are computed."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import store
from pipelines.dataset import training_sets
from pipelines.dataset.shares import shares
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import Labelled, Sampled, Share, TrainingSet
from pipelines.paths import labelled_uri, train_staging_uri
from pipelines.problem import Problem


def sample(problem_name: str, labelled: Labelled) -> list[Share]:
    """Write the training set: the rows that are used, their split and weight. Its partitions are parted into shares, of
    which `featurize` takes one each.

    Its id is the hash of all it is made of, so equal sets are one set. Validation and test hold what happened, and
    never what somebody guessed.
    """
    problem = problem_of(problem_name, labelled)
    if done := store.finished(train_staging_uri(problem, labelled.training), Sampled):
        return _in_shares(problem, done)
    pool = store.staged(labelled_uri(problem, labelled.training))
    pins = TrainingSet(
        as_of=labelled.as_of,
        events_version=labelled.events_version,
        labels_version=labelled.labels_version,
        training_set=_id(problem, labelled),
        training_set_version=None,
    )
    schema, batches = training_sets.sampled(problem, pool)
    named = schema.append(pa.field("training_set", pa.string()))
    rows = (_of_set(batch, pins.training_set, named) for batch in batches)
    reader = pa.RecordBatchReader.from_batches(named, rows)
    version = store.write_table(problem, "training_sets", reader, [pins.training_set])
    pins = pins.model_copy(update={"training_set_version": version})
    counts = training_sets.split_rows(problem, pins)
    labelled_rows = training_sets.usable(problem, pool).count_rows(filter=pc.field("label").is_valid())
    return _in_shares(
        problem,
        Sampled(
            **labelled.model_dump(),
            training_set=pins.training_set,
            training_set_version=version,
            splits=counts,
            not_drawn=labelled_rows - sum(counts.values()),
        ),
    )


def _in_shares(problem: Problem, sampled: Sampled) -> list[Share]:
    keys = training_sets.partitions(problem, sampled)
    parted = shares(keys, store.partition_rows(problem, "events"))
    if len(parted) > 1:  # their tasks may be the first that write features, and be it at once
        store.make_table(problem, "features")
    return [Share(**sampled.model_dump(), partitions=partitions) for partitions in parted]


def _of_set(rows: pa.RecordBatch, training_set: str, schema: pa.Schema) -> pa.RecordBatch:
    name = pa.repeat(pa.scalar(training_set, pa.string()), rows.num_rows)
    return pa.RecordBatch.from_arrays([*rows.columns, name], schema=schema)


def _id(problem: Problem, labelled: Labelled) -> str:
    """The hash of all that a training set is made of."""
    handed_on = labelled.model_dump(mode="json")
    pinned = ("partition", "as_of", "events_version", "labels_version", "window_from", "held", "held_out", "waiting")
    made_of = [handed_on[name] for name in pinned]
    made_of += [problem.dataset.model_dump(mode="json"), problem.labels.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
