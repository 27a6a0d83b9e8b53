"""report: all that is found out about one model on rows that it has not seen."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.documents.evaluation import Report, Resampling
from pipelines.errors import DataError
from pipelines.evaluation.report.calibration import calibration
from pipelines.evaluation.report.drift import drift
from pipelines.evaluation.report.operating import curves
from pipelines.metrics.bootstrap import blocks_of, drawn_blocks, intervals
from pipelines.metrics.scored import Scored, scored
from pipelines.vectors.measures import measured, measured_names

if TYPE_CHECKING:
    from pipelines.problem import Problem
    from pipelines.training.model import Model

TIMED_ROWS = 25


def report(
    problem: Problem,
    model: Model,
    rows: pa.Table,
    *,
    name: str,
    run_id: str,
    train_rows: pa.Table,
    groups: pa.Table | None = None,
) -> Report:
    """What the gate judges and the pages show; plain JSON, None for what is not defined.

    rows: the test split, features and `label` (as numbers), `weight`, `partition`, `event_time`. train_rows: a sample
    of the training split, to compare with. groups: columns of `evaluation.fairness.groups`, in the order of `rows`.
    latency_ms, rows_per_s and size_bytes are of this machine; all else depends on the arguments alone.

    Raises:
        DataError: there are no rows.
    """
    from pipelines.evaluation.report.behaviour import behaviours
    from pipelines.evaluation.report.fairness import fairness
    from pipelines.evaluation.report.importance import importances
    from pipelines.evaluation.report.slices import slices

    if not rows.num_rows:
        raise DataError("the test split has no rows", where=f"report on {name}", cure="widen dataset.split")
    features = rows.select(model.features)
    start = time.perf_counter()
    scores = model.scores(features)
    seconds = time.perf_counter() - start
    outcome = scored(problem, rows["label"].to_numpy(), scores, rows["weight"].to_numpy(), model.threshold)
    blocks, settings = blocks_of(problem, rows), problem.evaluation
    times = pc.min_max(rows["event_time"]).as_py()
    train_scores = model.scores(train_rows.select(model.features)) if train_rows.num_rows else scores[:0]
    vectors = problem.vector_features
    learnt, tested = (measured(side, vectors) for side in (train_rows, rows))
    names = measured_names(model.features, vectors)
    wants_groups = settings.fairness is not None
    result: Report = {
        "candidate": name,
        "run_id": run_id,
        "task": problem.task,
        "classes": list(problem.classes),
        "rows": rows.num_rows,
        "partitions": sorted(set(rows["partition"].to_pylist())),
        "first_event": times["min"].isoformat(),
        "last_event": times["max"].isoformat(),
        "declared": {
            "baselines": list(problem.training.baselines),
            "behaviours": list(settings.behaviours),
            "groups": list(settings.fairness.groups) if settings.fairness else [],
        },
        "metrics": intervals(outcome, blocks, settings.bootstrap),
        "bootstrap": _bootstrap(problem, blocks[outcome.weights > 0]),
        "threshold": float(model.threshold),
        "distinct_scores": len(np.unique(scores, axis=0)),
        "confusion": confusion(outcome),
        "curves": curves(outcome),
        "calibration": calibration(outcome),
        "slices": slices(problem, rows, outcome, blocks),
        "fairness": fairness(problem, groups, outcome, blocks) if wants_groups and groups is not None else None,
        "behaviours": behaviours(problem, model, rows, outcome.labels),
        "importances": importances(problem, model, rows),
        "drift": drift(learnt, tested, names, train_scores, scores),
        "latency_ms": _latency_ms(model, features),
        "rows_per_s": rows.num_rows / max(seconds, 1e-9),
        "size_bytes": _size_bytes(model),
        "dropped": dict(model.dropped),
        "unseen": model.unseen(features),
    }
    plain: Report = _plain(result)
    return plain


def confusion(scored: Scored) -> list[list[float]] | None:
    """Weight of the rows, actual x decided; None of a regression."""
    if scored.task == "regression":
        return None
    size = len(scored.classes)
    cells = np.bincount(scored.labels * size + scored.decisions, scored.weights, size * size)
    table: list[list[float]] = cells.astype(np.float64).reshape(size, size).tolist()
    return table


def _bootstrap(problem: Problem, blocks: Any) -> Resampling:
    """How the intervals were made, and by what: rows where there were too few blocks."""
    rule, count = problem.evaluation.bootstrap, len(np.unique(blocks))
    drawn = len(np.unique(drawn_blocks(blocks)))
    block = rule.block if drawn == count else "row"
    return {"block": block, "blocks": drawn, "resamples": rule.resamples, "confidence": rule.confidence}


def _latency_ms(model: Model, features: pa.Table) -> float:
    """Median over single rows, the first of which only warms up."""
    places = np.linspace(0, features.num_rows - 1, TIMED_ROWS).astype(int)
    taken = []
    for place in places.tolist():
        row = features.slice(place, 1)
        start = time.perf_counter()
        model.scores(row)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:]) * 1000)


def _size_bytes(model: Model) -> int:
    from skops.io import dumps

    return len(dumps(model))


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(element) for key, element in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
