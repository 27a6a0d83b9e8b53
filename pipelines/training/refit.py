"""refit: the recipe of a tested model, fitted once more on newer rows too, as long as it was fitted.

What was searched, chosen or stopped by held-out rows is taken from the tested model, since the rows that said so are
learnt from now: parameters, boosting rounds, the decision threshold. What is learnt from training rows is learnt anew:
preparation, selection, the estimator, and a calibration, on its own newest partitions of them.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.dataset as ds

from pipelines.config import Parameters
from pipelines.dataset.fingerprint import fingerprint
from pipelines.problem import Problem
from pipelines.training.boost import BoostedTrees
from pipelines.training.boost_parameters import depth
from pipelines.training.checkpoint import Checkpoint
from pipelines.training.fit import fit_scorer
from pipelines.training.model import Model
from pipelines.training.update import continued, recalibrated


def as_long(problem: Problem, name: str, model: Model) -> Parameters:
    """Parameters with which a fit of candidate `name` lasts as long as that of `model` did, and looks at no held-out
    rows; of an ensemble {part: {parameter: value}}. Empty where nothing stops early.

    The depth of trees goes with their number: where nobody gave it, it is the one that so many rows had, whatever more
    rows would get.
    """
    candidate = problem.training.candidates[name]
    if candidate.of:
        parts = zip(candidate.of, model.estimator.models, strict=True)
        return {part: length for part, fitted in parts if (length := as_long(problem, part, fitted))}
    if candidate.model == "xgboost":
        length = {"n_estimators": int(model.estimator.rounds_), "early_stopping_rounds": None}
        is_sized = model.estimator.parameters.get("max_depth") is None
        return length | ({"max_depth": depth(model.fitted_rows)} if is_sized else {})
    if candidate.model == "hist_boosting":
        return {"max_iter": int(model.estimator.n_iter_), "early_stopping": False}
    return {}


def refitted(
    problem: Problem,
    name: str,
    tested: Model,
    rows: pa.Table | ds.Dataset,
    parameters: Parameters,
    checkpoint: Checkpoint | None = None,
) -> Model:
    """The candidate fitted from scratch on `rows`, which are as for `fit`, for as long as `tested` was.

    `parameters`: those that `tested` was fitted with, over the candidate's own. The same rows, parameters and tested
    model give the same model, bit for bit.

    Raises:
        ConfigError, DataError: as `fit`.
    """
    given = _over({**problem.training.candidates[name].parameters, **parameters}, as_long(problem, name, tested))
    nothing = rows.schema.empty_table()
    if isinstance(rows, ds.Dataset):
        from pipelines.training.stream import fit_streamed

        model = fit_streamed(problem, name, rows, nothing, given, checkpoint)
    else:
        model = fit_scorer(problem, name, rows, nothing, given, checkpoint)
    model.learnt_from = fingerprint(problem, rows)
    model.threshold = tested.threshold
    _keep_recipe(model, tested)
    return model


def updated_again(
    problem: Problem, name: str, how: str, tested: Model, tested_base: Model, serving: Model, rows: pa.Table
) -> Model:
    """The update that made `tested` of `tested_base`, done to `serving`, the refitted twin of that base, on `rows`:
    those that `serving` has not learnt from.

    Continued by as many rounds as were added to the base; where none were, its scores are calibrated anew. The decision
    threshold is the tested one's, as what monitoring knows of the version is of that.

    Raises:
        ConfigError, DataError: as `continued` and `recalibrated`.
    """
    rounds = 0
    if how == "continue" and isinstance(tested.estimator, BoostedTrees):
        rounds = tested.estimator.rounds_ - tested_base.estimator.rounds_
    if rounds:
        model = continued(problem, name, serving, rows, rows.slice(0, 0), rounds)
        _keep_recipe(model, tested)
    else:
        model = recalibrated(problem, serving, rows)
    model.threshold = tested.threshold
    return model


def _keep_recipe(model: Model, tested: Model) -> None:
    """Let a later update of `model` go by what was asked for, and stop early where that does, as one of `tested`."""
    if isinstance(model.estimator, BoostedTrees):
        asked, own = tested.estimator.parameters, model.estimator.parameters
        lasting = {key: asked.get(key) for key in ("n_estimators", "early_stopping_rounds", "max_depth")}
        model.estimator.parameters = {key: value for key, value in (own | lasting).items() if value is not None}


def _over(parameters: Parameters, lasting: Parameters) -> Parameters:
    """Those of a part of an ensemble one by one.

    >>> _over({"trees": {"max_depth": 3}}, {"trees": {"n_estimators": 40}})
    {'trees': {'max_depth': 3, 'n_estimators': 40}}
    """
    over = {**parameters, **lasting}
    for part, own in lasting.items():
        asked = parameters.get(part)
        if isinstance(own, dict) and isinstance(asked, dict):
            over[part] = {**asked, **own}
    return over
