"""Search of a candidate's parameters, on folds inside the training split."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipelines.config import Parameters
from pipelines.errors import ConfigError, DataError
from pipelines.problem import Problem
from pipelines.training.boost_parameters import stops_by_itself
from pipelines.training.folds import folds, of_partitions
from pipelines.training.trials import State, Trial, Trials, is_hopeless, propose

if TYPE_CHECKING:
    from pipelines.training.model import Model

Fold = tuple[pa.Table, pa.Table]


@dataclass(frozen=True)
class Found:
    """Parameters to fit with, over the candidate's own, their metric, and how many trials there were."""

    parameters: Parameters
    value: float
    trials: int
    pruned: int


def search(
    problem: Problem, name: str, train: pa.Table, trials: Trials, *, clock: Callable[[], float] = time.monotonic
) -> Found:
    """The parameters of candidate `name` that are best on average over `folds(problem, train)`.

    Trial 0 has the candidate's own parameters, so the result is never worse on the folds than no search. Each later
    one is TPE's proposal by the trials before it. Trials that `trials` knows already are not run again, and a search
    that was killed ends where an unbroken one ends. (Not with `search.seconds`, which counts from this call and stops
    where the machine has got to.) Parameters that come up again take the values that they had.

    Raises:
        ConfigError: the model refuses parameters; the trial is kept as failed, and run again by the next search.
        DataError: there are no folds, or the metric is defined for no trial.
    """
    rule, began = problem.training.search, clock()
    candidate = problem.training.of(name)
    own = {name: candidate.parameters[name] for name in candidate.search if name in candidate.parameters}
    cut = _usable(problem, name, folds(problem, train))
    done = {trial.number: trial for trial in trials.known() if trial.state != "failed" and trial.number < rule.trials}
    failed: list[Trial] = []
    for number in range(rule.trials):
        if number in done:
            continue
        if number and rule.seconds is not None and clock() - began >= rule.seconds:
            break
        before = [done[at] for at in sorted(done) if at < number]
        parameters = own
        if number:
            parameters = propose(candidate.search, before, number, problem.training.seed, _is_higher_better(problem))
        same = next((trial for trial in (*before, *failed) if trial.parameters == parameters), None)
        if same is not None:
            trial = replace(same, number=number, seconds=0.0)
        else:
            trial = _run(problem, name, cut, number, parameters, before, trials, clock)
        trials.keep(trial)
        if trial.state == "failed":
            failed.append(trial)
        else:
            done[number] = trial
    finished = [trial for _, trial in sorted(done.items()) if trial.state == "finished"]
    if not finished:
        raise DataError(
            f"none of {len(failed)} trials has a {searched_metric(problem)}: {failed[0].reason}",
            where=f"training.candidates.{name}.search",
            cure="measure folds on more partitions (training.search.fold_partitions), or search for another metric "
            "(training.search.metric)",
        )
    sign = 1 if _is_higher_better(problem) else -1
    best = max(finished, key=lambda trial: sign * trial.value)  # of equals the first
    pruned = sum(trial.state == "pruned" for trial in done.values())
    return Found(best.parameters, best.value, len(done) + len(failed), pruned)


def searched_metric(problem: Problem) -> str:
    """Name of the metric that parameters are searched by."""
    return problem.training.search.metric or problem.training.select_by


def measured(problem: Problem, model: Model, rows: pa.Table, metric: str) -> float | None:
    """The metric of a model on rows; None where it is not defined. Of a bias it is the size: more is worse."""
    from pipelines.metrics.metrics import METRICS
    from pipelines.metrics.scored import scored

    scores = model.scores(rows)
    if not np.isfinite(scores).all():
        return None
    labels, weights = rows["label"].to_numpy(), rows["weight"].to_numpy()
    value = METRICS[metric].function(scored(problem, labels, scores, weights, model.threshold))
    if value is None or not math.isfinite(value):
        return None
    return abs(value) if metric == "bias" else float(value)


