"""What each way to act would have gained on the newest labelled partition, and what a policy makes of it: the same for
a version that the store knows and for one that is replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.config import Action, Way
from pipelines.metrics.bootstrap import blocks_of
from pipelines.monitoring.decide.decide import Decision, Situation, decide, is_alarm
from pipelines.monitoring.decide.options import options
from pipelines.monitoring.decide.readings import CALIBRATING, Place, Reading, as_scored, fresher, reading, recalibrated
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.monitoring.served import ServedVersion, ages, fresh, partitions_since

PROXY_PARTITIONS = 120  # of each side, the newest: their number would grow with the past, and the cost with it
AT_ONCE: tuple[Way, ...] = (Action.RECALIBRATE, Action.ROLL_BACK, Action.FALL_BACK)


class Measured(NamedTuple):
    """What could be measured of the ways to act."""

    readings: list[Reading]
    unmeasured: dict[Way, str]
    """Why a way has no reading."""


class Earlier(NamedTuple):
    """What monitoring has come to before, of all versions."""

    requests: Sequence[str]
    """Partitions at whose end a training was asked for, oldest first."""
    readings: Sequence[Reading]


class Weighed(NamedTuple):
    """A decision, and the readings that are new with it."""

    decision: Decision
    readings: list[Reading]


def weigh(
    served: ServedVersion,
    diagnosis: Diagnosis,
    earlier: Earlier,
    *,
    since: str | None = None,
    is_training: bool = False,
    costs: Mapping[Way, tuple[float, str]] | None = None,
) -> Weighed:
    """Measure what each way to act would have gained, and let the policy of `served.problem` choose.

    Args:
        since: first partition of a concept drift, from which alone a training may be better; None: of none.
        is_training: a training is running, or waits for its turn.
        costs: of the ways whose cost the policy wants measured, as `options` takes them.
    """
    policy = served.problem.monitoring.policy
    if diagnosis.is_empty:
        return Weighed(decide(policy, diagnosis, (), Situation()), [])
    now = situation(served, earlier.requests, is_training)
    if policy.updates != "continual":
        return Weighed(decide(policy, diagnosis, (), now), [])
    new, unmeasured = measure(served, earlier.readings, is_bad=diagnosis.is_newest_bad, since=since)
    considered = options(
        policy,
        [*earlier.readings, *new],
        served.version,
        ages(served),
        is_alarm(policy, diagnosis),
        unmeasured,
        costs,
    )
    return Weighed(decide(policy, diagnosis, considered, now), new)


def situation(served: ServedVersion, requests: Sequence[str], is_training: bool = False) -> Situation:
    """`requests`: partitions at whose end monitoring asked for a training."""
    since_request = partitions_since(served, max(requests)) if requests else None
    age = partitions_since(served, served.as_of)
    return Situation(
        since_request=since_request,
        since_training=age if since_request is None else min(age, since_request),
        continued=len(served.lessons) - 1,
        is_training=is_training,
    )


def measure(served: ServedVersion, earlier: Sequence[Reading], *, is_bad: bool, since: str | None = None) -> Measured:
    """New readings, on the newest partition whose labels are in, and why a way has none.

    What age costs is measured every time, as it has to be known before anything is wrong; ways that need an alarm only
    where `is_bad`: the newest labelled partition is. `since`: a training from there on is looked at too. A partition
    that `earlier` readings are of is not measured again.
    """
    labelled = served.labelled
    if len(labelled) < 2:
        return Measured([], {})
    newest = labelled[-1]
    done = {reading.way for reading in earlier if (reading.partition, reading.version) == (newest, served.version)}
    measured = Measured([], {})
    candidate = _candidate(served)
    if served.problem.training.candidates[candidate].model != "xgboost":
        measured.unmeasured[Action.CONTINUE] = f"only xgboost goes on from a champion, and {candidate} is none"
    rows = lru_cache(lambda: served.learnable_rows([newest]))  # read once, and only where something is measured
    parts: list[Measured] = []
    if ages(served)[Action.RETRAIN] >= 1 and Action.RETRAIN not in done:
        what = f"fresher {newest} {since}"
        parts.append(served.measured_once(what, Measured, lambda: _fresher(served, candidate, newest, rows, since)))
    if is_bad and not done.intersection(AT_ONCE):
        parts.append(served.measured_once(f"at once {newest}", Measured, lambda: _at_once(served, labelled, rows)))
    for part in parts:
        measured.readings.extend(part.readings)
        measured.unmeasured.update(part.unmeasured)
    return measured


def _candidate(served: ServedVersion) -> str:
    """The version's candidate; of a baseline, or one that is none any more, the first that there is."""
    training = served.problem.training
    spec = training.candidates.get(served.candidate)
    if spec is not None and not spec.is_baseline:
        return served.candidate
    return next(name for name in training.candidates if name not in training.baselines)


