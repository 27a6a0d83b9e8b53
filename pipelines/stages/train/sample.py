"""sample: which of the labelled rows a model learns from."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa

from pipelines import store
from pipelines.dataset import training_sets
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import Labelled, Sampled
from pipelines.paths import labelled_uri, train_staging_uri
from pipelines.problem import Problem


def sample(problem_name: str, labelled: Labelled) -> Sampled:
    """Write the training set: the rows that are used, their split and weight.

    Its id is the hash of all it is made of, so equal sets are one set. Validation and test hold what happened, and
    never what somebody guessed.
    """
    problem = problem_of(problem_name, labelled)
    if done := store.finished(train_staging_uri(problem, labelled.training), Sampled):
        return done
    pool = store.staged(labelled_uri(problem, labelled.training))
    rows = training_sets.sampled(problem, pool)
    usable = training_sets.usable(problem, pool)
    training_set = _id(problem, labelled)
    rows = rows.append_column("training_set", pa.array([training_set] * rows.num_rows, pa.string()))
    version = store.write_table(problem, "training_sets", rows, [training_set])
    counts = {str(row["values"]): int(row["counts"]) for row in rows["split"].value_counts().to_pylist()}
    return Sampled(
        **labelled.model_dump(),
        training_set=training_set,
        training_set_version=version,
        splits=counts,
        not_drawn=len(usable) - usable["label"].null_count - len(rows),
    )


def _id(problem: Problem, labelled: Labelled) -> str:
    """The hash of all that a training set is made of."""
    handed_on = labelled.model_dump(mode="json")
    pinned = ("partition", "as_of", "events_version", "labels_version", "window_from", "held", "held_out", "waiting")
    made_of = [handed_on[name] for name in pinned]
    made_of += [problem.dataset.model_dump(mode="json"), problem.labels.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
