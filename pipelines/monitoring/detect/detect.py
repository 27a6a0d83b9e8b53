"""detect: how far a partition lies from the reference, and how good its scores turned out. Numbers, no judgement."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from pipelines.metrics.metrics import measure
from pipelines.metrics.scored import Scored, shown
from pipelines.monitoring.detect.alarm_levels import levels, since_first_value
from pipelines.monitoring.detect.detection import POOLED, ColumnDrift, Drift, Performance, ScoreDrift
from pipelines.monitoring.detect.standard_error import standard_errors
from pipelines.monitoring.detect.units import other_unit
from pipelines.profiles.column import Bins, ColumnProfile, Numbers
from pipelines.profiles.distance import cramers_v, jensen_shannon, kolmogorov_smirnov, psi, wasserstein
from pipelines.profiles.lens import view_names
from pipelines.profiles.pooled import pooled_profiles
from pipelines.profiles.profile import SCORE, Profiles, Reference

FAR = 1.0  # standard deviations from each partition before, to ask for another unit whatever is usual
OFTEN = 0.25  # of the values, in one bin: a partition may well have no other
TELLING_BINS = 4  # in which a column has rows, for equal counts to be no chance


def detect(
    reference: Reference,
    profiles: Profiles,
    trailing: Mapping[str, Profiles] | None = None,
    false_alarm_rate: float = 0.05,
    trailing_partitions: int = 8,
    fewest_rows: int = 0,
    units: Mapping[str, str] | None = None,
    of_calendar: Collection[str] = (),
) -> Drift:
    """How far a partition lies from the past, column by column.

    A partition of fewer than `fewest_rows` rows is judged by itself, and once more together with those just before it
    that make up so many (`judged_rows`), beside pools of the past: what moved a little shows in many rows only.
    The rate of false alarms is then shared by the two.

    What is usual show the reference's partitions (its training data, where it keeps none), from the first in which a
    column has a value; of how partitions follow each other also `trailing`: profiles by partition of those since, by
    the same version.

    `units`, as declared by feature, tell which change of units may explain a step, or a distance of more than a
    standard deviation from each trailing partition; any other takes overwhelming evidence.

    `of_calendar` are features that a partition's place in the calendar tells: they are measured and not judged.
    """
    since = dict(trailing or {})
    made_from = reference.partitions or {"": {name: column.profile for name, column in reference.columns.items()}}
    rows = judged_rows = profiles[SCORE].rows
    is_small = 0 < rows < fewest_rows
    rate = false_alarm_rate / 2 if is_small else false_alarm_rate
    judged = {name: column for name, column in reference.columns.items() if name not in of_calendar}
    watched = reference.model_copy(update={"columns": judged})
    levels_of = levels(watched, list(since.values()), profiles, rate, trailing_partitions)
    before = dict([*reference.partitions.items(), *since.items()][-trailing_partitions:])
    moved = {"moved": _move(reference, list(before.values()), profiles)}
    if is_small:
        *pools, newest = pooled_profiles({**since, "": profiles}, fewest_rows).values()
        reference_pools = pooled_profiles(reference.partitions, fewest_rows) if reference.partitions else {}
        pooled = watched.model_copy(update={"partitions": reference_pools})
        judged_rows = newest[SCORE].rows
        if judged_rows > rows:
            for name, of_pool in levels(pooled, pools, newest, rate, trailing_partitions).items():
                levels_of[name] |= {f"{POOLED}{distance}": level for distance, level in of_pool.items()}
            neighbours = [*reference_pools.values(), *pools][-trailing_partitions:]
            moved["pooled_moved"] = _move(reference, neighbours, newest)
    columns, views = {}, _views(reference)
    for name, column in reference.columns.items():
        usual = since_first_value([part[name] for part in made_from.values()])
        drift = _column(column.bins, usual, profiles[name], name == SCORE and _is_share(reference))
        if name in of_calendar:
            columns[name] = drift.model_copy(update={"is_of_calendar": True})
            continue
        drift = drift.model_copy(update={"levels": levels_of[name]})
        past, unit = [part[name] for part in before.values()], (units or {}).get(name, "")
        columns[name] = _moved(column.bins, profiles[name], past, drift, unit)
        if name in views:
            columns[name] = columns[name].model_copy(update={"other_unit": None} | views[name])
    # A score has no unit.
    score = columns.pop(SCORE).model_dump() | {"other_unit": None, "reference_mean": reference.mean_score}
    return Drift(
        rows=rows,
        judged_rows=judged_rows,
        columns=columns,
        prediction=ScoreDrift.model_validate(score | moved),
        same_as=_same_as(list(reference.partitions.values()), before, profiles),
    )


def _views(reference: Reference) -> dict[str, dict[str, None]]:
    """What is not told of each number that a vector is seen as.

    None has a unit, and where a text or an embedding lies is no sensor that could freeze. Of its measure that is told:
    all texts are of one length where each is the same.
    """
    return {
        view: {} if place == 0 else {"usual_std": None}
        for name, lens in reference.lenses.items()
        for place, view in enumerate(view_names(name, lens))
    }


def _column(bins: Bins, usual: Sequence[ColumnProfile], profile: ColumnProfile, is_share: bool) -> ColumnDrift:
    """What a column is like beside the usual; without its levels, and how far it moved."""
    pooled, counts = np.sum([part.counts for part in usual], axis=0), profile.counts
    numbers: dict[str, Any] = {"psi": psi(pooled, counts), "js": jensen_shannon(pooled, counts)}
    if isinstance(bins, Numbers):
        numbers |= {"wasserstein": wasserstein(bins, pooled, counts), "ks": kolmogorov_smirnov(bins, pooled, counts)}
    else:
        numbers |= {"cramers_v": cramers_v(pooled, counts), "new": profile.new}
    parts: dict[str, Callable[[ColumnProfile], int]] = {
        "null": lambda part: part.nulls,
        "unseen": lambda part: part.unseen,
        "non_finite": lambda part: part.non_finite,
    }
    if is_share:
        parts["edge"] = lambda part: part.counts[0] + part.counts[-3]
    for name, count in parts.items():
        numbers[f"{name}_share"] = count(profile) / max(profile.rows, 1)
        numbers[f"usual_{name}_share"] = max((count(part) / max(part.rows, 1) for part in usual), default=0.0)
    spreads = [part.std for part in usual if part.std is not None and part.valued > 1]
    # A clear week in which one always sees as far as one often does is no frozen sensor.
    most = int(np.argmax(pooled[:-2])) if pooled[:-2].any() else 0
    is_usual = pooled[most] > OFTEN * pooled[:-2].sum() and counts[most] == profile.valued
    return ColumnDrift(**numbers, std=profile.std, usual_std=None if is_usual else min(spreads, default=None))


def _moved(
    bins: Bins, profile: ColumnProfile, before: Sequence[ColumnProfile], drift: ColumnDrift, unit: str
) -> ColumnDrift:
    """With its means, now and before, and the change of units between them."""
    means = [part.mean for part in before if part.mean is not None]
    own = [level for name, level in drift.levels.items() if not name.startswith(POOLED)]
    is_step = any(level.times("step") is not None for level in own)
    is_far = False
    if isinstance(bins, Numbers):
        distances = [wasserstein(bins, part.counts, profile.counts) for part in before if part.valued]
        is_far = min(distances, default=0.0) > FAR
    other = other_unit(profile, before, unit, is_step=is_step, is_far=is_far) if is_step or is_far else None
    changes = {"mean": profile.mean, "mean_before": means[-1] if means else None, "other_unit": other}
    return drift.model_copy(update=changes)


def _move(reference: Reference, before: Sequence[Profiles], profiles: Profiles) -> float | None:
    """How far the scores lie from the nearest of the partitions before, in their own unit."""
    bins, scores = reference.columns[SCORE].bins, profiles[SCORE]
    if not isinstance(bins, Numbers) or not scores.valued:
        return None
    moves = [float(wasserstein(bins, part[SCORE].counts, scores.counts)) for part in before if part[SCORE].valued]
    return bins.scale * min(moves) if moves else None


def _is_share(reference: Reference) -> bool:
    """Whether scores are probabilities, whose outer bins are then 0 and 1 alone."""
    bins = reference.columns[SCORE].bins
    return isinstance(bins, Numbers) and bins.edges[:1] == (0.0,) and bins.edges[-1] == np.nextafter(1.0, 0.0)


def _same_as(usual: Sequence[Profiles], before: Mapping[str, Profiles], profiles: Profiles) -> str | None:
    """The newest partition with the same counts in most of the columns that say something.

    A column whose counts two of the reference's neighbouring partitions share says nothing: a shop's size is the same
    every day.
    """
    telling = [
        name
        for name, profile in profiles.items()
        if np.count_nonzero(profile.counts) >= TELLING_BINS
        and not any(earlier[name].counts == later[name].counts for earlier, later in pairwise(usual))
    ]
    for key, part in reversed(list(before.items())):
        same = [name for name in telling if part[name].counts == profiles[name].counts]
        if len(telling) >= 2 and 2 * len(same) > len(telling):
            return key
    return None


def performance(truth: Scored) -> Performance:
    """How good the scores turned out, given their labels: the task's metrics and what they are made of."""
    rows = len(truth.labels)
    score, label = (
        float(np.mean(values)) if rows else None for values in (shown(truth.scores, truth.decisions), truth.labels)
    )
    numbers: dict[str, Any] = {
        "rows": rows,
        "auc": None,
        "positive_rate": None,
        "mean_score": score,
        "calibration_gap": None,
        **measure(truth),
        "errors": standard_errors(truth),
    }
    if truth.task == "binary":
        gap = None if score is None or label is None else score - label
        numbers |= {"positive_rate": label, "calibration_gap": gap}
    elif truth.task == "multiclass":
        shares = np.bincount(truth.labels, minlength=len(truth.classes)) / max(rows, 1)
        numbers["class_rates"] = dict(zip(truth.classes, shares.tolist(), strict=True)) if rows else None
    else:
        numbers["mean_label"] = label
    return Performance(**numbers)
