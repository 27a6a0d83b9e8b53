"""options: what each way to act is expected to gain from now on, from what it would have gained so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.config import WAYS, Action, Policy, Way
from pipelines.monitoring.decide.decide import Option
from pipelines.monitoring.decide.readings import Reading

KEPT_READINGS = 26  # the newest, of all versions: how fast models of this problem age
CONFIDENCE = 0.95


def options(
    policy: Policy,
    readings: Sequence[Reading],
    version: str,
    ages: Mapping[Way, int],
    alarm: bool,
    unmeasured: Mapping[Way, str] | None = None,
    costs: Mapping[Way, tuple[float, str]] | None = None,
) -> tuple[Option, ...]:
    """Each way with its expected gain over the horizon: a gain per partition, times `policy.horizon_partitions`.

    Of a fresher model: readings of all versions say by how much a model gets worse per partition that it is older (a
    line through 0, its slope drawn to 0 by `prior_readings`), times its age. An alarm says that this was not ageing
    alone: then what the newest `of_last` readings of this version show beyond the line counts as well. Of the other
    ways: the mean of the newest `of_last` readings of this version, drawn to 0. A training learns only from
    `window_from` on where a reading says, for sure, that older data does harm.

    Args:
        readings: of labelled partitions, any order, any version.
        ages: of retrain, partitions since the version was trained from scratch; of continue, since it last learnt.
        unmeasured: ways of which nothing can be known, and why.
        costs: of the ways whose cost the policy wants measured, what it is, and where that comes from.
    """
    considered = []
    for way in WAYS:
        of_way = [reading for reading in readings if reading.way == way and reading.window_from is None]
        of_way.sort(key=lambda reading: reading.partition)
        cost, source = (costs or {}).get(way, (policy.cost(way), ""))
        reason = (unmeasured or {}).get(way)
        own = [reading for reading in of_way if reading.version == version][-policy.of_last :]
        if reason or not (own if way.needs_alarm else of_way):
            considered.append(
                Option(
                    action=way,
                    cost=cost,
                    cost_from=source,
                    why_not=reason or "no labelled partition to measure it on yet",
                )
            )
            continue
        per_partition, error, freedom = (
            _level([reading.value for reading in own], policy.prior_readings)
            if way.needs_alarm
            else _ageing(of_way[-KEPT_READINGS:], own if alarm else [], ages[way], policy.prior_readings)
        )
        gain, width = per_partition * policy.horizon_partitions, error * policy.horizon_partitions * _t(freedom)
        window = _window(readings, version) if way == Action.RETRAIN else None
        considered.append(
            Option(
                action=way,
                cost=cost,
                cost_from=source,
                gain=gain,
                low=gain - width,
                high=gain + width,
                window_from=window,
            )
        )
    return tuple(considered)


def _ageing(readings: Sequence[Reading], own: Sequence[Reading], age: int, prior: float) -> tuple[float, float, int]:
    """Gain per partition of a model that is `age` partitions fresher, its standard error, degrees of freedom."""
    ages = np.array([reading.age for reading in readings], np.float64)
    values = np.array([reading.value for reading in readings])
    count, squares = len(values), float(np.square(ages).sum())
    drawn = squares * (1 + prior / count)
    slope = float(ages @ values) / drawn if drawn else 0.0
    spread = float(np.sqrt(np.square(values - slope * ages).sum() / max(count - 1, 1)))
    error = spread * np.sqrt(squares) / drawn if drawn else spread
    beyond = [reading.value - slope * reading.age for reading in own]
    jump = sum(beyond) / (len(beyond) + prior) if beyond else 0.0
    jump_error = spread * np.sqrt(len(beyond)) / (len(beyond) + prior) if beyond else 0.0
    return slope * age + jump, float(np.hypot(error * age, jump_error)), max(count - 1, 1)


def _level(values: Sequence[float], prior: float) -> tuple[float, float, int]:
    """Mean of readings drawn to 0, its standard error, degrees of freedom."""
    count, mean = len(values), sum(values) / (len(values) + prior)
    spread = float(np.sqrt(np.square(np.array(values) - mean).sum() / max(count - 1, 1)))
    return mean, spread * np.sqrt(count) / (count + prior), max(count - 1, 1)


def _t(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _window(readings: Sequence[Reading], version: str) -> str | None:
    """From where a training should learn: where the newest windowed reading of this version is surely above 0."""
    windowed = [reading for reading in readings if reading.window_from is not None and reading.version == version]
    newest = max(windowed, key=lambda reading: reading.partition, default=None)
    return None if newest is None or newest.low is None or newest.low <= 0 else newest.window_from
