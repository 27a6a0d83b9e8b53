"""Shape rules: does a partition look like those before it, or has something happened to the feed?

What a column may hold says nothing about degrees that became Celsius, a column that froze, or last week's file sent
once more. Those show only beside the partitions before: how far a column usually moves from one to the next is known,
and a partition that lies several times as far off from *all* of them is not a season but a fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines import sql
from pipelines.config import Shape
from pipelines.errors import DataError
from pipelines.ingest.batch import BatchRule
from pipelines.ingest.validate import some
from pipelines.problem import Problem, Query

Array = NDArray[np.float64]

LEVELS = [round(0.05 * step, 2) for step in range(1, 20)]
PAIRED = 6  # categories, the first ones declared, of which each two are looked at together
PAIR_BUCKETS = 65_536
BUCKETS = 64  # that the values of a category are hashed to: bounded, whatever the vocabulary
SAMPLED_ROWS = 20_000  # of a partition: by the hash of the key, so that every run looks at the same rows
FLOOR = {
    "number": 0.2,
    "category": 0.15,
    "mostly": 0.25,
    "nulls": 0.05,
    "spread": 1.4,
    "relation": 0.35,
    "rows": 0.4,
    "distinct": 0.8,
    "copies": 0.04,
    "unseen": 0.2,
    "beyond": 0.4,
    "pairs": 0.15,
    "gone": 0.05,
}  # what no history makes suspicious
VALUES_FROM = 5  # partitions that are taken to have shown nearly all values that there are
FEWEST_VALUES = 10  # by which a standard deviation is told from nought
LARGEST = 1e100  # numbers are cut here, so that their squares are numbers too
MOSTLY = 0.5  # share of one value from which on it says little: no rain, good sight
FEW_VALUES = 1_000  # as many at most has a column whose every value is known: a count, or a rounded measurement
RELATED = 0.8  # share of a number's variance that the others explain, for the relation to be held to
FEW = 1.5  # partitions: what is usual is told from so many that it is widened by this over their number
UNIT_AT = 0.6  # of the distance that is suspicious by itself: from there on a change of units is thought of
# What people change units by: (factor, offset), new = old * factor + offset; each is tried both ways.
UNITS = {
    "degrees Fahrenheit and Celsius": (5 / 9, -160 / 9),
    "Celsius and Kelvin": (1.0, 273.15),
    "miles and metres": (1609.344, 0.0),
    "miles per hour and metres per second": (0.44704, 0.0),
    "kilometres per hour and metres per second": (3.6, 0.0),
    "feet and metres": (0.3048, 0.0),
    "inches and centimetres": (2.54, 0.0),
    "inches and millimetres": (25.4, 0.0),
    "pounds and kilograms": (0.45359237, 0.0),
    "inches of mercury and millibar": (33.8639, 0.0),
    "a factor of 10": (10.0, 0.0),
    "percent and shares": (100.0, 0.0),
    "thousands and ones": (1000.0, 0.0),
    "a factor of 60": (60.0, 0.0),
    "a factor of 3,600": (3600.0, 0.0),
    "hours and days": (24.0, 0.0),
    "the sign": (-1.0, 0.0),
}


@dataclass(frozen=True)
class ColumnShape:
    """One column in one partition: the shares of its values by bucket, and a number's quantiles at LEVELS.

    `count` are the values that there are, `distinct` how many different ones, `spread` a number's standard deviation,
    `mode_share` the share of its most frequent value. Without a value both arrays are empty. `known` are all values of
    a number that has FEW_VALUES of them at most, and `known_shares` theirs: of the rows with other values than the most
    frequent, where that is most.
    """

    kind: str
    count: int
    shares: Array
    null_share: float
    values: Array
    spread: float = 0.0
    mode_share: float = 0.0
    distinct: int = 0
    known: Array = field(default_factory=lambda: np.empty(0))
    known_shares: Array = field(default_factory=lambda: np.empty(0))

    @property
    def told_share(self) -> float:
        """Of the values, those that `known_shares` are of."""
        return 1 - self.mode_share if self.mode_share >= MOSTLY else 1.0


@dataclass(frozen=True)
class PartitionShape:
    """`content` are hashes of the sampled rows without key and times: rows that are sent again have the same.

    `copies` is the share of rows that say what another one of the partition says.
    """

    rows: int
    columns: dict[str, ColumnShape]
    content: NDArray[np.uint64]
    moments: Moments
    copies: float = 0.0


@dataclass(frozen=True)
class Moments:
    """Means (d,) and covariances (d, d) of the numbers; a gap counts as its column's mean.

    The mean of a column without a value is NaN.
    """

    names: list[str]
    means: Array
    covariances: Array


def shapes(problem: Problem, query: Query, rows: Any) -> dict[str, PartitionShape]:
    """The shape of each partition in `rows` (an Arrow dataset or table of events or labels) by its key.

    Bounded memory: a partition is sampled by the hash of its keys, categories are hashed to BUCKETS.
    """
    columns = _columns(problem, query)
    with sql.connection({"rows": rows}) as database:
        counts = dict(database.sql("SELECT partition, count(*) FROM rows GROUP BY 1").fetchall())
        if not counts:
            return {}
        every = {key: -(-count // SAMPLED_ROWS) for key, count in counts.items()}
        cases = " ".join(f"WHEN {sql.literal(key)} THEN {step}" for key, step in every.items())
        chosen = ", ".join(f"{expression} AS {sql.quote(name)}" for name, (_, expression) in columns.items())
        database.execute(f"""
            CREATE TEMP TABLE sampled AS SELECT partition, {chosen} FROM rows
            WHERE hash({sql.quote(problem.key)}) % (CASE partition {cases} END) = 0
        """)
        parts: dict[str, dict[str, ColumnShape]] = {key: {} for key in counts}
        for name, (kind, _) in columns.items():
            for key, shape in _profile(database, name, kind):
                parts[key][name] = shape
        numbers = [name for name, (kind, _) in columns.items() if kind == "number"]
        moments = {key: _moments(database, key, numbers) for key in counts}
        told = [sql.quote(name) for name in columns if not name.startswith("(")]
        content: dict[str, NDArray[np.uint64]] = {}
        copies: dict[str, float] = {}
        if query == "events":
            found = database.sql(f"SELECT partition, hash({', '.join(told)}) AS content FROM sampled").fetchnumpy()
            for key in counts:
                hashes = np.asarray(found["content"][found["partition"] == key], np.uint64)
                content[key] = np.unique(hashes)
                copies[key] = 1 - len(content[key]) / max(len(hashes), 1)
    none = np.empty(0, np.uint64)
    return {
        key: PartitionShape(counts[key], parts[key], content.get(key, none), moments[key], copies.get(key, 0.0))
        for key in sorted(parts)
    }


def shape_rules(
    problem: Problem, before: Mapping[str, PartitionShape], batch: Mapping[str, PartitionShape]
) -> list[BatchRule]:
    """One rule per column and kind of change; `before` are the partitions before the batch, the oldest first.

    What is observed is the distance over the largest that is usual, so that 1 is the limit. A partition is compared
    with the trailing ones before it, be they published or in the batch. One that was accepted, or that has too few
    before it, breaks nothing.
    """
    settings = problem.validation.shape
    if settings is None:
        return []
    history, accepted = dict(before), {day.isoformat() for day in settings.accepted}
    observed: dict[str, dict[str, float | None]] = {}
    for key, shape in batch.items():
        trailing = list(history.values())[-settings.trailing_partitions :]
        history[key] = shape
        if len(trailing) < settings.min_partitions or key in accepted or not shape.rows:
            continue
        for name, value in _suspicions(settings, trailing, shape).items():
            observed.setdefault(name, {})[key] = value
    return [BatchRule(name, values, max=1.0) for name, values in observed.items()]


def check_shape(problem: Problem, query: Query, checked: Sequence[BatchRule]) -> None:
    """Let no partition pass that looks unlike those before it.

    Raises:
        DataError: with each such partition, and in what it differs, the worst first.
    """
    odd: dict[str, list[tuple[float, str]]] = {}
    for rule in checked:
        for key in rule.failed:
            odd.setdefault(key, []).append((rule.observed[key] or 0.0, rule.name))
    if not odd:
        return
    lines = []
    for key, found in sorted(odd.items()):
        told = [f"{name} ({far:.1f} times what is usual)" for far, name in sorted(found, reverse=True)]
        lines.append(f"{key} looks unlike the partitions before it: {some(told)}")
    raise DataError(
        "\n".join(lines),
        where=str(problem.folder / f"{query}.sql"),
        cure="nothing was published: has the feed changed (units, columns, a stuck or repeated delivery)? Mend it and "
        "clear this run. If the world has changed and the feed is sound, name the partition under "
        "validation.shape.accepted",
    )


def _suspicions(settings: Shape, trailing: Sequence[PartitionShape], shape: PartitionShape) -> dict[str, float]:
    """Rule -> how far off, in what is usual."""
    settings = settings.model_copy(update={"tolerance": settings.tolerance * (1 + FEW / len(trailing))})
    found: dict[str, float] = {}
    for name, column in shape.columns.items():
        if name in settings.ignore:
            continue
        past = [one.columns[name] for one in trailing if name in one.columns]
        if len(past) < settings.min_partitions:
            continue
        most = max(one.null_share for one in past)
        usual_nulls = most - min(one.null_share for one in past) + _chance(most, shape.rows)
        nulls = column.null_share - most
        found[f"{name}: missing values"] = nulls / (FLOOR["nulls"] + settings.tolerance * usual_nulls)
        past = [one for one in past if len(one.shares)]
        if not len(column.shares) or len(past) < settings.min_partitions:
            continue
        if all(one.known_shares.any() for one in (*past, column)):
            found |= _values(settings, name, past, column)
        if column.kind == "pair":
            continue
        # Where one value is most of the rows, as no rain is, quantiles say nothing; and a quiet week is no news.
        is_graded = column.kind == "number" and max(one.mode_share for one in past) < MOSTLY
        if is_graded:
            found |= _number(settings, name, past, column)
            found[f"{name}: number of different values"] = _distinct(past, column)
        else:
            far, usual = _distances([one.shares for one in past], column.shares, "category")
            floor = "category" if column.kind == "category" else "mostly"
            limit = _limit(floor, settings.tolerance * usual, [one.count for one in past], column.count)
            found[f"{name}: other values"] = far / limit
            found |= {f"{name}: a value is gone": _gone(past, column)} if column.kind == "category" else {}
    odd = {name.partition(":")[0] for name, far in found.items() if far > 1}
    found |= _relations(settings, trailing, shape, odd) | _sizes(settings, trailing, shape)
    if len(shape.content) and trailing:
        usual = max((_repeated(one, trailing[:place]) for place, one in enumerate(trailing) if place), default=0.0)
        beyond = settings.max_repeated_share + settings.tolerance * _chance(usual, len(shape.content))
        found["rows that were there before"] = max(_repeated(shape, trailing) - usual, 0.0) / beyond
    return {name: far for name, far in found.items() if name not in settings.ignore}


def _sizes(settings: Shape, trailing: Sequence[PartitionShape], shape: PartitionShape) -> dict[str, float]:
    """How many rows there are, and how many of them say what another one says."""
    most = max(one.copies for one in trailing)
    usual = most - min(one.copies for one in trailing) + _chance(most, shape.rows)
    found = {"rows that say the same": (shape.copies - most) / (FLOOR["copies"] + settings.tolerance * usual)}
    sizes = [np.log([one.rows]) for one in trailing if one.rows]
    if len(sizes) >= settings.min_partitions:
        far, usual = _distances(sizes, np.log([shape.rows]), "rows")
        counts = [one.rows for one in trailing]
        found["number of rows"] = far / _limit("rows", settings.tolerance * usual, counts, shape.rows)
    return found


def _limit(kind: str, usual: float, before: Sequence[int], now: int) -> float:
    """The distance up to which nothing is suspicious, of a partition of `now` rows after some of `before` rows.

    Few rows lie far off by chance: a distance goes down with the root of their number.

    >>> _limit("number", 0.5, [900, 1000], 900), _limit("number", 0.5, [900, 1000], 100)
    (0.7, 1.7)
    """
    return max(FLOOR[kind], 2 / float(np.sqrt(now))) + usual * _wider(before, now)


def _wider(before: Sequence[int], now: int) -> float:
    return max(1.0, float(np.sqrt(min(before) / now)))


def _chance(share: float, rows: int) -> float:
    """Standard deviation of a share among so many rows; the rule of succession keeps 0 and 1 from being certain."""
    likely = (share * rows + 1) / (rows + 2)
    return float(np.sqrt(likely * (1 - likely) / rows))


def _number(settings: Shape, name: str, past: Sequence[ColumnShape], column: ColumnShape) -> dict[str, float]:
    scale = float(np.sqrt(np.mean([one.spread**2 for one in past])))
    if not scale > 0:
        return {}  # a column that never moved tells nothing about how it moves
    quantiles = [one.values / scale for one in past]
    spreads, counts = [one.spread for one in past], [one.count for one in past]
    far, usual = _distances(quantiles, column.values / scale, "number")
    off = far / _limit("number", settings.tolerance * usual, counts, column.count)
    found = {f"{name}: other values": off}
    if column.count >= FEWEST_VALUES:
        narrower, steady = (min(spreads) / max(width, 1e-3 * scale) for width in (column.spread, max(spreads)))
        limit = FLOOR["spread"] * settings.tolerance * _wider(counts, column.count)
        found[f"{name}: frozen"] = narrower * steady / limit
    if far > _limit("number", UNIT_AT * settings.tolerance * usual, counts, column.count):
        unit = _unit(quantiles, column.values, scale, min(FLOOR["number"] + usual / 2, far / 4))
        found |= {f"{name}: other unit ({unit})": 1.01 * max(off, 1.0)} if unit else {}
    return found


def _relations(
    settings: Shape, trailing: Sequence[PartitionShape], shape: PartitionShape, odd: set[str]
) -> dict[str, float]:
    """How far each number lies off from what the others say it is, by the linear relation that held so far.

    Seasons move columns together and leave the relation as it is; a unit or a swap in one column breaks it. Only for
    numbers that the others explain well. Those that are `odd` by themselves would only get the others accused too.
    """
    past, moments = [one.moments for one in trailing], shape.moments
    told = np.array([np.isfinite(one.means) for one in past])
    kept = np.isfinite(moments.means) & (told.sum(axis=0) >= settings.min_partitions)
    kept &= np.array([name not in odd and name not in settings.ignore for name in moments.names], bool)
    past = [one for one, is_told in zip(past, told, strict=True) if is_told[kept].all()]
    if len(past) < settings.min_partitions:
        return {}
    pooled = _pooled(past)
    spread = np.sqrt(np.diag(pooled.covariances))
    kept &= spread > 1e-9 * np.abs(pooled.means)  # below it there is only what sums of floats leave
    past, moments = [_scaled(one, kept, spread) for one in past], _scaled(moments, kept, spread)
    if len(moments.names) < 2:
        return {}
    found: dict[str, float] = {}
    pooled = _pooled(past)
    for place, name in enumerate(moments.names):
        others = np.arange(len(moments.names)) != place
        slopes = _slopes(pooled, place, others)
        left = _residual(pooled, place, others, slopes, pooled)[1]
        if not 0 < left <= np.sqrt(1 - RELATED):
            continue
        usual = 0.0
        for skipped, one in enumerate(past):
            rest = _pooled([*past[:skipped], *past[skipped + 1 :]])
            usual = max(usual, _off(*_residual(rest, place, others, _slopes(rest, place, others), one), left))
        far = _off(*_residual(pooled, place, others, slopes, moments), left)
        limit = _limit("relation", settings.tolerance * usual, [one.rows for one in trailing], shape.rows)
        found[f"{name}: out of step with the other columns"] = far / limit
    return found


def _off(mean: float, spread: float, left: float) -> float:
    """How far what is unexplained in a partition lies off 0, or how much wider it is; `left` is what is usual."""
    return max(abs(mean) / left, float(np.log(max(spread / left, 1.0))))


def _scaled(moments: Moments, kept: NDArray[np.bool_], spread: Array) -> Moments:
    """Of the kept columns, in units of their spread: squares of what is very large or small stay numbers."""
    names = [name for name, is_kept in zip(moments.names, kept, strict=True) if is_kept]
    unit = spread[kept]
    return Moments(names, moments.means[kept] / unit, moments.covariances[np.ix_(kept, kept)] / np.outer(unit, unit))


def _pooled(parts: Sequence[Moments]) -> Moments:
    means = np.stack([one.means for one in parts])
    within = np.mean([one.covariances for one in parts], axis=0)
    between = np.cov(means, rowvar=False, bias=True).reshape(within.shape)
    return Moments(parts[0].names, means.mean(axis=0), within + between)


def _slopes(moments: Moments, place: int, others: NDArray[np.bool_]) -> Array:
    """Ridge regression of one number on the others, all in units of their spread; the ridge is a thousandth of it."""
    inner = moments.covariances[np.ix_(others, others)]
    return np.linalg.solve(inner + 1e-3 * np.eye(len(inner)), moments.covariances[others, place])


def _residual(
    fitted: Moments, place: int, others: NDArray[np.bool_], slopes: Array, on: Moments
) -> tuple[float, float]:
    """Mean and standard deviation of what the relation leaves unexplained in a partition."""
    mean = (on.means[place] - fitted.means[place]) - slopes @ (on.means[others] - fitted.means[others])
    cross, inner = on.covariances[others, place], on.covariances[np.ix_(others, others)]
    variance = on.covariances[place, place] - 2 * slopes @ cross + slopes @ inner @ slopes
    return float(mean), float(np.sqrt(max(variance, 0.0)))


def _distances(past: Sequence[Array], values: Array, kind: str) -> tuple[float, float]:
    """To the nearest of the past; and the largest that one of these has to its nearest, which is what is usual."""
    usual = max(_nearest([*past[:place], *past[place + 1 :]], one, kind) for place, one in enumerate(past))
    return _nearest(past, values, kind), usual


def _nearest(past: Sequence[Array], values: Array, kind: str) -> float:
    """Of numbers the normed Wasserstein-1 distance, of categories the total variation, of sizes that of logarithms."""
    gaps = np.abs(np.stack(past) - values)
    return float((gaps.sum(axis=1) / 2 if kind == "category" else gaps.mean(axis=1)).min())


def _unit(past: Sequence[Array], values: Array, scale: float, near: float) -> str | None:
    """The change of units that brings an odd partition nearest to the others; None where none brings it `near`."""
    found: dict[str, float] = {}
    for name, (factor, offset) in UNITS.items():
        for undone in ((values - offset) / factor, values * factor + offset):
            distance = _nearest(past, np.sort(undone) / scale, "number")
            found[name] = min(distance, found.get(name, distance))
    best = min(found, key=lambda name: found[name])
    return best if found[best] < near else None


def _values(settings: Shape, name: str, past: Sequence[ColumnShape], column: ColumnShape) -> dict[str, float]:
    """What is measured is rounded, and in another unit to other numbers; or it lies where nothing ever lay."""
    counts, now = ([round(one.count * one.told_share) for one in several] for several in (past, [column]))
    if len(past) < VALUES_FROM or min(*counts, *now) < FEWEST_VALUES:
        return {}
    kinds = {"unseen": "values between the known ones", "beyond": "values beyond all known ones"}
    if column.kind == "pair":
        kinds = {"pairs": "combinations that there never were"}
    seen = [_strange(one, [*past[:place], *past[place + 1 :]]) for place, one in enumerate(past)]
    found = {}
    for (kind, words), far, usual in zip(kinds.items(), _strange(column, past), np.max(seen, axis=0), strict=False):
        found[f"{name}: {words}"] = far / _limit(kind, settings.tolerance * usual, counts, now[0])
    # No share is more than all: hardly any value known is odd, however many strange ones are usual.
    usual, limit = float(np.max(np.sum(seen, axis=1))), _limit("unseen", 0.0, counts, now[0])
    if column.kind == "number" and usual < 0.5:
        found[f"{name}: hardly a known value"] = sum(_strange(column, past)) / max((1 + usual) / 2, limit)
    return found


def _strange(column: ColumnShape, past: Sequence[ColumnShape]) -> tuple[float, float]:
    """Share of values that the past has not, though it has smaller and larger ones; and of those beyond all of it."""
    known = np.concatenate([one.known for one in past])
    is_between = (column.known >= known.min()) & (column.known <= known.max()) | (column.kind == "pair")
    unseen = is_between & ~np.isin(column.known, known)
    return float(column.known_shares[unseen].sum()), float(column.known_shares[~is_between].sum())


def _distinct(past: Sequence[ColumnShape], column: ColumnShape) -> float:
    """A sensor that is stuck says few different things, even where several of them are; one that is read otherwise,
    many. Fewer rows may say fewer, and more rows more."""
    known = np.log([one.distinct for one in past])
    fewer = min(0.0, float(np.log(column.count / max(one.count for one in past))))
    more = max(0.0, float(np.log(column.count / min(one.count for one in past))))
    far = max(known.min() + fewer - np.log(column.distinct), np.log(column.distinct) - known.max() - more, 0.0)
    return float(far / (FLOOR["distinct"] + known.max() - known.min()))


def _gone(past: Sequence[ColumnShape], column: ColumnShape) -> float:
    """Share that values had at least in every partition, and have no tenth of now."""
    least = np.min([one.shares for one in past], axis=0)
    is_gone = (column.shares < least / 10) & (least * column.count >= FEWEST_VALUES)
    return float(least[is_gone].sum()) / FLOOR["gone"]


def _repeated(shape: PartitionShape, trailing: Sequence[PartitionShape]) -> float:
    known = np.concatenate([one.content for one in trailing]) if trailing else np.empty(0, np.uint64)
    return float(np.isin(shape.content, known).mean()) if len(shape.content) else 0.0


def _columns(problem: Problem, query: Query) -> dict[str, tuple[str, str]]:
    """Name -> kind and SQL of what is looked at. Times count by their hour and weekday, where the problem lives."""
    zone = sql.literal(problem.partitions.timezone)
    if query == "labels":
        kind = "number" if problem.task == "regression" else "category"
        return {"label": (kind, _number_sql("label") if kind == "number" else "label::VARCHAR")}
    found = {}
    for name, column in problem.columns.items():
        value = sql.quote(name)
        if column.type in ("integer", "float"):
            found[name] = ("number", _number_sql(value))
        elif column.type in ("string", "boolean"):
            found[name] = ("category", f"{value}::VARCHAR")
    categories = [name for name, (kind, _) in found.items() if kind == "category"][:PAIRED]
    for one, other in combinations(categories, 2):
        values = f"{sql.quote(one)}::VARCHAR, {sql.quote(other)}::VARCHAR"
        both = f"{sql.quote(one)} IS NOT NULL AND {sql.quote(other)} IS NOT NULL"
        found[f"({one} with {other})"] = (
            "pair",
            f"CASE WHEN {both} THEN (hash({values}) % {PAIR_BUCKETS})::DOUBLE END",
        )
    hour = f"extract(hour FROM event_time AT TIME ZONE {zone})::VARCHAR"
    found["(hour of the event)"] = ("category", hour)
    if problem.partitions.every == "week":
        found["(weekday of the event)"] = ("category", f"isodow(event_time AT TIME ZONE {zone})::VARCHAR")
    return found


def _number_sql(value: str) -> str:
    return f"CASE WHEN isfinite({value}::DOUBLE) THEN greatest(least({value}::DOUBLE, {LARGEST}), -{LARGEST}) END"


def _moments(database: Any, key: str, names: Sequence[str]) -> Moments:
    if not names:
        return Moments([], np.empty(0), np.empty((0, 0)))
    chosen = ", ".join(sql.quote(name) for name in names)
    found = database.execute(f"SELECT {chosen} FROM sampled WHERE partition = ?", [key]).fetchnumpy()
    matrix = np.stack([np.ma.filled(np.ma.asarray(found[name], np.float64), np.nan) for name in names], axis=1)
    is_told = np.isfinite(matrix)
    count = is_told.sum(axis=0)
    means = np.where(count > 0, np.nansum(matrix, axis=0) / np.maximum(count, 1), np.nan)
    centred = np.where(is_told, matrix - means, 0.0)
    return Moments(list(names), means, centred.T @ centred / max(len(matrix), 1))


def _profile(database: Any, name: str, kind: str) -> list[tuple[str, ColumnShape]]:
    column = sql.quote(name)
    counted = database.sql(f"""
        SELECT partition, CASE WHEN {column} IS NULL THEN {BUCKETS} ELSE hash({column}) % {BUCKETS} END AS bucket,
            count(*) AS n
        FROM sampled GROUP BY ALL
    """).fetchnumpy()
    keys, place = np.unique(np.asarray(counted["partition"], str), return_inverse=True)
    counts = np.zeros((len(keys), BUCKETS + 1))
    counts[place, np.asarray(counted["bucket"], np.int64)] = counted["n"]
    numbers = _numbers(database, column) if kind == "number" else {}
    known = _known(database, column) if kind != "category" else {}
    none = (np.empty(0), np.empty(0))
    found = []
    for key, row in zip(keys, counts, strict=True):
        told, of_number = row[:BUCKETS].sum(), numbers.get(str(key), (np.empty(0), 0.0, 0.0, 0))
        shares, nulls = row[:BUCKETS] / told if told else np.empty(0), float(row[BUCKETS] / row.sum())
        found.append((str(key), ColumnShape(kind, int(told), shares, nulls, *of_number, *known.get(str(key), none))))
    return found


def _known(database: Any, column: str) -> dict[str, tuple[Array, Array]]:
    """All values of a number and their shares, by partition; of one with more than FEW_VALUES, none."""
    counted = database.sql(f"""
        SELECT partition, {column} AS value, count(*) AS n FROM sampled
        WHERE {column} IS NOT NULL AND partition IN (
            SELECT partition FROM sampled GROUP BY 1 HAVING approx_count_distinct({column}) <= {FEW_VALUES})
        GROUP BY ALL ORDER BY ALL
    """).fetchnumpy()
    keys = np.asarray(counted["partition"], str)
    values, counts = np.asarray(counted["value"], np.float64), np.asarray(counted["n"], np.float64)
    found: dict[str, tuple[Array, Array]] = {}
    for key in np.unique(keys):
        told = counts[keys == key]
        told[told >= MOSTLY * told.sum()] = 0.0
        found[str(key)] = values[keys == key], told / max(told.sum(), 1.0)
    return found


def _numbers(database: Any, column: str) -> dict[str, tuple[Array, float, float, int]]:
    """Quantiles, standard deviation, share of the most frequent value and number of different ones, by partition."""
    rows = database.sql(f"""
        SELECT partition, quantile_cont({column}, {LEVELS}), stddev_pop({column}),
            count(*) FILTER ({column} = usual) / count({column}), count(DISTINCT {column})
        FROM sampled JOIN (SELECT partition, mode({column}) AS usual FROM sampled GROUP BY 1) USING (partition)
        GROUP BY partition HAVING count({column}) > 0
    """).fetchall()
    return {key: (np.asarray(quantiles, np.float64), *more) for key, quantiles, *more in rows}
