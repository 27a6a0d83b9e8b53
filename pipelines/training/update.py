"""update: a champion that goes on with new rows, instead of one that is trained from scratch.

Two ways beside training from scratch (Huyen, ch. 9, stateless and stateful training): to continue, which adds trees to
those that are there, and to recalibrate, which leaves the trees and corrects what their scores mean.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Calibration, did_you_mean
from pipelines.dataset.augment import augment
from pipelines.dataset.fingerprint import fingerprint
from pipelines.dataset.resample import resample
from pipelines.errors import ConfigError
from pipelines.metrics.threshold import choose_threshold
from pipelines.problem import Problem
from pipelines.training.assemble import calibration_of, class_factors, held_out_rows, rows_apart, setting_of, weighed
from pipelines.training.boost import BoostedTrees
from pipelines.training.boost_parameters import PATIENCE, stops_by_itself
from pipelines.training.calibrate import Isotonic, fit_calibrator
from pipelines.training.checks import explained, require_classes, require_weights
from pipelines.training.estimators import boosted_trees
from pipelines.training.model import Model

WHERE = "training.update in problem.yaml"


def why_not_continued(problem: Problem, name: str, champion: Model) -> str | None:
    """Why `champion`, a model of candidate `name`, can only be trained from scratch; None: it can be continued."""
    candidates, update = problem.training.candidates, problem.training.update
    if name not in candidates:
        return f"{name!r} is no candidate any more{did_you_mean(name, candidates)}"
    if candidates[name].model != "xgboost" or not isinstance(champion.estimator, BoostedTrees):
        return f"only xgboost adds to what it has learnt, and {name} is a {candidates[name].model}"
    if set(champion.features) != set(problem.feature_names):
        return "it was trained with other features than the problem has today"
    if (champion.task, champion.classes) != (problem.task, problem.classes):
        return "it was trained for other classes than the problem has today"
    if champion.estimator.rounds_ >= update.max_rounds:
        return f"it has {champion.estimator.rounds_} rounds, and training.update.max_rounds is {update.max_rounds}"
    return None


def why_not_recalibrated(champion: Model) -> str | None:
    """Why a model cannot be calibrated again; None: it can."""
    return "a regression gives values, and no probabilities to calibrate" if champion.task == "regression" else None


def updated(problem: Problem, name: str, how: str, champion: Model, rows: pa.Table, validation: pa.Table) -> Model:
    """The champion continued or recalibrated (`how`) on the training and validation rows of a training run.

    A recalibration learns from both: nothing has to stop early, and the newest rows say the most.

    Raises:
        ConfigError, DataError: as `continued` and `recalibrated`.
    """
    if how == "recalibrate":
        return recalibrated(problem, champion, pa.concat_tables([rows.select(validation.schema.names), validation]))
    return continued(problem, name, champion, rows, validation)


def continued(
    problem: Problem, name: str, champion: Model, rows: pa.Table, validation: pa.Table, rounds: int | None = None
) -> Model:
    """The champion, with trees added that learn from `rows` alone: those that it has not seen yet.

    `rows` and `validation` are as for `fit`. The champion's preparation stays as it is, so a category that is new since
    is to the added trees what it is to the old ones: unseen. So do its parameters, those that a search found among
    them; training.update says how many rounds are added and how fast they learn. Where the candidate stops early, the
    champion as it is counts as the first round: if nothing is better on `validation`, no tree is added. Calibration
    and threshold are learnt anew, as for `fit`. With `rounds` so many trees are added, `validation` is not looked at
    and the threshold stays. The same champion and rows give the same model, bit for bit.

    Raises:
        ConfigError: such a model cannot be continued (`why_not_continued`), or its parameters are wrong.
        DataError: the rows are too few, or of one class.
    """
    if reason := why_not_continued(problem, name, champion):
        raise _refused("continued", reason)
    require_weights(rows["label"].to_numpy(), rows["weight"].to_numpy())
    candidate, dataset = problem.training.of(name), problem.dataset
    calibration = calibration_of(problem, candidate, name)
    fitted_on, calibrating = rows_apart(rows.filter(pc.greater(rows["weight"], 0)), calibration)
    made = resample(fitted_on, problem.feature_names, problem.categorical_features, dataset.resampling)
    made = augment(made, problem.feature_names, problem.categorical_features, dataset.augmentation)
    made = made.filter(pa.array(champion.prepare.used(made)))
    y, weight = made["label"].to_numpy(), made["weight"].to_numpy()
    require_classes(problem, y, f"new rows of {name}")
    model = _copied(champion)
    model.fitted_rows, model.learnt_from = len(y), fingerprint(problem, rows)

    old, update = champion.estimator, problem.training.update
    parameters = dict(old.parameters) | {"n_estimators": min(update.rounds, update.max_rounds - old.rounds_)}
    if stops_by_itself(old.parameters):
        parameters["early_stopping_rounds"] = PATIENCE
    if update.learning_rate is not None:
        parameters["learning_rate"] = update.learning_rate
    if rounds is not None:
        parameters |= {"n_estimators": rounds, "early_stopping_rounds": None}
    factors = class_factors(problem, candidate, y, weight)
    held_out = held_out_rows(model, validation, factors) if rounds is None else None
    setting = setting_of(problem, candidate, list(old.is_category), model.prepared_names)
    with explained(problem, name, parameters):
        model.estimator = boosted_trees(parameters, setting).fit(
            model.matrix(made), y, weighed(weight, factors, y), held_out, start=old.booster_
        )
    if calibrating is not None:
        labels, its_weight = calibrating["label"].to_numpy(), calibrating["weight"].to_numpy()
        model.calibration = fit_calibrator(calibration, model.raw_scores(calibrating), labels, its_weight)
    if rounds is None:
        model.threshold = _threshold(problem, model, validation)
    return model


def recalibrated(problem: Problem, champion: Model, rows: pa.Table) -> Model:
    """The champion, its scores mapped anew to what happened in `rows`, which it was not fitted on.

    The method is that of the calibration it has, or else training.calibration's; where that is none, Platt's, on the
    logit: it moves the mean and the spread of the scores, and needs few rows (Saerens et al., 2002, correct a prior in
    the same way). The ranking stays. A binary threshold is chosen again on the same rows: it is one number.

    Raises:
        ConfigError: it cannot be calibrated (`why_not_recalibrated`).
        DataError: the rows have no weight, or one class only.
    """
    if reason := why_not_recalibrated(champion):
        raise _refused("recalibrated", reason)
    labels, weight = rows["label"].to_numpy(), rows["weight"].to_numpy()
    require_weights(labels, weight)
    model = _copied(champion)
    model.calibration = fit_calibrator(_method(problem, champion), model.raw_scores(rows), labels, weight)
    model.fitted_rows, model.learnt_from = int((weight > 0).sum()), fingerprint(problem, rows)
    model.threshold = _threshold(problem, model, rows)
    return model


def _method(problem: Problem, champion: Model) -> Calibration:
    known = [mapping for mapping in getattr(champion.calibration, "maps", []) if mapping is not None]
    if known:
        return Calibration(method="isotonic" if isinstance(known[0], Isotonic) else "platt")
    declared = problem.training.calibration
    return Calibration(method="platt") if declared.method == "none" else declared


def _copied(champion: Model) -> Model:
    """As it is, without calibration; what is in it is shared, and nothing changes it."""
    return Model(
        champion.task,
        champion.classes,
        champion.prepare,
        champion.kept,
        champion.estimator,
        threshold=champion.threshold,
        costs=champion.costs,
        dropped=dict(champion.dropped),
    )


def _threshold(problem: Problem, model: Model, rows: pa.Table) -> float:
    if problem.training.threshold.by == "fixed":
        return problem.training.threshold.value
    return choose_threshold(problem, model.scores(rows), rows["label"].to_numpy(), rows["weight"].to_numpy())


def _refused(way: str, reason: str) -> ConfigError:
    return ConfigError(f"the champion cannot be {way}: {reason}", where=WHERE, cure="train from scratch (how: scratch)")
