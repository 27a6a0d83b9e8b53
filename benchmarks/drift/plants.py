"""What is done to real partitions: faults of a feed and shifts of the world, of every kind and several sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.drift.world import LABEL, World
from pipelines.monitoring.diagnose.finding import Kind
from pipelines.profiles.column import is_number
from pipelines.profiles.profile import SCORE

SEED = 0
FEATURES = 8  # that the model leans on most are harmed one by one; of the others harm costs nothing
CATEGORIES = 3  # of a feature
Harm = Callable[[pa.Table, pa.Table], pa.Table]
Values = Callable[[pa.Array], pa.Array]

UNITS: dict[str, tuple[str, Values]] = {
    "degF": ("Celsius", lambda values: pc.multiply(pc.subtract(values, 32.0), 5 / 9)),
    "percent": ("shares of 1", lambda values: pc.divide(values, 100.0)),
    "mph": ("km/h", lambda values: pc.multiply(values, 1.609344)),
    "mile": ("km", lambda values: pc.multiply(values, 1.609344)),
    "inch": ("mm", lambda values: pc.multiply(values, 25.4)),
    "millibar": ("inches of mercury", lambda values: pc.multiply(values, 0.02953)),
    "hour": ("minutes", lambda values: pc.multiply(values, 60.0)),
    "year": ("days", lambda values: pc.multiply(values, 365.0)),
    "dollar": ("thousands", lambda values: pc.divide(values, 1000.0)),
}
FAULT: tuple[Kind, ...] = ("data fault",)
BROKEN: tuple[Kind, ...] = ("data fault", "covariate shift")  # whether a feed broke or the world moved nobody can tell
SHIFT: tuple[Kind, ...] = ("covariate shift",)
CONCEPT: tuple[Kind, ...] = ("concept drift",)


@dataclass(frozen=True)
class Plant:
    """`harm` takes a partition and the one before it, and the model scores what it gives if `is_scored_after`.

    A finding is right if it is of one of `kinds` and names one of `features` first; none: there is no one feature.
    """

    name: str
    group: str
    kinds: tuple[Kind, ...]
    features: tuple[str, ...]
    harm: Harm
    is_scored_after: bool = True


def plants(world: World) -> Iterator[Plant]:
    names = leading(world)
    numbers = [name for name in names if is_number(world.seen[name].type)]
    for name in world.problem.feature_names:
        column = world.problem.columns.get(name)
        if column and column.unit in UNITS and is_number(world.seen[name].type):
            unit, convert = UNITS[column.unit]
            yield Plant(f"{name} in {unit}", "another unit", BROKEN, (name,), _mapped(name, convert))
    for name in numbers:
        std = world.reference.columns[name].profile.std or 1.0
        for size in (0.5, 1.0, 2.0):
            for sign, word in ((1, "up"), (-1, "down")):
                harm = _mapped(name, _raised(sign * size * std))
                yield Plant(f"{name} {size:g} sd {word}", "shifted", SHIFT, (name,), harm)
        yield Plant(f"{name} ten times as much", "another unit", BROKEN, (name,), _mapped(name, _times(10.0)))
        yield Plant(f"{name} with the sign reversed", "another unit", BROKEN, (name,), _mapped(name, _times(-1.0)))
        yield Plant(f"{name} frozen at its mean", "frozen", FAULT, (name,), _mapped(name, _mean))
    for name in names:
        for share in (0.1, 0.3, 0.6, 1.0):
            yield Plant(f"{share:.0%} of {name} empty", "empty", BROKEN, (name,), _mapped(name, _emptied(share)))
    for one, other in zip(numbers[::2], numbers[1::2], strict=False):
        yield Plant(f"{one} and {other} exchanged", "exchanged", BROKEN, (one, other), _exchanged(one, other))
    for name in [name for name in names if name not in numbers]:
        for category in _common(world.seen[name])[:CATEGORIES]:
            for times in (2.0, 4.0):
                harm = _oversampled(name, category, times)
                yield Plant(f"{times:g} times as many {name}={category}", "mix", SHIFT, (name,), harm)
        yield Plant(f"codes of {name} renamed", "renamed", BROKEN, (name,), _mapped(name, _renamed))
    is_number_wanted = world.problem.task == "regression"
    change, told = (_higher(world), "two sd of errors higher") if is_number_wanted else (_turned, "turned round")
    for name in names:
        for share in (0.1, 0.25, 0.5):
            harm = _relabelled(name, share, world.seen[name], change)
            yield Plant(f"labels {told} in {share:.0%} of {name}", "concept", CONCEPT, (name,), harm, False)
    yield Plant("the rows of the partition before, again", "fed twice", FAULT, (), lambda _, before: before)
    if not is_number_wanted:
        for rate in (0.5, 2.0):
            kinds: tuple[Kind, ...] = ("label shift", "prediction drift", "calibration drift")
            yield Plant(f"{rate:g} times as many positives", "label shift", kinds, (), _prior(rate), False)
        yield Plant("scores 0 or 1", "scores", FAULT, (SCORE,), _mapped(SCORE, _decided), is_scored_after=False)
    yield Plant("scores frozen at their mean", "scores", FAULT, (SCORE,), _mapped(SCORE, _mean), is_scored_after=False)
    yield Plant("a third of the scores is NaN", "scores", FAULT, (SCORE,), _mapped(SCORE, _nan), is_scored_after=False)


def leading(world: World) -> list[str]:
    """The features that the model leans on most: by how much AUC (R2) is lost where one is shuffled over test rows."""
    from pipelines.metrics.metrics import SKILL, measure

    metric = SKILL[world.problem.task]

    rows, random = world.held_out.rows, np.random.default_rng(SEED)
    whole = measure(world.held_out.scored)[metric] or 0.0
    lost = {}
    for name in world.problem.feature_names:
        place = rows.schema.get_field_index(name)
        mixed = rows.set_column(place, rows.schema.field(place), rows[name].take(random.permutation(rows.num_rows)))
        shuffled = replace(world.held_out.scored, scores=world.model.scores(mixed))
        lost[name] = whole - (measure(shuffled)[metric] or 0.0)
    return sorted(lost, key=lambda name: -lost[name])[:FEATURES]


def _mapped(name: str, change: Values) -> Harm:
    def harm(week: pa.Table, _: pa.Table) -> pa.Table:
        column = week[name].combine_chunks()
        return _set(week, name, change(column.cast(pa.float64()) if is_number(column.type) else column))

    return harm


def _set(week: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The column in its old type, as a feed of the wrong values would still have it."""
    place = week.schema.get_field_index(name)
    return week.set_column(place, name, values.cast(week.schema.field(place).type, safe=False))


