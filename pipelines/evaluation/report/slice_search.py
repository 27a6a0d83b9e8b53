"""Where is a model worst? A search over all slices of one or two features, as Slice Finder does it.

Chung, Kraska, Polyzotis, Tae and Whang, Slice Finder: Automated Data Slicing for Model Validation (2019): slices whose
mean loss is above that of all other rows, by an effect that is worth looking at and is no chance, the simpler ones
first. Every feature is cut into cells; the sums of a pair of features' cells give those of all their slices at once, so
that ten thousand slices cost a few hundred passes over the rows.

This only points: what it finds, on some of the rows, is put to the test on others.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.documents.evaluation import Condition
from pipelines.evaluation.report.conditions import Axis, ranges
from pipelines.metrics.mean_tests import Worse, group_sums, row_sums, welch

Array = NDArray[Any]
Compare = Callable[[Array, Array], Worse]  # sums of a part and of the rest -> how much worse the part is
CUTS = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9)  # of numbers, finer at the ends, where models fail more often
MAX_VALUES = 30  # of a category
PAIRED_FEATURES = 40  # that show the most by themselves; with more, pairs would take minutes
MIN_EFFECT = 0.2  # standard deviations: what Cohen (1988) calls small
MIN_T = 3.0  # below that it is not worth a test
KEPT = 300  # of all slices, before those are sorted out that others explain
SIGNIFICANCE = 0.05  # of a slice against what is left of the one-feature slice it lies in


class Place(NamedTuple):
    """Positions in the lattice: of an axis and its slice; for a slice of two features twice."""

    t: float
    parts: tuple[tuple[int, int], ...]


def search(
    rows: pa.Table, features: list[str], losses: Array, weights: Array, *, min_rows: int, max_found: int
) -> tuple[list[list[Condition]], int]:
    """Conditions of at most `max_found` slices that are worse than the other rows, the surest first, none of which
    another one explains; and how many slices were looked at.

    Both a slice and the other rows have to be at least `min_rows`.
    """
    return search_sums(rows, features, row_sums(losses, weights), welch, min_rows=min_rows, max_found=max_found)


def search_sums(
    rows: pa.Table, features: list[str], sums: Array, compare: Compare, *, min_rows: int, max_found: int
) -> tuple[list[list[Condition]], int]:
    """As `search`, for any comparison of a slice with the rest that is made of sums over their rows.

    sums: (m, n), what each row adds; of a row that counts as one of `min_rows` the first is 1.
    """
    if rows.num_rows < 2 * min_rows:
        return [], 0
    axes = [ranges(rows, name, min_rows=min_rows, at=CUTS, max_values=MAX_VALUES) for name in features]
    places, looked_at, shown = [], 0, []
    for position, axis in enumerate(axes):
        axis_sums = axis.members @ group_sums(sums, axis.cells, axis.members.shape[1])
        worst, looked_at_here = _worst(axis_sums, sums.sum(axis=1), compare, min_rows)
        places += [Place(t, ((position, int(at)),)) for t, (at,) in worst]
        shown.append(_strongest(axis_sums, sums.sum(axis=1), compare, min_rows))
        looked_at += looked_at_here
    paired = sorted(np.argsort([-strength for strength in shown], kind="stable")[:PAIRED_FEATURES].tolist())
    for first, other in combinations(paired, 2):
        pairs = _pair_sums(sums, axes[first], axes[other])
        worst, looked_at_here = _worst(pairs, sums.sum(axis=1), compare, min_rows)
        places += [Place(t, ((first, int(at)), (other, int(place)))) for t, (at, place) in worst]
        looked_at += looked_at_here
    places = sorted(places, key=lambda place: (-place.t, len(place.parts), place.parts))[:KEPT]
    return _unexplained(places, axes, sums, compare, min_rows, max_found), looked_at


def _pair_sums(sums: Array, first: Axis, other: Axis) -> Array:
    """Sums of every slice of the first feature with every one of the second, (slices, slices, m)."""
    shape = first.members.shape[1], other.members.shape[1]
    cells = group_sums(sums, first.cells * shape[1] + other.cells, shape[0] * shape[1]).reshape(*shape, -1)
    crossed = np.tensordot(first.members.astype(np.float64), cells, axes=1)
    return np.asarray(np.einsum("jb,ibk->ijk", other.members.astype(np.float64), crossed))


def _worst(
    sums: Array, total: Array, compare: Compare, min_rows: int
) -> tuple[list[tuple[float, tuple[int, ...]]], int]:
    """t and place of the slices that are worse, the surest first, and how many there are to look at."""
    is_large = _is_large(sums, total, min_rows)
    contrast = compare(sums, total - sums)
    is_worse = is_large & _is_worse(contrast)
    order = np.argsort(-contrast.t[is_worse], kind="stable")[:KEPT]
    places = np.argwhere(is_worse)[order]
    values = contrast.t[is_worse][order]
    return [(float(t), tuple(place)) for t, place in zip(values, places.tolist(), strict=True)], int(is_large.sum())


def _strongest(sums: Array, total: Array, compare: Compare, min_rows: int) -> float:
    """The largest t, either way, of a feature's slices: a slice that is better tells of its feature as well."""
    t = compare(sums, total - sums).t[_is_large(sums, total, min_rows)]
    return float(np.abs(np.nan_to_num(t)).max(initial=0))


