"""What one column of some rows looks like: counts per bin and moments, which merge over parts into those of the whole.

A number is counted on the training data's quantiles and, beyond the outer ones, on steps that double: a partition in
another unit falls into bins of its own, and how far away it is can be told from the counts alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipelines.errors import SchemaError

Array = NDArray[Any]
KEPT_CATEGORIES = 50
KNOWN_CATEGORIES = 10_000
KEPT_NEW = 20  # categories that the training data lacks, of which a profile keeps the counts
STEPS = 2.0 ** np.arange(-2, 6)  # beyond the outer quantiles, in units of the distance between them
NORMAL_DECILES = 2.5631  # standard deviations between a normal distribution's first and last decile


class Frozen(BaseModel):
    """Goes to JSON by `model_dump(mode="json")` and comes back by `model_validate`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Numbers(Frozen):
    """Bins (-inf, e0], (e0, e1], ... (ek, inf) of a number; `scale` is its spread, 0 where it has none.

    The spread is that of the middle 80 % (as a standard deviation, if it were normal), which no outlier moves.
    """

    edges: tuple[float, ...]
    scale: float = 0.0

    @property
    def slots(self) -> int:
        return len(self.edges) + 3


class Categories(Frozen):
    """One bin for each of `kept` (most frequent first), one for all others.

    `known` is every category of the training data, `kept` first; None when they are too many to tell a new one.
    """

    kept: tuple[str, ...]
    known: tuple[str, ...] | None

    @property
    def slots(self) -> int:
        return len(self.kept) + 3


Bins = Numbers | Categories


class ColumnProfile(Frozen):
    """One column of some rows. `counts` has a slot for each bin, then unseen, then missing (null or not finite).

    `nulls` are rows without a value, `non_finite` those with a number that is none: NaN or infinite. Mean, standard
    deviation (of the rows, not corrected), min and max are those of finite numbers, None where there is none. `new`
    are the most frequent categories that the training data lacks, with at least how many rows each has.
    """

    rows: int
    nulls: int
    unseen: int
    mean: float | None
    min: float | None
    max: float | None
    counts: tuple[int, ...]
    non_finite: int = 0
    std: float | None = None
    new: dict[str, int] = {}

    @property
    def valued(self) -> int:
        """Rows with a value."""
        return self.rows - self.nulls - self.non_finite


def empty(bins: Bins) -> ColumnProfile:
    return ColumnProfile(rows=0, nulls=0, unseen=0, mean=None, min=None, max=None, counts=(0,) * bins.slots)


def merge(first: ColumnProfile, other: ColumnProfile) -> ColumnProfile:
    """The profile of both sets of rows; both must be on the same bins.

    Counts are exact, moments merge to rounding: Chan, Golub and LeVeque, Updating formulae for computing sample
    variances (1979), in standard deviations, so that no square overflows.

    >>> odd = ColumnProfile(rows=2, nulls=1, unseen=0, mean=3, min=3, max=3, std=0, counts=(0, 1, 0, 1))
    >>> even = ColumnProfile(rows=3, nulls=0, unseen=0, mean=1, min=0, max=2, std=1, counts=(3, 0, 0, 0))
    >>> both = merge(odd, even)
    >>> both.rows, both.nulls, both.mean, both.min, both.max, both.counts, round(both.std, 3)
    (5, 1, 1.5, 0.0, 3.0, (3, 1, 0, 1), 1.225)
    """
    parts = [part for part in (first, other) if part.mean is not None]
    numbers = sum(part.valued for part in parts)
    mean = sum(part.mean * (part.valued / numbers) for part in parts if part.mean is not None) if parts else None
    std = parts[0].std if len(parts) == 1 else _merged_std(first, other)
    return ColumnProfile(
        rows=first.rows + other.rows,
        nulls=first.nulls + other.nulls,
        unseen=first.unseen + other.unseen,
        mean=mean,
        min=min((part.min for part in parts if part.min is not None), default=None),
        max=max((part.max for part in parts if part.max is not None), default=None),
        counts=tuple(a + b for a, b in zip(first.counts, other.counts, strict=True)),
        non_finite=first.non_finite + other.non_finite,
        std=std,
        new=heavy(first.new, other.new),
    )


def _merged_std(first: ColumnProfile, other: ColumnProfile) -> float | None:
    if first.mean is None or other.mean is None or first.std is None or other.std is None:
        return None
    share = first.valued / (first.valued + other.valued)
    apart = np.sqrt(share * (1 - share))
    return float(
        np.hypot(
            np.hypot(np.sqrt(share) * first.std, np.sqrt(1 - share) * other.std),
            apart * first.mean - apart * other.mean,
        )
    )


def heavy(*counts: Mapping[str, int], most: int = KEPT_NEW) -> dict[str, int]:
    """The most frequent of what was counted in parts, with lower bounds: exact while there are `most` or fewer.

    A value with more than 1 / (most + 1) of all rows is always among them (Misra and Gries 1982; merged as in Agarwal
    et al., Mergeable summaries, 2012).

    >>> heavy({"a": 5, "b": 1}, {"a": 2, "c": 3}, most=2)
    {'a': 6, 'c': 2}
    """
    total: dict[str, int] = {}
    for part in counts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    ranked = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    taken = ranked[most][1] if len(ranked) > most else 0
    return {name: count - taken for name, count in ranked[:most] if count > taken}


