"""readings: what each way to act would have gained on a labelled partition, over keeping the champion.

A *reading* is a counterfactual measurement on one labelled partition: the metrics of what a way would have given there
against those of what served. One partition's reading is noisy (on real weeks its spread is larger than the gain), so
what is expected (`options`) comes from many, drawn to 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipelines.config import Action, Bootstrap, Calibration, Candidate, Selection, Way
from pipelines.dataset.draw import sample
from pipelines.documents.measures import Interval
from pipelines.errors import EvergreenError
from pipelines.metrics.bootstrap import gains
from pipelines.metrics.scored import Scored, scored
from pipelines.monitoring.served import LEARNABLE_ROWS
from pipelines.problem import Problem
from pipelines.profiles.column import Frozen

PROXY = "proxy"
FRESHER: tuple[Way, ...] = (Action.RETRAIN, Action.CONTINUE)
CALIBRATING = 8  # labelled partitions, the newest, that a recalibration would learn from
PROXY_TREES = 60
PROXY_PARAMETERS = {"max_depth": 4, "min_child_weight": 20, "subsample": 0.8, "colsample_bytree": 0.5}
DEFAULT_WORTH = {
    "binary": {"auc": 1.0, "log_loss": 1.0},
    "multiclass": {"auc": 1.0, "log_loss": 1.0},
    "regression": {"r2": 1.0},
}


class Place(NamedTuple):
    """What a reading is of."""

    partition: str
    version: str
    age: int = 0
    window_from: str | None = None


class Reading(Frozen):
    """What a way would have gained on one labelled partition: `value`, in the policy's worth; `low` and `high` are the
    ends of its block-bootstrap interval (of several metrics their ends added up: on the wide side).

    age: partitions by which the champion is older than the model it is held against: of retrain since it was trained
    from scratch, of continue since it last learnt; 0 for ways that have nothing to do with age. window_from: a training
    from this partition on, held against one from all partitions.
    """

    way: Way
    partition: str
    version: str
    value: float
    low: float | None = None
    high: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    age: int = 0
    window_from: str | None = None


def worth(problem: Problem) -> Mapping[str, float]:
    """What a unit of each metric is worth for one partition.

    >>> DEFAULT_WORTH["regression"]
    {'r2': 1.0}
    """
    return {str(name): each for name, each in problem.monitoring.policy.worth.items()} or DEFAULT_WORTH[problem.task]


def reading(problem: Problem, way: Way, place: Place, ours: Scored, keep: Scored, blocks: np.ndarray) -> Reading | None:
    """How much better `ours` does than `keep` on the same labelled rows; None where a metric is not defined."""
    worth_of = worth(problem)
    rule: Bootstrap = problem.evaluation.bootstrap
    gained = gains(ours, keep, blocks, rule, list(worth_of)) if len(keep.labels) else {}
    metrics = {name: gain["value"] for name, gain in gained.items()}
    measured = {name: value for name, value in metrics.items() if value is not None}
    if not measured or len(measured) < len(metrics):
        return None
    return Reading(
        way=way,
        value=sum(worth_of[name] * value for name, value in measured.items()),
        low=_added_up(gained, "low", worth_of),
        high=_added_up(gained, "high", worth_of),
        metrics=measured,
        **place._asdict(),
    )


def _added_up(gained: Mapping[str, Interval], end: str, worth_of: Mapping[str, float]) -> float | None:
    """An end of all metrics' intervals together; None where one of them is not defined."""
    total = 0.0
    for name, gain in gained.items():
        value = gain[end]
        if value is None:
            return None
        total += worth_of[name] * value
    return total


