"""held_out: the test rows that go with a version, with its scores: what its performance is estimated from."""

from __future__ import annotations

import io
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.dataset.draw import sample
from pipelines.metrics.scored import Scored, scored
from pipelines.problem import Problem

ROWS = 20_000  # at most: about 1 MB of 20 features, and enough for an AUC to within .005


class HeldOut(NamedTuple):
    """Test rows of a version: `rows` has the features, partition and event_time, `scored` what it made of them."""

    rows: pa.Table
    scored: Scored


def to_parquet(problem: Problem, test: pa.Table, tested: Scored) -> bytes:
    """The file that goes with a version, its threshold included; of more than 20,000 rows a sample, by training.seed.

    Args:
        test: rows of the test split with partition, event_time and the features.
        tested: labels, scores and weights of these very rows, in their order.
    """
    rows = test.select(_names(problem))
    numbers = {
        "label": pa.array(tested.labels),
        "weight": pa.array(tested.weights),
        "scores": pa.FixedSizeListArray.from_arrays(tested.scores.ravel(), tested.scores[:1].size),
    }
    for name, values in numbers.items():
        rows = rows.append_column(f"_{name}", values)
    kept = sample(rows, ROWS, problem.training.seed).replace_schema_metadata({"threshold": repr(tested.threshold)})
    sink = io.BytesIO()
    pq.write_table(kept, sink, compression="zstd")
    return sink.getvalue()


def from_parquet(problem: Problem, content: bytes) -> HeldOut:
    """What `to_parquet` wrote. `problem` is the config that the version was trained with."""
    rows = pq.read_table(pa.BufferReader(content))
    scores = pc.list_flatten(rows["_scores"].combine_chunks()).to_numpy().reshape(rows.num_rows, -1)
    tested = scored(
        problem,
        rows["_label"].to_numpy(),
        scores if problem.task == "multiclass" else scores[:, 0],
        rows["_weight"].to_numpy(),
        float(rows.schema.metadata[b"threshold"]),
    )
    return HeldOut(rows.select(_names(problem)), tested)


def _names(problem: Problem) -> list[str]:
    return ["partition", "event_time", *problem.feature_names]
