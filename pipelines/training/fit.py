"""From training rows to a model: in what order a candidate is prepared, fitted, calibrated and given a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines.config import Parameters, Preprocessing
from pipelines.dataset.augment import augment
from pipelines.dataset.fingerprint import fingerprint
from pipelines.dataset.resample import resample
from pipelines.errors import DataError
from pipelines.metrics.threshold import choose_threshold
from pipelines.problem import Problem
from pipelines.training.assemble import (
    calibration_of,
    class_factors,
    held_out_rows,
    new_model,
    require_columns,
    rows_apart,
    setting_of,
    weighed,
)
from pipelines.training.boost_parameters import on_kept
from pipelines.training.calibrate import fit_calibrator
from pipelines.training.checks import (
    explained,
    require_classes,
    require_weights,
)
from pipelines.training.estimators import STOPS_EARLY, fit_estimator
from pipelines.training.model import Model
from pipelines.training.select import select

if TYPE_CHECKING:
    from pipelines.training.boost import Checkpoint


def fit(
    problem: Problem,
    name: str,
    train: pa.Table | ds.Dataset,
    validation: pa.Table,
    *,
    parameters: Parameters | None = None,
    checkpoint: Checkpoint | None = None,
) -> Model:
    """The candidate `name`, fitted; `parameters` over its own, of an ensemble also {part: {parameter: value}}.

    Rows hold the features, `label` (codes of classes; values) and `weight`, those of `train` also `partition`; they
    are in time's order. All is learnt from `train`: validation rows only tell boosted trees when to stop, and choose
    the threshold. A row that weighs 0 is as if it were not there. The same rows and seed give the same model, bit for
    bit. A Dataset is read batch by batch; then only baselines and xgboost can be fitted.

    Raises:
        ConfigError: parameters or settings are not the candidate's, or do not go together.
        DataError: the rows are too few, or of one class.
    """
    if isinstance(train, ds.Dataset):
        from pipelines.training.stream import fit_streamed

        model = fit_streamed(problem, name, train, validation, parameters, checkpoint)
    else:
        model = fit_scorer(problem, name, train, validation, parameters, checkpoint)
    model.learnt_from = fingerprint(problem, train)
    model.threshold = problem.training.threshold.value
    if problem.training.threshold.by != "fixed":
        labels, weight = validation["label"].to_numpy(), validation["weight"].to_numpy()
        model.threshold = choose_threshold(problem, model.scores(validation), labels, weight)
    return model


def fit_scorer(
    problem: Problem,
    name: str,
    train: pa.Table,
    validation: pa.Table,
    parameters: Parameters | None = None,
    checkpoint: Checkpoint | None = None,
) -> Model:
    """As `fit`, but for the threshold, which the scores of a part of an ensemble do not need."""
    candidate = problem.training.of(name)
    given = {**candidate.parameters, **(parameters or {})}
    require_weights(train["label"].to_numpy(), train["weight"].to_numpy())
    counts = pc.greater(train["weight"], 0)
    train = train if pc.all(counts).as_py() else train.filter(counts)
    calibration = calibration_of(problem, candidate, name)
    fitted_on, calibrating = rows_apart(train, calibration)
    if candidate.is_baseline or candidate.of:
        model = _by_rows(problem, name, fitted_on, validation, given)
    else:
        model = _by_matrix(problem, name, fitted_on, validation, given, checkpoint)
    if calibrating is not None:
        labels, weight = calibrating["label"].to_numpy(), calibrating["weight"].to_numpy()
        model.calibration = fit_calibrator(calibration, model.raw_scores(calibrating), labels, weight)
    return model


def _by_rows(problem: Problem, name: str, train: pa.Table, validation: pa.Table, parameters: Parameters) -> Model:
    """A baseline, which learns from the rows as they are, or an ensemble, whose parts prepare them themselves."""
    from pipelines.training.ensemble import fit_ensemble
    from pipelines.training.heuristic import heuristic

    candidate = problem.training.of(name)
    y, weight = train["label"].to_numpy(), train["weight"].to_numpy()
    model = new_model(problem, Preprocessing())
    model.prepare.fit(train, y, weight)
    model.dropped, model.fitted_rows = dict(model.prepare.dropped_), len(y)
    if candidate.of:
        model.estimator = fit_ensemble(problem, name, train, validation, parameters, fit_scorer)
    elif candidate.model == "heuristic":
        model.estimator = heuristic(problem, name).fit(train, y, weight)
    else:
        setting = setting_of(problem, candidate, [], [])
        model.estimator = fit_estimator(candidate.model, parameters, setting, np.empty((len(y), 0)), y, weight)
    return model


def _by_matrix(
    problem: Problem,
    name: str,
    train: pa.Table,
    validation: pa.Table,
    parameters: Parameters,
    checkpoint: Checkpoint | None,
) -> Model:
    """A candidate that learns from a prepared matrix."""
    candidate, training, dataset = problem.training.of(name), problem.training, problem.dataset
    features, categories = problem.feature_names, problem.categorical_features
    preprocessing = candidate.preprocessing or Preprocessing()
    require_classes(problem, train["label"].to_numpy(), f"training rows of {name}")
    rows = resample(train, features, categories, dataset.resampling)
    real = min(train.num_rows, rows.num_rows)  # made and repeated rows follow the real ones
    rows = augment(rows, features, categories, dataset.augmentation)
    y, weight = rows["label"].to_numpy(), rows["weight"].to_numpy()

    model = new_model(problem, preprocessing)
    matrix = model.prepare.fit_transform(rows, y, weight)
    used = model.prepare.used(rows)
    if not used.all():
        matrix, y, weight, real = matrix[used], y[used], weight[used], int(used[:real].sum())
        if not len(y):
            raise DataError(
                "every row misses a number, and such rows are left out",
                where=f"training.candidates.{name}",
                cure="fill what is missing (preprocessing.missing.method: median)",
            )
        require_classes(problem, y, f"training rows of {name} that miss no number")
    model.dropped, model.fitted_rows = dict(model.prepare.dropped_), len(y)
    is_category = list(model.prepare.is_category_)
    if candidate.selection is not None and candidate.selection.method != "none":
        model.kept, unselected = select(
            candidate.selection,
            matrix[:real],
            y[:real],
            weight[:real],
            list(model.prepare.names_),
            list(model.prepare.origin_),
            is_category,
            problem.task,
            training.seed,
        )
        model.dropped |= unselected
        matrix, is_category = matrix[:, model.kept], [is_category[column] for column in model.kept]
    require_columns(matrix.shape[1], name)

    factors = class_factors(problem, candidate, y, weight)
    held_out = held_out_rows(model, validation, factors) if candidate.model in STOPS_EARLY else None
    setting = setting_of(problem, candidate, is_category, model.prepared_names)
    with explained(problem, name, parameters):
        model.estimator = fit_estimator(
            candidate.model,
            on_kept(parameters, model.dropped),
            setting,
            matrix,
            y,
            weighed(weight, factors, y),
            held_out,
            checkpoint,
        )
    return model
