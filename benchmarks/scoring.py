"""Scoring a Parquet file to a Parquet file: Evergreen's pipeline against bare XGBoost on a ready float matrix.

    python -m benchmarks.scoring [rows]

The reference reads numbers only and calls `inplace_predict`: no names checked, no categories, the least there is.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.arguments import one_number
from benchmarks.measure import compare
from pipelines.config import Candidate
from pipelines.problem import load_problem
from pipelines.scoring.score import score
from pipelines.training.fit import fit

BATCH_ROWS = 65_536


def rows(count: int, seed: int) -> pa.Table:
    """Rows shaped like the default problem's features: four categories, the rest numbers."""
    random = np.random.default_rng(seed)
    problem = load_problem("flight_delay")
    table = {}
    for name in problem.feature_names:
        if name in problem.categorical_features:
            table[name] = pa.array(random.integers(0, 40, count)).cast(pa.string())
        else:
            table[name] = pa.array(random.normal(size=count))
    chance = 1 / (1 + np.exp(1 - table["temp"].to_numpy() - table["distance"].to_numpy()))
    table["label"] = pa.array((random.random(count) < chance).astype(np.int8))
    table["weight"] = pa.array(np.ones(count))
    table["partition"] = pa.array(["2013-01-07"] * count)
    return pa.table(table)


def main(count: int) -> None:
    problem = load_problem("flight_delay")
    fixed = Candidate(model="xgboost", parameters={"n_estimators": 100, "max_depth": 6})
    training = problem.training.model_copy(update={"candidates": {"xgboost": fixed}})
    learnt = min(count, 50_000)
    model = fit(problem.model_copy(update={"training": training}), "xgboost", rows(learnt, 1), rows(learnt // 10, 2))
    booster = model.estimator.booster_
    with tempfile.TemporaryDirectory() as folder:
        source, encoded, target = (Path(folder) / name for name in ("rows.parquet", "matrix.parquet", "scores.parquet"))
        table = rows(count, 3).select(problem.feature_names)
        pq.write_table(table, source)
        matrix = model.matrix(table)
        pq.write_table(pa.table({name: matrix[:, n] for n, name in enumerate(model.prepared_names)}), encoded)
        schema = pa.schema([("score", pa.float64())])

        def ours() -> None:
            with pq.ParquetWriter(target, schema) as writer:
                for batch in score(model, ds.dataset(source).to_batches(batch_size=BATCH_ROWS)):
                    writer.write_batch(batch.select(["score"]))

        def reference() -> None:
            with pq.ParquetWriter(target, schema) as writer:
                for batch in ds.dataset(encoded).to_batches(batch_size=BATCH_ROWS):
                    numbers = np.column_stack([column.to_numpy() for column in batch.columns])
                    scores = booster.inplace_predict(numbers).astype(np.float64)
                    writer.write_batch(pa.record_batch([pa.array(scores)], schema=schema))

        compare(f"scoring {count:,} rows, 100 trees of depth 6", ours, reference)


if __name__ == "__main__":
    main(one_number(__doc__, "rows", 1_000_000))
