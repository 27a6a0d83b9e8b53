"""What is done to a week of the default problem's features: faults of a feed, and shifts of the world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.monitoring.finding import Kind
from pipelines.monitoring.profile import SCORE, Reference

SEED = 0
ROWS = "rows"  # how a finding names all rows at once, in place of a feature

UNITS: dict[str, tuple[str, Callable[[pa.Array], pa.Array]]] = {
    "temp": ("Celsius", lambda values: pc.multiply(pc.subtract(values, 32.0), 5 / 9)),
    "dewp": ("Celsius", lambda values: pc.multiply(pc.subtract(values, 32.0), 5 / 9)),
    "humid": ("shares of 1", lambda values: pc.divide(values, 100.0)),
    "wind_speed": ("km/h", lambda values: pc.multiply(values, 1.609)),
    "precip": ("mm", lambda values: pc.multiply(values, 25.4)),
    "visib": ("km", lambda values: pc.multiply(values, 1.609)),
    "pressure": ("inches of mercury", lambda values: pc.multiply(values, 0.02953)),
    "day_precip": ("mm", lambda values: pc.multiply(values, 25.4)),
    "day_visib": ("km", lambda values: pc.multiply(values, 1.609)),
    "day_wind": ("km/h", lambda values: pc.multiply(values, 1.609)),
    "distance": ("km", lambda values: pc.multiply(values, 1.609)),
}
FROZEN = ("temp", "humid", "distance", "carrier_late_rate_28d")
EMPTY = (("temp", 0.3), ("seats", 0.3), ("carrier", 0.3), ("day_wind", 0.3), ("carrier_late_rate_28d", 0.3),
         ("carrier_late_rate_28d", 1.0))  # fmt: skip
SWAPPED = (
    ("temp", "dewp"),
    ("sched_dep_hour", "sched_arr_hour"),
    ("distance", "seats"),
    ("carrier_late_rate_28d", "dest_late_rate_28d"),
    ("origin", "dest"),
)
MORE = ("distance", "plane_age", "seats", "sched_dep_hour", "temp", "dewp", "humid", "wind_speed", "pressure",
        "day_wind", "carrier_late_rate_28d")  # fmt: skip
DOUBLED = {"UA": "United", "B6": "JetBlue", "AA": "American", "9E": "Endeavor"}


@dataclass(frozen=True)
class Plant:
    """`harm` takes a week and the week before it; `is_scored_after`: the model scores what it gives.

    A finding is of the right kind if it is one of `kinds`, of the right feature if it names one of `features`.
    """

    name: str
    kinds: tuple[Kind, ...]
    features: tuple[str, ...]
    harm: Callable[[pa.Table, pa.Table], pa.Table]
    is_scored_after: bool = True


def plants(reference: Reference) -> Iterator[Plant]:
    for name, (unit, convert) in UNITS.items():
        yield Plant(f"{name} in {unit}", ("covariate shift",), (name,), _mapped(name, convert))
    for name in FROZEN:
        yield Plant(f"{name} frozen at its mean", ("data fault",), (name,), _mapped(name, _mean))
    for name, share in EMPTY:
        yield Plant(f"{share:.0%} of {name} empty", ("data fault",), (name,), _mapped(name, _emptied(share)))
    for pair in SWAPPED:
        yield Plant(f"{pair[0]} and {pair[1]} swapped", ("data fault", "covariate shift"), pair, _swapped(*pair))
    for name in MORE:
        yield Plant(
            f"{name} one standard deviation up", ("covariate shift",), (name,), _mapped(name, _raised(reference, name))
        )
    for carrier, told in DOUBLED.items():
        yield Plant(f"share of {told} doubled", ("covariate shift",), ("carrier",), _doubled(carrier))
    yield Plant("the rows of the week before, again", ("data fault",), (ROWS,), lambda _, before: before)
    yield Plant("scores 0 or 1", ("data fault",), (SCORE,), _mapped(SCORE, _decided), is_scored_after=False)
    yield Plant("scores frozen at their mean", ("data fault",), (SCORE,), _mapped(SCORE, _mean), is_scored_after=False)
    yield Plant("scores doubled", ("prediction drift",), (SCORE,), _mapped(SCORE, _twice), is_scored_after=False)


def _mapped(name: str, change: Callable[[pa.Array], pa.Array]) -> Callable[[pa.Table, pa.Table], pa.Table]:
    def harm(week: pa.Table, _: pa.Table) -> pa.Table:
        column = week[name].combine_chunks()
        return _set(week, name, change(column if pa.types.is_string(column.type) else column.cast(pa.float64())))

    return harm


def _set(week: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The column in its old type, as a feed of the wrong values would still have it."""
    place = week.schema.get_field_index(name)
    return week.set_column(place, name, values.cast(week.schema.field(place).type, safe=False))


def _mean(values: pa.Array) -> pa.Array:
    return pa.array(np.full(len(values), pc.mean(values).as_py()))


def _emptied(share: float) -> Callable[[pa.Array], pa.Array]:
    def empty(values: pa.Array) -> pa.Array:
        gone = np.random.default_rng(SEED).random(len(values)) < share
        return pc.if_else(pa.array(gone), pa.scalar(None, values.type), values)

    return empty


def _decided(values: pa.Array) -> pa.Array:
    return pc.greater(values, pc.mean(values)).cast(pa.float64())


def _twice(values: pa.Array) -> pa.Array:
    return pc.min_element_wise(pc.multiply(values, 2.0), 1.0)


def _raised(reference: Reference, name: str) -> Callable[[pa.Array], pa.Array]:
    return lambda values: pc.add(values, reference.columns[name].profile.std)


def _swapped(one: str, other: str) -> Callable[[pa.Table, pa.Table], pa.Table]:
    return lambda week, _: _set(_set(week, one, week[other]), other, week[one])


def _doubled(carrier: str) -> Callable[[pa.Table, pa.Table], pa.Table]:
    """Its rows twice, and of all others so many that the number of rows stays."""

    def harm(week: pa.Table, _: pa.Table) -> pa.Table:
        is_its = pc.equal(week["carrier"], carrier).to_numpy()
        its, others = np.flatnonzero(is_its), np.flatnonzero(~is_its)
        kept = np.random.default_rng(SEED).choice(others, max(week.num_rows - 2 * len(its), 0), replace=False)
        return week.take(pa.array(np.sort(np.concatenate([its, its, kept]))))

    return harm
