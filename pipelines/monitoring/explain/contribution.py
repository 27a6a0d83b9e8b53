"""contribution: which features carry the shift of the scores, and by how much.

For each feature: by how much its distribution moved from bin to bin, times what the model makes of each bin (the mean
SHAP value there: Lundberg and Lee 2017). That is the composition part of Kitagawa's decomposition of a difference
between two means (Components of a difference between two rates, 1955), with each bin's mean taken over both sides. What
is left, movement within the bins and features that act together, is shown as the remainder, so that all add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.evaluation.report.importance import shapley_values
from pipelines.profiles.column import Bins, ColumnProfile, Frozen, Numbers, empty, merge
from pipelines.profiles.lens import seen, view_names
from pipelines.profiles.profile import SCORE, Profiles, Reference

if TYPE_CHECKING:
    from pipelines.training.model import Model

Array = NDArray[Any]
CANCELLED = 0.1  # a shift that is a smaller part of the contributions' sizes is their rest: shares would say nothing


class Contribution(Frozen):
    """What one feature's movement adds to the shift.

    `margin`: of the mean margin (log-odds; of a regression and by the method sampling the score itself); `score`: the
    same of the mean score; `share`: of the score's whole shift, negative where it pulls the other way, None where the
    contributions cancel. `before`, `after`: the feature's mean, or the share of the `category` that changed most;
    `missing_before`, `missing_after`: shares of rows without a value.
    """

    feature: str
    margin: float
    score: float
    share: float | None
    before: float | None
    after: float | None
    category: str | None = None
    missing_before: float = 0.0
    missing_after: float = 0.0


class ScoreShift(Frozen):
    """The shift of the mean score; of several classes that of the mean probability of `label`.

    `margin`: the same of the mean margin. `slope`: what a unit of margin is worth in score, by least squares over the
    rows explained; `rows`: how many those are. The remainders are what no feature's own movement carries.
    """

    before: float
    after: float
    label: str | None
    method: str
    rows: int
    slope: float
    margin: float
    remainder_margin: float
    remainder_score: float


def pooled(profiles: Sequence[Profiles], reference: Reference) -> dict[str, ColumnProfile]:
    """The profile of all these rows together."""
    start = {name: empty(column.bins) for name, column in reference.columns.items()}
    return reduce(lambda whole, part: {name: merge(whole[name], part[name]) for name in whole}, profiles, start)


def score_shift(
    reference: Reference, before: Profiles, after: Profiles, model: Model, rows: pa.Table, is_after: Array, seed: int
) -> tuple[ScoreShift, tuple[Contribution, ...]] | None:
    """The shift of the mean score between two sets of rows, and what each feature's movement adds to it, the largest
    first; these and the remainder add up to the shift. None where a side has no rows or no score.

    Args:
        before, after: their profiles, on the reference's bins.
        rows: a sample of the rows of both sides, with the model's features.
        is_after: (n,) which of them are of the later side.
    """
    if not rows.num_rows or is_after.all() or not is_after.any():
        return None
    method, places, values = shapley_values(model, rows, seed)
    rows, is_after = rows.take(pa.array(places)), is_after[places]
    scores = model.scores(rows.select(model.features))
    label, ends = None, [before[SCORE].mean, after[SCORE].mean]
    if scores.ndim == 2:
        means = [scores[side].mean(axis=0) if side.any() else scores.mean(axis=0) for side in (~is_after, is_after)]
        at = int(np.abs(means[1] - means[0]).argmax())
        label, scores, values, ends = model.classes[at], scores[:, at], values[:, at], [mean[at] for mean in means]
    first, last = ends
    if first is None or last is None or is_after.all() or not is_after.any():
        return None
    margins = values.sum(axis=1)
    slope = _slope(margins, scores)
    moved = float(margins[is_after].mean() - margins[~is_after].mean())
    looked_at, margin_of = seen(rows, reference.lenses), {}
    for place, feature in enumerate(model.features):
        views = view_names(feature, reference.lenses[feature]) if feature in reference.lenses else [feature]
        margins_of_views = {
            name: _contribution(
                reference.columns[name].bins, before[name], after[name], looked_at[name], values[:, place], is_after
            )
            for name in views
            if name in reference.columns
        }
        # A vector's contribution is told along the view that carries most of it: the views are not told apart.
        for name in sorted(margins_of_views, key=lambda view: -abs(margins_of_views[view]))[:1]:
            margin_of[name] = margins_of_views[name]
    shift, sizes = float(last - first), slope * sum(abs(margin) for margin in margin_of.values())
    is_told = abs(shift) > CANCELLED * abs(sizes)
    listed = [
        Contribution(
            feature=name,
            margin=margin,
            score=slope * margin,
            share=slope * margin / shift if is_told else None,
            **_moved(reference.columns[name].bins, before[name], after[name])._asdict(),
        )
        for name, margin in margin_of.items()
    ]
    total = sum(margin_of.values())
    score = ScoreShift(
        before=float(first),
        after=float(last),
        label=label,
        method=method,
        rows=rows.num_rows,
        slope=slope,
        margin=moved,
        remainder_margin=moved - total,
        remainder_score=shift - slope * total,
    )
    return score, tuple(sorted(listed, key=lambda contribution: -abs(contribution.margin)))


def slots(column: pa.ChunkedArray, bins: Bins) -> Array:
    """Place (n,) of each row in the counts of a profile."""
    if isinstance(bins, Numbers):
        values = column.cast(pa.float64(), safe=False).to_numpy()
        return np.where(np.isfinite(values), np.searchsorted(bins.edges, values), bins.slots - 1)
    text = column.cast(pa.string())
    categories = pa.array(bins.kept if bins.known is None else bins.known, pa.string())
    codes = pc.index_in(text, value_set=categories).to_numpy(zero_copy_only=False)
    kept = len(bins.kept)
    strange = kept if bins.known is None else kept + 1
    codes = np.where(np.isnan(codes.astype(np.float64)), strange, np.minimum(codes, kept))
    return np.where(text.is_null().to_numpy(zero_copy_only=False), kept + 2, codes).astype(np.int64)


def _contribution(
    bins: Bins, before: ColumnProfile, after: ColumnProfile, column: pa.ChunkedArray, values: Array, is_after: Array
) -> float:
    """Sum over the bins of (share after - share before) * mean SHAP value; of a bin without explained rows it is 0."""
    place = slots(column, bins)
    means = []
    for side in (~is_after, is_after):
        count, total = (np.bincount(place[side], weight, bins.slots) for weight in (None, values[side]))
        means.append(np.divide(total, count, out=np.full(bins.slots, np.nan), where=count > 0))
    earlier, later = means
    both = np.where(np.isnan(later), earlier, (earlier + later) / 2)
    mean = np.nan_to_num(np.where(np.isnan(earlier), later, both))
    return float((_shares(after) - _shares(before)) @ mean)


class _Ends(NamedTuple):
    """What a feature was like on both sides, as in a `Contribution`."""

    before: float | None
    after: float | None
    missing_before: float
    missing_after: float
    category: str | None = None


def _moved(bins: Bins, before: ColumnProfile, after: ColumnProfile) -> _Ends:
    first, last = _shares(before), _shares(after)
    missing = float(first[-1]), float(last[-1])
    if isinstance(bins, Numbers):
        return _Ends(before.mean, after.mean, *missing)
    names = [*bins.kept, "any other", "new to the model"]
    most = int(np.abs(last - first)[:-1].argmax())
    return _Ends(float(first[most]), float(last[most]), *missing, names[most])


def _shares(profile: ColumnProfile) -> Array:
    return np.asarray(profile.counts, np.float64) / max(profile.rows, 1)


def _slope(margins: Array, scores: Array) -> float:
    away = margins - margins.mean()
    spread = float(away @ away)
    return float(away @ (scores - scores.mean())) / spread if spread > 1e-12 else 0.0
