"""A number that the others explain, and no longer follows them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.config import Shape
from pipelines.ingest.shape.distance import FLOOR, Suspicion, allowed, independent
from pipelines.ingest.shape.profile import Array, Moments, PartitionShape

RELATED = 0.8  # share of a number's variance that the others explain, for the relation to be held to


def judge_relations(
    settings: Shape, trailing: Sequence[PartitionShape], shape: PartitionShape, odd: set[str]
) -> dict[str, Suspicion]:
    """How far each number lies off from what the others say it is, by the linear relation that held so far.

    Seasons move columns together and leave the relation as it is; a unit or a swap in one column breaks it. Only for
    numbers that the others explain well. Those that are `odd` by themselves would only get the others accused too.
    """
    past, moments = [earlier.moments for earlier in trailing], shape.moments
    is_finite = np.array([np.isfinite(earlier.means) for earlier in past])
    kept = np.isfinite(moments.means) & (is_finite.sum(axis=0) >= settings.min_partitions)
    kept &= np.array([name not in odd and name not in settings.ignore for name in moments.names], bool)
    past = [earlier for earlier, is_told in zip(past, is_finite, strict=True) if is_told[kept].all()]
    if len(past) < settings.min_partitions:
        return {}
    pooled = _pooled(past)
    spread = np.sqrt(np.diag(pooled.covariances))
    kept &= spread > 1e-9 * np.abs(pooled.means)  # below it there is only what sums of floats leave
    past, moments = [_scaled(earlier, kept, spread) for earlier in past], _scaled(moments, kept, spread)
    if len(moments.names) < 2:
        return {}
    suspicions: dict[str, Suspicion] = {}
    pooled = _pooled(past)
    relations = _relations(pooled)
    left = _residuals(pooled, relations, pooled)[1]
    is_told = (left > 0) & (left <= np.sqrt(1 - RELATED))
    if not is_told.any():
        return {}
    usual, far = np.zeros(len(left)), _off(*_residuals(pooled, relations, moments), left)
    for skipped, earlier in enumerate(past):
        rest = _pooled([*past[:skipped], *past[skipped + 1 :]])
        usual = np.maximum(usual, _off(*_residuals(rest, _relations(rest), earlier), left))
    for place in np.flatnonzero(is_told):
        name = moments.names[place]
        of_their_own = independent([earlier.columns[name] for earlier in trailing], shape.columns[name])
        rows = [earlier.rows for earlier in trailing]
        limit = allowed(FLOOR["relation"], settings.tolerance * float(usual[place]), rows, shape.rows, of_their_own)
        what = "times as far off as rows usually are from what the other columns say"
        suspicion = Suspicion(float(far[place]), float(usual[place]), limit, what)
        suspicions[f"{name}: out of step with the other columns"] = suspicion
    return suspicions


def _off(means: Array, spreads: Array, left: Array) -> Array:
    """How far what is unexplained in a partition lies off 0, or how much wider it is; `left` is what is usual."""
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is left, nothing is asked
        return np.maximum(np.abs(means) / left, np.log(np.maximum(spreads / left, 1.0)))


def _scaled(moments: Moments, kept: NDArray[np.bool_], spread: Array) -> Moments:
    """Of the kept columns, in units of their spread: squares of what is very large or small stay numbers."""
    names = [name for name, is_kept in zip(moments.names, kept, strict=True) if is_kept]
    unit = spread[kept]
    return Moments(names, moments.means[kept] / unit, moments.covariances[np.ix_(kept, kept)] / np.outer(unit, unit))


def _pooled(parts: Sequence[Moments]) -> Moments:
    means = np.stack([part.means for part in parts])
    within = np.mean([part.covariances for part in parts], axis=0)
    between = np.cov(means, rowvar=False, bias=True).reshape(within.shape)
    return Moments(parts[0].names, means.mean(axis=0), within + between)


def _relations(moments: Moments) -> Array:
    """A column for each number: 1 for itself, and for the others the slopes of a ridge regression on them, below 0.

    All are in units of their spread; the ridge is a thousandth of it. One inverse gives the slopes of all: they are the
    inverse's column over its diagonal (the partial regressions of Lauritzen, Graphical Models, 1996, 5.1.3).
    """
    inverse = np.linalg.inv(moments.covariances + 1e-3 * np.eye(len(moments.names)))
    return np.asarray(inverse / np.diag(inverse), np.float64)


def _residuals(fitted: Moments, relations: Array, on: Moments) -> tuple[Array, Array]:
    """Mean and standard deviation of what each relation leaves unexplained in a partition."""
    means = (on.means - fitted.means) @ relations
    variances = np.sum(relations * (on.covariances @ relations), axis=0)
    return means, np.sqrt(np.maximum(variances, 0.0))