def _run(
    problem: Problem,
    name: str,
    cut: list[Fold],
    number: int,
    parameters: Parameters,
    before: list[Trial],
    trials: Trials,
    clock: Callable[[], float],
) -> Trial:
    """Fold after fold, until the trial is done, hopeless or without a metric."""
    from pipelines.training.fit import fit

    began, values = clock(), list[float]()

    def ended(state: State, reason: str = "") -> Trial:
        return Trial(number, parameters, tuple(values), state, reason, clock() - began)

    for position, (earlier, newer) in enumerate(cut, 1):
        try:
            model = fit(problem, name, *_held_back(problem, name, parameters, earlier), parameters=parameters)
        except ConfigError as error:
            trials.keep(ended("failed", error.what))
            raise ConfigError(
                f"trial {number} of the search has parameters that cannot be fitted: {error.what}",
                where=error.where or f"training.candidates.{name}.search",
                cure=f"narrow training.candidates.{name}.search; tried: {json.dumps(parameters)}",
            ) from error
        value = measured(problem, model, newer, searched_metric(problem))
        if value is None:
            return ended("failed", f"{searched_metric(problem)} is not defined on fold {position}")
        values.append(value)
        is_last = position == len(cut)
        if problem.training.search.prune and not is_last and is_hopeless(values, before, _is_higher_better(problem)):
            return ended("pruned", f"below the median of the others after {position} of {len(cut)} folds")
    return ended("finished")


def _held_back(problem: Problem, name: str, parameters: Parameters, earlier: pa.Table) -> Fold:
    """What is fitted on, and the newest partition, by which the fit stops or chooses its threshold.

    Where it does neither, or too little would be left, the newest is fitted on as well.
    """
    candidate, keys = problem.training.of(name), _partitions(earlier)
    given = {**candidate.parameters, **parameters}
    by_itself = candidate.model == "xgboost" and stops_by_itself(given)
    stops = given.get("early_stopping", candidate.model == "hist_boosting" or by_itself)
    stops = stops or given.get("early_stopping_rounds")
    newest, older = of_partitions(earlier, keys[-1:]), of_partitions(earlier, keys[:-1])
    is_needed = stops or problem.training.threshold.by != "fixed"
    if is_needed and len(keys) > _partitions_needed(problem, name) and _is_of_use(problem, older):
        return older, newest
    if by_itself and problem.training.threshold.by == "fixed":
        return earlier, newest.slice(0, 0)  # rows that it learns from would never tell it to stop
    return earlier, newest


def _usable(problem: Problem, name: str, cut: list[Fold]) -> list[Fold]:
    """The folds that teach and show something: two classes on both sides, and partitions to calibrate on."""
    needed = _partitions_needed(problem, name)
    long_enough = [fold for fold in cut if len(_partitions(fold[0])) >= needed]
    kept = [fold for fold in long_enough if all(_is_of_use(problem, side) for side in fold)]
    if not kept:
        reasons = [f"{len(long_enough)} have one class only, on one side or the other"] if long_enough else []
        if short := len(cut) - len(long_enough):
            reasons.append(f"{short} learn from fewer than {needed} partitions, and {needed - 1} of these calibrate")
        raise DataError(
            f"none of the {len(cut)} folds can be used: {'; '.join(reasons)}",
            where=f"problem {problem.name}, training.search",
            cure="train on more partitions, or measure folds on more of them (training.search.fold_partitions)",
        )
    return kept


def _partitions_needed(problem: Problem, name: str) -> int:
    calibration = problem.training.of(name).calibration
    return 1 + (calibration.partitions if calibration is not None and calibration.method != "none" else 0)


def _partitions(rows: pa.Table) -> list[str]:
    return sorted(rows["partition"].unique().to_pylist())


def _is_of_use(problem: Problem, rows: pa.Table) -> bool:
    return problem.task == "regression" or len(rows["label"].unique()) > 1


def _is_higher_better(problem: Problem) -> bool:
    from pipelines.metrics.metrics import METRICS

    return METRICS[searched_metric(problem)].higher_is_better
