"""score: features and scores of one shard."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.errors import EvergreenError, TransientError
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.scoring import ScoredShard, Shard
from pipelines.paths import score_staging_uri
from pipelines.release.versions import load_version, version_problem
from pipelines.stages.score.shards import events_to_score

if TYPE_CHECKING:
    from pipelines.training.model import Model

log = logging.getLogger(__name__)


def score(problem_name: str, shard: Shard) -> ScoredShard:
    """Stage features and scores of one shard; a retry replaces what an earlier try has left.

    What is wrong with a challenger is noted, and stops nothing: its champion's partition is published all the same.
    """
    if shard.variant == "champion":
        return _score(problem_name, shard)
    try:
        return _score(problem_name, shard)
    except Exception as error:
        if isinstance(error, TransientError | OSError) and not isinstance(error, FileNotFoundError):
            raise  # it may do better in a minute
        log.warning("version %s, a challenger, cannot score: %s", shard.version, error, exc_info=True)
        what = error.what if isinstance(error, EvergreenError) else str(error)
        return _scored(shard, failed=f"{type(error).__name__}: {what}".splitlines()[0])


def _score(problem_name: str, shard: Shard) -> ScoredShard:
    from pipelines.features.featurize import featurize
    from pipelines.scoring.score import score as score_rows

    problem = problem_of(problem_name, shard)
    trained_problem = version_problem(problem, shard.version)
    model = load_version(problem, shard.version, shard.run_id)
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
    place = f"{shard.shard}" if shard.variant == "champion" else f"{shard.variant}-{shard.shard}"
    uri = score_staging_uri(problem, shard.partition, place)
    unseen: Counter[str] = Counter()
    rows = store.stage(uri, score_rows(model, _noting_unseen(model, features, unseen)), schema)
    return _scored(shard, uri=uri, rows=rows, unseen=dict(sorted(unseen.items())))


def _scored(
    shard: Shard, *, uri: str = "", rows: int = 0, unseen: dict[str, int] | None = None, failed: str | None = None
) -> ScoredShard:
    return ScoredShard(
        config=shard.config,
        partition=shard.partition,
        variant=shard.variant,
        assignment=shard.assignment,
        failed=failed,
        version=shard.version,
        as_of=shard.as_of,
        uri=uri,
        rows=rows,
        events=shard.events,
        events_version=shard.events_version,
        unseen=unseen or {},
    )


def _noting_unseen(model: Model, features: Iterable[pa.RecordBatch], unseen: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The batches as they are; `unseen` grows by what is new to the model in each as it passes."""
    for batch in features:
        unseen.update(model.unseen(pa.Table.from_batches([batch])))
        yield batch
