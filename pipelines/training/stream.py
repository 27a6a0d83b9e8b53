"""Fits on more rows than memory holds: baselines, and XGBoost out of core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines.config import Candidate, Parameters, Preprocessing
from pipelines.errors import ConfigError
from pipelines.problem import Problem
from pipelines.training.assemble import class_factors, held_out_rows, new_model, require_columns, setting_of
from pipelines.training.boost_parameters import on_kept
from pipelines.training.checks import explained, place, refuse_unused, require_classes, require_weights
from pipelines.training.estimators import HELD_OUT, boosted_trees, fit_estimator
from pipelines.training.heuristic import heuristic
from pipelines.training.model import Model

if TYPE_CHECKING:
    from pipelines.training.boost import Checkpoint

BATCH_ROWS = 65_536
TRIED_ROWS = 10_000  # by a heuristic


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
    refuse_unused(problem, name, given)
    _refuse_whole(problem, name, candidate)
    known = train.to_table(columns=["label", "weight"])
    y, weight = known["label"].to_numpy(), known["weight"].to_numpy()
    require_weights(y, weight)
    y, weight = y[weight > 0], weight[weight > 0]
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
            model.estimator = boosted_trees(on_kept(given, model.dropped), setting).fit_batches(
                batches, held_out_rows(model, validation, factors), checkpoint
            )
    return model


def _refuse_whole(problem: Problem, name: str, candidate: Candidate) -> None:
    dataset = problem.dataset
    needs = {
        f"model {candidate.model}": candidate.model != "xgboost",
        "selection": candidate.selection is not None and candidate.selection.method != "none",
        "calibration": candidate.calibration is not None and candidate.calibration.method != "none",
        "dataset.resampling": dataset.resampling.method != "none",
        "dataset.augmentation": dataset.augmentation.method != "none",
    }
    if not candidate.is_baseline and any(needs.values()):
        raise ConfigError(
            f"the training rows are read from disk, batch by batch, as they are more than training.memory_limit_mb; "
            f"{', '.join(what for what, is_there in needs.items() if is_there)} cannot do that",
            where=place(problem, name),
            cure="set training.memory_limit_mb higher, draw fewer rows (dataset.sampling), or take xgboost without it",
        )


def _batches(problem: Problem, model: Model, train: ds.Dataset, factors: np.ndarray | None) -> Iterator[HELD_OUT]:
    """Matrix, labels and weights, batch by batch, in the dataset's order."""
    columns = [*problem.feature_names, "label", "weight"]
    for batch in train.to_batches(columns=columns, batch_size=BATCH_ROWS, batch_readahead=1, fragment_readahead=1):
        rows = pa.Table.from_batches([batch])
        used = model.prepare.used(rows)
        if used.any():
            y, weight = rows["label"].to_numpy()[used], rows["weight"].to_numpy()[used]
            weighed = weight if factors is None else weight * factors[y.astype(np.int64)]
            yield model.prepare.transform(rows)[used], y, weighed