def profile_column(name: str, column: pa.Array, bins: Bins) -> ColumnProfile:
    """Raises SchemaError when the column was a number and is none any more, or the reverse."""
    if not pa.types.is_null(column.type) and is_number(column.type) != isinstance(bins, Numbers):
        raise SchemaError(
            f"{name} had {'numbers' if isinstance(bins, Numbers) else 'categories'} in training, now {column.type}",
            where="profile",
            cure="give the column its old type in problem.yaml, or train anew",
        )
    return _numbers(column, bins) if isinstance(bins, Numbers) else _categories(column, bins)


def profile_values(values: Array, bins: Numbers, rows: int, nulls: int = 0) -> ColumnProfile:
    """Of finite `values`, (n,), of so many rows."""
    count = len(values)
    above = [np.count_nonzero(values > edge) for edge in bins.edges]
    mean = float((values / count).sum()) if count else None  # divided first: no overflow
    return ColumnProfile(
        rows=rows,
        nulls=nulls,
        unseen=0,
        mean=mean,
        min=float(values.min()) if count else None,
        max=float(values.max()) if count else None,
        counts=(*(-np.diff([count, *above, 0])).tolist(), 0, rows - count),
        non_finite=rows - count - nulls,
        std=None if mean is None else spread(values, mean),
    )


def spread(values: Array, mean: float) -> float:
    """Standard deviation in units of the largest value: no square overflows or vanishes."""
    unit = max(abs(float(values.max())), abs(float(values.min())))
    if not unit:
        return 0.0
    off = values / unit - mean / unit
    return unit * float(np.sqrt(np.mean(off * off)))


def _numbers(column: pa.Array, bins: Numbers) -> ColumnProfile:
    return profile_values(finite(column), bins, len(column), column.null_count)


def _categories(column: pa.Array, bins: Categories) -> ColumnProfile:
    known = bins.kept if bins.known is None else bins.known
    column = column.cast(pa.string())
    codes = pc.index_in(column, value_set=pa.array(known, pa.string())).fill_null(len(known))
    counts = np.bincount(codes.to_numpy(), minlength=len(known) + 1)
    others, strange = int(counts[len(bins.kept) : -1].sum()), int(counts[-1]) - column.null_count
    new: dict[str, int] = {}
    if bins.known is None:
        others, strange = others + strange, 0
    elif strange:
        counted = pc.value_counts(column.filter(pc.equal(codes, len(known))).drop_null())
        new = heavy(dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)))
    return ColumnProfile(
        rows=len(column),
        nulls=column.null_count,
        unseen=strange,
        mean=None,
        min=None,
        max=None,
        counts=(*counts[: len(bins.kept)].tolist(), others, strange, column.null_count),
        new=new,
    )


def bins_of(column: pa.ChunkedArray, bins: int) -> Bins:
    """Bins for a column of training data: quantiles of a number and steps beyond them, the most frequent categories."""
    return number_bins(finite(column), bins) if is_number(column.type) else _category_bins(column)


def number_bins(values: Array, bins: int, within: Sequence[float] = ()) -> Numbers:
    """Quantile bins of finite values, fewer where they repeat; `within`: nothing is outside, and the ends count apart.

    >>> number_bins(np.arange(100.0), 4, within=(0, 99)).edges
    (0.0, 4.0, 24.0, 49.0, 74.0, 94.0, 98.99999999999999)
    """
    if not len(values):
        return Numbers(edges=())
    inner = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf"))
    with np.errstate(over="ignore"):
        deciles = np.quantile(values, [0.1, 0.9], method="inverted_cdf")
        width = float(deciles[1] - deciles[0])
        if not width > 0:
            width = NORMAL_DECILES * spread(values, float((values / len(values)).sum()))
        largest = float(np.abs(values).max())
        # Below it there is only what sums of floats leave; beyond the largest float, nothing.
        width = width if 1e-12 * largest < width < np.inf else 0.0
        edges = np.concatenate([inner[0] - width * STEPS, inner, inner[-1] + width * STEPS])
    if inner[0] == values.min():  # the lowest bin is a single value: what falls below it deserves its own
        edges = np.append(edges, np.nextafter(inner[0], -np.inf))
    edges = edges[np.isfinite(edges)]
    if within:
        low, high = within
        edges = np.append(edges[(edges > low) & (edges < high)], [low, np.nextafter(high, low)])
    return Numbers(edges=tuple(np.unique(edges).tolist()), scale=width / NORMAL_DECILES)


def _category_bins(column: pa.ChunkedArray) -> Categories:
    counts = pc.value_counts(column.cast(pa.string()).drop_null())
    ranked = pa.table({"category": counts.field("values"), "count": counts.field("counts")})
    names = tuple(ranked.sort_by([("count", "descending"), ("category", "ascending")])["category"].to_pylist())
    return Categories(kept=names[:KEPT_CATEGORIES], known=names if len(names) <= KNOWN_CATEGORIES else None)


def is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def finite(column: pa.Array | pa.ChunkedArray) -> Array:
    """The finite numbers of a column, float64."""
    array = column.cast(pa.float64(), safe=False)
    values = array.to_numpy() if isinstance(array, pa.ChunkedArray) else array.to_numpy(zero_copy_only=False)
    return values[np.isfinite(values)]  # type: ignore[no-any-return]
