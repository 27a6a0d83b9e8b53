"""score: features and scores of one shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.scoring import ScoredShard, Shard
from pipelines.paths import score_staging_uri
from pipelines.release.versions import version_problem
from pipelines.stages.score.shards import events_to_score

if TYPE_CHECKING:
    from pipelines.training.model import Model


def score(problem_name: str, shard: Shard) -> ScoredShard:
    """Stage features and scores of one shard; a retry replaces what an earlier try has left."""
    from pipelines import tracking
    from pipelines.features.featurize import featurize
    from pipelines.scoring.score import score as score_rows

    problem = problem_of(problem_name, shard)
    trained_problem = version_problem(problem, shard.version)
    model = tracking.load_model(shard.run_id)
    events = store.dataset(problem, "events", shard.events_version)
    labels = store.dataset(problem, "labels", shard.labels_version)
    rows_of_shard = sql.query(
        f"SELECT * FROM targets WHERE hash({sql.quote(problem.key)}) % $shards = $shard",
        {"targets": events_to_score(problem, shard.partition, shard.as_of, shard.events_version)},
        {"shards": shard.shards, "shard": shard.shard},
    )
    features = featurize(trained_problem, rows_of_shard, events, labels, problem.scoring.batch_rows)
    predicted = table_schema(problem, "predictions")
    schema = pa.schema(
        [
            *table_schema(trained_problem, "features"),
            *(predicted.field(name) for name in ("score", "decision", "probabilities")),
        ]
    )
    uri = score_staging_uri(problem, shard.partition, f"{shard.shard}")
    unseen: Counter[str] = Counter()
    rows = store.stage(uri, score_rows(model, _noting_unseen(model, features, unseen)), schema)
    return ScoredShard(
        config=shard.config,
        partition=shard.partition,
        version=shard.version,
        as_of=shard.as_of,
        uri=uri,
        rows=rows,
        events=shard.events,
        events_version=shard.events_version,
        unseen=dict(sorted(unseen.items())),
    )


def _noting_unseen(model: Model, features: Iterable[pa.RecordBatch], unseen: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The batches as they are; `unseen` grows by what is new to the model in each as it passes."""
    for batch in features:
        unseen.update(model.unseen(pa.Table.from_batches([batch])))
        yield batch