def proxies(
    problem: Problem, candidate: str, stale: Sequence[pa.Table], fresh: pa.Table, newer: pa.Table, newest: pa.Table
) -> dict[Way | str, np.ndarray]:
    """Scores of the rows `newest` by small models, equal in all but what they learnt from: the value of fresher data.

    `keep` learnt as the champion did: from the first rows of `stale`, and gone on with each of the others (a continued
    model is not as fresh as one from scratch); `retrain` from `fresh`, what a training that is asked for now would
    learn from, in whose test split `newest` is; `continue` is `keep`, gone on as training.update says with the rows
    `newer`, those of `fresh` that `stale` has not. (Huyen, ch. 9: the value of data freshness.) A way that cannot be
    fitted is left out.

    They are boosted trees with the champion's parameters where it is xgboost, but 60 trees in all, on 60,000 rows at
    most: how much fresher data is worth is measured, not how good the champion is.
    """
    from pipelines.training.fit import fit_scorer
    from pipelines.training.update import continued

    small = _small(problem, candidate)

    def drawn(rows: pa.Table) -> pa.Table:
        return sample(rows, LEARNABLE_ROWS, problem.training.seed)

    nothing, scores = newest.slice(0, 0), dict[Way | str, np.ndarray]()
    try:
        kept = fit_scorer(small, PROXY, drawn(stale[0]), nothing)
        for rows in stale[1:]:
            kept = continued(small, PROXY, kept, drawn(rows), nothing)
        scores["keep"] = kept.scores(newest)
        scores[Action.RETRAIN] = fit_scorer(small, PROXY, drawn(fresh), nothing).scores(newest)
        if newer.num_rows and problem.training.candidates[candidate].model == "xgboost":
            scores[Action.CONTINUE] = continued(small, PROXY, kept, drawn(newer), nothing).scores(newest)
    except EvergreenError:
        pass  # too few rows, one class: what there is stays, and the options say what was not measured
    return scores


def _small(problem: Problem, candidate: str) -> Problem:
    """The problem with the candidate `proxy`, and a fixed threshold."""
    training = problem.training
    own = training.candidates[candidate]
    parameters = {**PROXY_PARAMETERS, **own.parameters} if own.model == "xgboost" else dict(PROXY_PARAMETERS)
    rounds, rate = parameters.get("n_estimators", 100), parameters.get("learning_rate", 0.1)
    for name in ("early_stopping_rounds", "eval_metric"):
        parameters.pop(name, None)
    parameters |= {"n_estimators": PROXY_TREES, "learning_rate": min(max(rate, rate * rounds / PROXY_TREES / 2), 0.15)}
    spec = Candidate(
        model="xgboost",
        parameters=parameters,
        calibration=Calibration(),
        selection=Selection(),
        imbalance=own.imbalance if own.model == "xgboost" else None,
        preprocessing=own.preprocessing if own.model == "xgboost" else None,
    )
    changes = {
        "candidates": {**training.candidates, PROXY: spec},
        "threshold": training.threshold.model_copy(update={"by": "fixed"}),
        "threads": 1,  # small trees: threads that wait for each other cost more than they save
    }
    return problem.model_copy(update={"training": training.model_copy(update=changes)})


def as_scored(problem: Problem, rows: pa.Table, scores: np.ndarray) -> Scored:
    """These rows, with `label` and `weight`, as they were scored; no threshold counts here."""
    return scored(problem, rows["label"].to_numpy(), scores, rows["weight"].to_numpy())


def recalibrated(problem: Problem, older: Scored, newest: np.ndarray) -> np.ndarray | None:
    """Scores of the newest rows after a calibration that was learnt on older ones; None where that cannot be."""
    if problem.task == "regression" or not len(older.labels):
        return None
    from pipelines.training.calibrate import fit_calibrator

    try:
        calibrator = fit_calibrator(Calibration(method="platt"), older.scores, older.labels, older.weights)
    except EvergreenError:
        return None
    return np.asarray(calibrator.transform(newest))


def fresher(
    problem: Problem,
    candidate: str,
    place: Place,
    ages: Mapping[Way, int],
    stale: Sequence[pa.Table],
    rows: Mapping[str, pa.Table],
    blocks: np.ndarray,
) -> list[Reading]:
    """Readings of `retrain` and `continue`, as far as they have an age above 0, on the newest labelled partition.

    `stale` and, of `rows`, `fresh`, `newer` and `newest` are as `proxies` takes them; where that is looked at `rows`
    also has `window`: the rows of `fresh` from `place.window_from` on.
    """
    newest = rows["newest"]
    scores = proxies(problem, candidate, stale, rows["fresh"], rows["newer"], newest)
    if "keep" not in scores:
        return []
    scored_as = {way: as_scored(problem, newest, values) for way, values in scores.items()}
    keep = scored_as["keep"]
    readings = [
        reading(problem, way, place._replace(age=ages[way], window_from=None), scored_as[way], keep, blocks)
        for way in FRESHER
        if way in scored_as and ages[way] > 0
    ]
    if "window" in rows and Action.RETRAIN in scores:
        windowed = proxies(problem, candidate, [rows["fresh"]], rows["window"], newest.slice(0, 0), newest)
        if Action.RETRAIN in windowed:
            ours, of_all = (as_scored(problem, newest, windowed[name]) for name in (Action.RETRAIN, "keep"))
            readings.append(reading(problem, Action.RETRAIN, place, ours, of_all, blocks))
    return [value for value in readings if value is not None]
