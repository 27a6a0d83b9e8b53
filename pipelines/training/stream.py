"""Fits on rows that are not in memory: baselines, and XGBoost, out of core or by several workers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines import config
from pipelines.config import Candidate, Parameters, Preprocessing
from pipelines.dataset.reservoir import reservoir
from pipelines.errors import ConfigError
from pipelines.problem import Problem
from pipelines.training.assemble import class_factors, held_out_rows, new_model, require_columns, setting_of, weighed
from pipelines.training.boost import BoostedTrees
from pipelines.training.boost_parameters import on_kept
from pipelines.training.checks import explained, place, require_classes, require_weights
from pipelines.training.estimators import HELD_OUT, boosted_trees, fit_estimator
from pipelines.training.heuristic import heuristic
from pipelines.training.model import Model
from pipelines.training.workers.share import BATCH_ROWS, Share, edges, prepared

if TYPE_CHECKING:
    from pipelines.training.boost import Checkpoint
    from pipelines.training.workers.watch import Engine

TRIED_ROWS = 10_000  # by a heuristic
BINS_ROWS = 200_000  # that several workers' bins are made from


def fit_streamed(
    problem: Problem,
    name: str,
    train: ds.Dataset,
    validation: pa.Table,
    parameters: Parameters | None,
    checkpoint: Checkpoint | None,
) -> Model:
    """A scorer from rows that are read batch by batch; of all rows at once only label and weight are in memory.

    Raises:
        ConfigError: the candidate needs all rows at once.
    """
    candidate = problem.training.of(name)
    given = {**candidate.parameters, **(parameters or {})}
    _refuse_whole(problem, name, candidate)
    known = train.to_table(columns=["label", "weight"])
    y, weight = known["label"].to_numpy(), known["weight"].to_numpy()
    require_weights(y, weight)
    has_weight = weight > 0
    y, weight = y[has_weight], weight[has_weight]
    counted = train.filter(pc.field("weight") > 0)
    preprocessing = Preprocessing() if candidate.is_baseline else candidate.preprocessing or Preprocessing()
    model = new_model(problem, preprocessing)
    model.prepare.fit(counted)
    model.dropped, model.fitted_rows = dict(model.prepare.dropped_), len(y)
    setting = setting_of(problem, candidate, list(model.prepare.is_category_), model.prepared_names)
    if candidate.model == "heuristic":
        model.estimator = heuristic(problem, name).fit(counted.head(TRIED_ROWS), y, weight)
    elif candidate.is_baseline:
        model.estimator = fit_estimator(candidate.model, given, setting, np.empty((len(y), 0)), y, weight)
    else:
        require_classes(problem, y, f"training rows of {name}")
        require_columns(len(model.prepare.names_), name)
        factors = class_factors(problem, candidate, y, weight)

        def batches() -> Iterator[HELD_OUT]:
            return _batches(problem, model, counted, factors)

        with explained(problem, name, given):
            trees = boosted_trees(on_kept(given, model.dropped), setting)
            held_out = held_out_rows(model, validation, factors)
            if problem.training.has_workers(name, is_large=True):
                known = has_weight, y, weight
                model.estimator = _by_workers(problem, model, trees, train, factors, known, held_out, checkpoint)
            else:
                model.estimator = trees.fit_batches(batches, held_out, checkpoint)
    return model


def _by_workers(
    problem: Problem,
    model: Model,
    trees: BoostedTrees,
    train: ds.Dataset,
    factors: np.ndarray | None,
    known: tuple[np.ndarray, np.ndarray, np.ndarray],
    held_out: HELD_OUT | None,
    checkpoint: Checkpoint | None,
) -> BoostedTrees:
    """`trees`, fitted by the workers of training.engine, each on as many rows of `train`. `known`: which rows
    have a weight, and labels and weights of these."""
    from pipelines.training.workers.watch import Rows, learn_together

    training, prepare = problem.training, model.prepare
    assert training.engine is not None, "asked for by has_workers"
    count, files, columns = training.engine.workers, list(train.get_fragments()), _columns(problem)
    ends = edges(train.count_rows(), count)
    shares = [Share(files, columns, start, stop, prepare, factors) for start, stop in itertools.pairwise(ends)]
    batches = train.to_batches(columns=columns, filter=pc.field("weight") > 0, batch_size=BATCH_ROWS)
    _, sample = prepared(reservoir(batches, BINS_ROWS, training.seed), prepare, factors)
    has_weight, y, weight = known
    is_on_disk = ends[-1] * len(prepare.names_) * 4 / 2**20 > training.memory_limit_mb
    rows = Rows(shares, is_on_disk, sample, has_weight, y, weighed(weight, factors, y))
    threads = max(1, training.threads // count)
    return learn_together(trees, rows, held_out, checkpoint, _engine(training.engine, threads), threads)


def _engine(engine: config.Engine, threads: int) -> Engine:
    if engine.kind == "ray":
        from pipelines.training.workers.ray import Ray

        return Ray(engine.address, threads)
    from pipelines.training.workers.processes import Processes

    return Processes(threads)


def _refuse_whole(problem: Problem, name: str, candidate: Candidate) -> None:
    """By several workers too: those that there are for any number of rows the config has refused already."""
    needs = problem.needs_all_rows(name)
    if not needs:
        return
    cure = "or leave that out" if candidate.model == "xgboost" else "or let a candidate of the model xgboost compete"
    raise ConfigError(
        "the training rows are read from disk, batch by batch, as they are more than training.memory_limit_mb; "
        f"{', '.join(needs)} cannot do that",
        where=place(problem, name),
        cure=f"set training.memory_limit_mb higher, draw fewer rows (dataset.sampling), {cure}",
    )


def _columns(problem: Problem) -> list[str]:
    return [*problem.feature_names, "label", "weight"]


def _batches(problem: Problem, model: Model, train: ds.Dataset, factors: np.ndarray | None) -> Iterator[HELD_OUT]:
    """Matrix, labels and weights, batch by batch, in the dataset's order."""
    scanned = train.to_batches(
        columns=_columns(problem), batch_size=BATCH_ROWS, batch_readahead=1, fragment_readahead=1
    )
    for batch in scanned:
        _, rows = prepared(pa.Table.from_batches([batch]), model.prepare, factors)
        if len(rows[0]):
            yield rows