def _raised(by: float) -> Values:
    return lambda values: pc.add(values, by)


def _times(factor: float) -> Values:
    return lambda values: pc.multiply(values, factor)


def _mean(values: pa.Array) -> pa.Array:
    return pa.array(np.full(len(values), pc.mean(values).as_py()))


def _emptied(share: float) -> Values:
    def empty(values: pa.Array) -> pa.Array:
        gone = np.random.default_rng(SEED).random(len(values)) < share
        return pc.if_else(pa.array(gone), pa.scalar(None, values.type), values)

    return empty


def _renamed(values: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise("x-", pc.utf8_lower(values.cast(pa.string())), "")


def _decided(values: pa.Array) -> pa.Array:
    return pc.greater(values, pc.mean(values)).cast(pa.float64())


def _nan(values: pa.Array) -> pa.Array:
    gone = np.random.default_rng(SEED).random(len(values)) < 1 / 3
    return pc.if_else(pa.array(gone), float("nan"), values)


def _exchanged(one: str, other: str) -> Harm:
    return lambda week, _: _set(_set(week, one, week[other]), other, week[one])


def _common(column: pa.ChunkedArray) -> list[str]:
    counts = pc.value_counts(column.drop_null())
    order = np.argsort(-counts.field("counts").to_numpy(), kind="stable")
    return [str(one) for one in counts.field("values").take(pa.array(order)).to_pylist()]


def _oversampled(name: str, category: str, times: float) -> Harm:
    """Its rows so many times, and of all others so many that the number of rows stays."""

    def harm(week: pa.Table, _: pa.Table) -> pa.Table:
        is_its = pc.fill_null(pc.equal(week[name].cast(pa.string()), category), False).to_numpy()
        its, others = np.flatnonzero(is_its), np.flatnonzero(~is_its)
        random = np.random.default_rng(SEED)
        more = random.choice(its, int(len(its) * (times - 1))) if len(its) else its
        kept = random.choice(others, max(week.num_rows - len(its) - len(more), 0), replace=False)
        return week.take(pa.array(np.sort(np.concatenate([its, more, kept]))))

    return harm


def _turned(labels: np.ndarray) -> np.ndarray:
    return 1 - labels


def _higher(world: World) -> Callable[[np.ndarray], np.ndarray]:
    errors = world.held_out.scored.labels - world.held_out.scored.scores
    by = 2 * float(np.std(errors))
    return lambda labels: labels + by


def _relabelled(name: str, share: float, seen: pa.ChunkedArray, change: Callable[[np.ndarray], np.ndarray]) -> Harm:
    """Labels changed where a number is among its largest, or in categories, of about so many rows in all."""
    is_numeric = is_number(seen.type)
    edge = float(np.nanquantile(seen.cast(pa.float64()).to_numpy(), 1 - share)) if is_numeric else 0.0
    categories = pa.array([] if is_numeric else _region(seen, share), pa.string())

    def harm(week: pa.Table, _: pa.Table) -> pa.Table:
        values, labels = week[name], week[LABEL].to_numpy()
        is_its = values.cast(pa.float64()).to_numpy() > edge if is_numeric else pc.is_in(values, categories).to_numpy()
        turned = np.where(is_its, change(labels), labels)
        return _set(week, LABEL, pa.array(turned, mask=np.isnan(turned)))

    return harm


def _region(seen: pa.ChunkedArray, share: float) -> Sequence[str]:
    """Categories, the most frequent left out first where they are more than `share`, of about so many rows."""
    counts = pc.value_counts(seen.drop_null())
    shares = {
        str(name): count / len(seen)
        for name, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    }
    chosen: list[str] = []
    for name in sorted(shares, key=lambda one: -shares[one]):
        if sum(shares[one] for one in chosen) + shares[name] <= share * 1.2:
            chosen.append(name)
    return chosen or [min(shares, key=lambda one: shares[one])]


def _prior(rate: float) -> Harm:
    """So many times as many positives among as many rows: what a class looks like stays."""

    def harm(week: pa.Table, _: pa.Table) -> pa.Table:
        labels, random = week[LABEL].to_numpy(), np.random.default_rng(SEED)
        positive, others = np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)
        wanted = min(int(rate * len(positive)), week.num_rows - 1)
        kept = [random.choice(positive, wanted), random.choice(others, week.num_rows - wanted)]
        return week.take(pa.array(np.sort(np.concatenate(kept))))

    return harm