def _is_large(sums: Array, total: Array, min_rows: int) -> Array:
    return np.asarray((sums[..., 0] >= min_rows) & (total[0] - sums[..., 0] >= min_rows))


def _is_worse(contrast: Worse) -> Array:
    with np.errstate(invalid="ignore"):
        return np.asarray((contrast.t >= MIN_T) & (contrast.effect >= MIN_EFFECT))


def _unexplained(
    places: list[Place], axes: list[Axis], sums: Array, compare: Compare, min_rows: int, max_found: int
) -> list[list[Condition]]:
    """The surest slice, then the surest that is still worse without that one's rows, and so on.

    The t of a slice is largest where the fault is: a larger one waters it down, a smaller one has fewer rows. A slice
    of two features whose rows are not clearly worse than the rest of one of its features' slices is that one.
    """
    left = np.ones(sums.shape[1], dtype=bool)
    kept: list[list[Condition]] = []
    for place in places:
        chosen = place.parts
        if not _stands(_mask(axes, chosen), left, sums, compare, min_rows):
            continue
        for part in chosen if len(chosen) == 2 else ():
            parent = (part,)
            whole = _mask(axes, parent)
            if _stands(whole, left, sums, compare, min_rows) and _explains(axes, place, part, left, sums, compare):
                chosen = parent
                break
        rows = _mask(axes, chosen)
        kept.append([condition for axis, at in chosen for condition in axes[axis].slices[at]])
        left &= ~rows
        if len(kept) == max_found:
            break
    return kept


def _stands(rows: Array, left: Array, sums: Array, compare: Compare, min_rows: int) -> bool:
    """Whether the rows are worse than the others, among those that are left."""
    inside = sums[:, rows & left].sum(axis=1)
    total = sums[:, left].sum(axis=1)
    return bool(_is_large(inside, total, min_rows)) and bool(_is_worse(compare(inside, total - inside)))


def _explains(
    axes: list[Axis], place: Place, part: tuple[int, int], left: Array, sums: Array, compare: Compare
) -> bool:
    """Whether the slice is no worse than what else there is in the slice of one of its features."""
    rows, whole = _mask(axes, place.parts), _mask(axes, (part,))
    contrast = compare(sums[:, rows & left].sum(axis=1), sums[:, whole & ~rows & left].sum(axis=1))
    siblings = sum(len(axis.slices) for axis in axes)  # among so many parts of it, some are worse by chance
    return bool(contrast.p_value > SIGNIFICANCE / siblings)


def _mask(axes: list[Axis], parts: tuple[tuple[int, int], ...]) -> Array:
    chosen = axes[parts[0][0]].rows_of(parts[0][1])
    for axis, at in parts[1:]:
        chosen = chosen & axes[axis].rows_of(at)
    return chosen
