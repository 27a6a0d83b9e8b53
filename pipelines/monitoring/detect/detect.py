"""detect: how far a partition lies from the reference, and how good its scores turned out. Numbers, no judgement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from pipelines.metrics.metrics import measure
from pipelines.metrics.scored import Scored, shown
from pipelines.monitoring.detect.alarm_levels import levels, since_first_value
from pipelines.monitoring.detect.standard_error import standard_errors
from pipelines.monitoring.detect.units import other_unit
from pipelines.profiles.column import Bins, ColumnProfile, Numbers
from pipelines.profiles.distance import cramers_v, jensen_shannon, kolmogorov_smirnov, psi, wasserstein
from pipelines.profiles.pooled import pooled_profiles
from pipelines.profiles.profile import SCORE, Profiles, Reference

FAR = 1.0  # standard deviations from each partition before, to ask for another unit whatever is usual
OFTEN = 0.25  # of the values, in one bin: a partition may well have no other
POOLED = "pooled "  # distances of a small partition together with its neighbours
TELLING_BINS = 4  # in which a column has rows, for equal counts to be no chance


def detect(
    reference: Reference,
    profiles: Profiles,
    trailing: Mapping[str, Profiles] | None = None,
    false_alarm_rate: float = 0.05,
    trailing_partitions: int = 8,
    fewest_rows: int = 0,
    units: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """How far a partition lies from the past, column by column, as {"rows", "judged_rows", "columns", "prediction",
    "same_as"}.

    A partition of fewer than `fewest_rows` rows is judged by itself, and once more together with those just before it
    that make up so many ("judged_rows"), beside pools of the past: what moved a little shows in many rows only.
    The rate of false alarms is then shared by the two.

    What is usual show the reference's partitions (its training data, where it keeps none); of how partitions follow
    each other also `trailing`: profiles by partition of those since, by the same version. A column has

    - "psi", "js", of numbers "wasserstein" and "ks", of categories "cramers_v": distances to the reference's, pooled;
    - "levels": {"js" | "wasserstein" | "relation": {"far", "far_level", "step", "step_level"}}, see `levels`; those of
      the pool as "pooled js" and so on;
    - "null_share", "unseen_share", "non_finite_share", "edge_share" (of the scores, at exactly 0 or 1): shares of all
      rows, and "usual_..." the largest of each in the reference's; "std" and "usual_std", the smallest in those
      (None where all values are where many of them are anyway);
      the reference's count from the first in which the column has a value;
    - "new": {category: rows} of the most frequent ones that training lacks;
    - "mean", "mean_before" (of the newest trailing one that has any), and "other_unit", the change of units that would
      explain a step, or a distance of more than a standard deviation from each trailing one: None where there is none.
      `units`, as declared by feature, tell which may have happened; any other takes overwhelming evidence.

    "prediction" has the same, and "mean", "reference_mean" and "moved" ("pooled moved" of the pool): by how much scores
    differ on average from those of the trailing partition that is most like this one, in their own unit; None without
    one. "same_as" is a trailing partition with the very same
    counts in most columns: the same rows again.
    """
    since = dict(trailing or {})
    known = reference.partitions or {"": {name: column.profile for name, column in reference.columns.items()}}
    rows = judged_rows = profiles[SCORE].rows
    is_small = 0 < rows < fewest_rows
    rate = false_alarm_rate / 2 if is_small else false_alarm_rate
    told = levels(reference, list(since.values()), profiles, rate, trailing_partitions)
    before = dict([*reference.partitions.items(), *since.items()][-trailing_partitions:])
    moved = {"moved": _move(reference, list(before.values()), profiles)}
    if is_small:
        *pools, newest = pooled_profiles({**since, "": profiles}, fewest_rows).values()
        known_pools = pooled_profiles(reference.partitions, fewest_rows) if reference.partitions else {}
        pooled = reference.model_copy(update={"partitions": known_pools})
        judged_rows = newest[SCORE].rows
        if judged_rows > rows:
            for name, found in levels(pooled, pools, newest, rate, trailing_partitions).items():
                told[name] |= {f"{POOLED}{distance}": level for distance, level in found.items()}
            neighbours = [*known_pools.values(), *pools][-trailing_partitions:]
            moved[f"{POOLED}moved"] = _move(reference, neighbours, newest)
    columns = {}
    for name, column in reference.columns.items():
        usual = since_first_value([each[name] for each in known.values()])
        columns[name] = _column(column.bins, usual, profiles[name], name == SCORE and _is_share(reference))
        columns[name]["levels"] = told[name]
        past, unit = [each[name] for each in before.values()], (units or {}).get(name, "")
        columns[name] |= _moved(column.bins, profiles[name], past, told[name], unit)
    prediction = columns.pop(SCORE) | {"other_unit": None}  # a score has none
    means = {"mean": profiles[SCORE].mean, "reference_mean": reference.mean_score}
    return {
        "rows": rows,
        "judged_rows": judged_rows,
        "columns": columns,
        "prediction": prediction | means | moved,
        "same_as": _same_as(list(reference.partitions.values()), before, profiles),
    }


def _column(bins: Bins, usual: Sequence[ColumnProfile], found: ColumnProfile, is_share: bool) -> dict[str, Any]:
    pooled, counts = np.sum([one.counts for one in usual], axis=0), found.counts
    result: dict[str, Any] = {"psi": psi(pooled, counts), "js": jensen_shannon(pooled, counts)}
    if isinstance(bins, Numbers):
        result |= {"wasserstein": wasserstein(bins, pooled, counts), "ks": kolmogorov_smirnov(bins, pooled, counts)}
    else:
        result |= {"cramers_v": cramers_v(pooled, counts), "new": found.new}
    parts: dict[str, Callable[[ColumnProfile], int]] = {
        "null": lambda one: one.nulls,
        "unseen": lambda one: one.unseen,
        "non_finite": lambda one: one.non_finite,
    }
    if is_share:
        parts["edge"] = lambda one: one.counts[0] + one.counts[-3]
    for name, count in parts.items():
        result[f"{name}_share"] = count(found) / max(found.rows, 1)
        result[f"usual_{name}_share"] = max((count(one) / max(one.rows, 1) for one in usual), default=0.0)
    spreads = [one.std for one in usual if one.std is not None and one.valued > 1]
    # A clear week in which one always sees as far as one often does is no frozen sensor.
    most = int(np.argmax(pooled[:-2])) if pooled[:-2].any() else 0
    is_usual = pooled[most] > OFTEN * pooled[:-2].sum() and found.counts[most] == found.valued
    return result | {"std": found.std, "usual_std": None if is_usual else min(spreads, default=None)}


def _moved(
    bins: Bins, found: ColumnProfile, before: Sequence[ColumnProfile], told: Mapping[str, Any], unit: str
) -> dict[str, Any]:
    means = [one.mean for one in before if one.mean is not None]
    is_step = any(
        one["step_level"] is not None and one["step"] is not None and one["step"] > one["step_level"]
        for name, one in told.items()
        if not name.startswith(POOLED)
    )
    far = [wasserstein(bins, one.counts, found.counts) for one in before if one.valued and isinstance(bins, Numbers)]
    is_far = min(far, default=0.0) > FAR
    other = other_unit(found, before, unit, is_step=is_step, is_far=is_far) if is_step or is_far else None
    return {"mean": found.mean, "mean_before": means[-1] if means else None, "other_unit": other}


def _move(reference: Reference, before: Sequence[Profiles], profiles: Profiles) -> float | None:
    """How far the scores lie from the nearest of the partitions before, in their own unit."""
    bins, found = reference.columns[SCORE].bins, profiles[SCORE]
    if not isinstance(bins, Numbers) or not found.valued:
        return None
    moves = [float(wasserstein(bins, one[SCORE].counts, found.counts)) for one in before if one[SCORE].valued]
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
        for name, found in profiles.items()
        if np.count_nonzero(found.counts) >= TELLING_BINS
        and not any(one[name].counts == other[name].counts for one, other in pairwise(usual))
    ]
    for key, known in reversed(list(before.items())):
        same = [name for name in telling if known[name].counts == profiles[name].counts]
        if len(telling) >= 2 and 2 * len(same) > len(telling):
            return key
    return None


def performance(found: Scored) -> dict[str, Any]:
    """How good the scores turned out, given their labels: the task's metrics and what they are made of.

    Binary: positive_rate, mean_score and their difference, the calibration_gap. Multiclass: class_rates, mean_score
    (of the classes decided for). Regression: mean_label, mean_score; their difference is the metric bias. What the
    task does not have, or is not defined (AUC of one class, anything of no rows), is None. "errors": standard errors
    of auc, r2, calibration_gap and bias, as far as they are defined.
    """
    rows = len(found.labels)
    score, label = (
        float(np.mean(values)) if rows else None for values in (shown(found.scores, found.decisions), found.labels)
    )
    result: dict[str, Any] = {
        "rows": rows,
        "auc": None,
        "positive_rate": None,
        "mean_score": score,
        "calibration_gap": None,
        **measure(found),
        "errors": standard_errors(found),
    }
    if found.task == "binary":
        gap = None if score is None or label is None else score - label
        result |= {"positive_rate": label, "calibration_gap": gap}
    elif found.task == "multiclass":
        shares = np.bincount(found.labels, minlength=len(found.classes)) / max(rows, 1)
        result["class_rates"] = dict(zip(found.classes, shares.tolist(), strict=True)) if rows else None
    else:
        result["mean_label"] = label
    return result