def _fresher(
    served: ServedVersion, candidate: str, newest: str, newest_rows: Callable[[], pa.Table], since: str | None
) -> Measured:
    """Readings of the ways that teach what serves something newer."""
    problem = served.problem
    fresh_keys = fresh(served, newest)
    usable = {*served.featured} - served.held - {newest}
    stale = [[key for key in lesson.partitions if key in usable] for lesson in served.lessons]
    stale = [keys for keys in stale if keys]
    taught = {key for keys in stale for key in keys}
    # A champion that was fitted again may be as fresh as a training of then: what age costs does not show yet.
    is_fresh = problem.training.refit and taught.issuperset(fresh_keys)
    if not stale or not fresh_keys or is_fresh:
        return Measured([], {})
    rows = newest_rows()
    if not rows.num_rows:
        return Measured([], {})
    sides = {"fresh": fresh_keys, "newer": [key for key in fresh_keys if key not in taught]}
    window = [key for key in fresh_keys if since is not None and key >= since]
    place = Place(newest, served.version)
    if window and len(window) < len(fresh_keys):
        sides["window"], place = window, place._replace(window_from=since)
    nothing = rows.slice(0, 0)
    tables = {name: _newest_rows(served, keys) if keys else nothing for name, keys in sides.items()}
    stale_rows = [_newest_rows(served, keys) for keys in stale]
    blocks = blocks_of(problem, rows)
    readings = fresher(problem, candidate, place, ages(served), stale_rows, {**tables, "newest": rows}, blocks)
    return Measured(readings, {})


def _newest_rows(served: ServedVersion, keys: Sequence[str]) -> pa.Table:
    return served.learnable_rows(sorted(keys)[-PROXY_PARTITIONS:])


def _at_once(served: ServedVersion, labelled: Sequence[str], newest_rows: Callable[[], pa.Table]) -> Measured:
    """Readings of the ways that keep what serves, or replace it without a training from scratch. `labelled`: partitions
    with features whose labels are in, oldest first; a calibration learns from those before the newest."""
    problem, newest = served.problem, labelled[-1]
    rows = newest_rows()
    if not rows.num_rows:
        return Measured([], {})
    models = served.alternatives(newest)
    if isinstance(models, str):
        return Measured([], dict.fromkeys(AT_ONCE, models))
    kept = models.keep(rows)
    scores: dict[Way, np.ndarray] = {way: model(rows) for way, model in models.others.items()}
    older = [key for key in labelled[:-1] if key not in served.learnt][-CALIBRATING:]
    if older:
        past = served.learnable_rows(older)
        calibrated = recalibrated(problem, as_scored(problem, past, models.keep(past)), kept)
        if calibrated is not None:
            scores = {Action.RECALIBRATE: calibrated, **scores}
    place, blocks = Place(newest, served.version), blocks_of(problem, rows)
    keep = as_scored(problem, rows, kept)
    measured = [
        reading(problem, way, place, as_scored(problem, rows, ours), keep, blocks) for way, ours in scores.items()
    ]
    return Measured([value for value in measured if value is not None], dict(models.unmeasured))
