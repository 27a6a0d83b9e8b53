"""sample: which labelled rows of the training split are used, and with what weight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines import sql
from pipelines.config import Sampling, did_you_mean
from pipelines.dataset.draw import chances, systematic
from pipelines.dataset.reservoir import reservoir
from pipelines.errors import ConfigError, DataError

SPLITS = ("train", "validation", "test")
SETTING = "dataset.sampling"
DAY_US = 86_400e6


@dataclass(frozen=True)
class Draw:
    """`rows`: positions of the drawn rows, ascending; `chance`: inclusion probability of every row there was.

    `target` (importance alone): what the weights speak for, one probability per row, summing to 1.
    """

    rows: np.ndarray
    chance: np.ndarray
    target: np.ndarray | None = None


@dataclass(frozen=True)
class Chosen:
    """Of rows in their order: whether each is taken, the chance that it had, and its weight."""

    is_taken: np.ndarray
    probability: np.ndarray
    weight: np.ndarray


def sample(rows: pa.Table, sampling: Sampling, splits: Sequence[str] = SPLITS) -> pa.Table:
    """As `sample_batches`, of rows in memory."""
    schema, batches = sample_batches(ds.dataset(rows), sampling, splits)
    return pa.Table.from_batches(batches, schema)


def sample_batches(
    rows: ds.Dataset, sampling: Sampling, splits: Sequence[str] = SPLITS
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Draw from the training split; validation and test keep every row. Adds `probability` and `weight`.

    `rows` come from `label`, with the columns that `sampling` names; those without a label, or of no split, are left
    out, and the others keep their order. `probability` is the chance with which the row was drawn (its inclusion
    probability, over all seeds; 1 outside the training split). `weight` is 1, unless the method is importance or
    `correct` is set: then it is inverse to the probability, with a mean of about 1 (Horvitz & Thompson, 1952). The
    seed and the order of the rows alone decide which are drawn (Huyen, ch. 4: sampling; Lohr, Sampling: Design and
    Analysis, 2022). `splits`: those that there have to be; train is one of them.

    Batch by batch: of all rows at once only what the method goes by is in memory, some 60 bytes a row, and nothing
    where all are taken.

    Raises:
        ConfigError: rows are to be grouped by a label that is a number.
        DataError: a split is left with no rows, or with one value of the label only; weights or shares do not fit the
            rows.
    """
    if "label" in sampling.by and pa.types.is_floating(rows.schema.field("label").type):
        raise ConfigError(
            "label is a number, of which no two rows may have the same: it forms no groups",
            where=f"{SETTING}.by",
            cure="let events.sql give a column of ranges, and name that",
        )
    rows = rows.filter(sql.is_among("split", splits) & pc.field("label").is_valid())
    _require_two_labels_each(rows, splits)
    chosen = None if sampling.method == "all" else _chosen(rows, sampling)
    schema = rows.schema.append(pa.field("probability", pa.float64())).append(pa.field("weight", pa.float64()))
    return schema, _taken(rows, chosen, schema)


def _chosen(rows: ds.Dataset, sampling: Sampling) -> Chosen:
    """What is drawn; all rows of other splits than train are taken."""
    in_train = pc.equal(rows.to_table(columns=["split"])["split"], "train").to_numpy()
    train = np.flatnonzero(in_train)
    named = [*sampling.by, *([sampling.weight_column] if sampling.weight_column else [])]
    columns = list(dict.fromkeys(["label", "event_time", *named]))
    learnt = rows.to_table(columns=columns, filter=pc.field("split") == "train")
    draw = _draw(learnt, sampling)
    _require_two_labels(
        learnt["label"].take(pa.array(draw.rows)), "sampled train", f"draw more rows, or in another way ({SETTING})"
    )
    chosen = Chosen(~in_train, np.ones(len(in_train)), np.ones(len(in_train)))
    drawn = train[draw.rows]
    chosen.is_taken[drawn] = True
    chosen.probability[drawn] = draw.chance[draw.rows]
    chosen.weight[drawn] = _weights(draw, sampling)
    return chosen


def _taken(rows: ds.Dataset, chosen: Chosen | None, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows that are `chosen` (None: all), with their chance and weight."""
    end = 0
    for batch in rows.to_batches():
        start, end = end, end + batch.num_rows
        ones = np.ones(batch.num_rows)
        columns = {"probability": ones, "weight": ones}
        if chosen is not None:
            columns = {"probability": chosen.probability[start:end], "weight": chosen.weight[start:end]}
        widened = pa.RecordBatch.from_arrays([*batch.columns, *map(pa.array, columns.values())], schema=schema)
        yield widened if chosen is None else widened.filter(pa.array(chosen.is_taken[start:end]))


def _draw(rows: pa.Table, sampling: Sampling) -> Draw:
    """Draw among the rows of the training split."""
    random = np.random.default_rng(sampling.seed)
    count = rows.num_rows
    wanted = max(1, sampling.rows if sampling.rows is not None else round(count * (sampling.fraction or 1)))
    size = min(wanted, count)
    equal = np.full(count, size / count)
    match sampling.method:
        case "all":
            raise AssertionError("there is nothing to draw")
        case "random":
            return Draw(np.sort(random.choice(count, size, replace=False, shuffle=False)), equal)
        case "systematic":
            return Draw(systematic(equal, np.argsort(_microseconds(rows), kind="stable"), random), equal)
        case "reservoir":
            positions = reservoir([pa.record_batch({"row": np.arange(count)})], size, sampling.seed)
            return Draw(positions["row"].to_numpy(), equal)
        case "stratified":
            codes, names = _strata(rows, sampling.by)
            chance = equal
            if sampling.shares:
                members = np.bincount(codes, minlength=len(names))
                chance = np.minimum(1, wanted * _shares(sampling, names) / members)[codes]
            # The rows of a stratum lie together, in random order: its number is fixed and who they are is not.
            return Draw(systematic(chance, np.lexsort((random.permutation(count), codes)), random), chance)
        case "cluster":
            codes, names = _strata(rows, sampling.by)
            groups = len(names)
            asked = round(groups * sampling.fraction) if sampling.fraction else math.ceil(groups * size / count)
            number = min(max(1, asked), groups)
            is_drawn = np.zeros(groups, dtype=bool)
            is_drawn[random.choice(groups, number, replace=False)] = True
            return Draw(np.flatnonzero(is_drawn[codes]), np.full(count, number / groups))
        case "weighted":
            chance = chances(_proposal(rows, sampling), size)
            return Draw(systematic(chance, random.permutation(count), random), chance)
        case "importance":
            target = np.full(count, 1 / count)
            if sampling.shares:
                codes, names = _strata(rows, sampling.by)
                target = (_shares(sampling, names) / np.bincount(codes, minlength=len(names)))[codes]
            proposal = np.where(target > 0, _proposal(rows, sampling), 0)
            chance = chances(proposal, size)
            _require_a_chance(chance[target > 0])
            return Draw(systematic(chance, random.permutation(count), random), chance, target)


def _weights(draw: Draw, sampling: Sampling) -> np.ndarray:
    """Weights of the drawn rows; their expected sum is the expected size of the sample."""
    chance = draw.chance[draw.rows]
    if draw.target is not None:
        return np.asarray(draw.target[draw.rows] * draw.chance.sum() / chance)
    if sampling.correct:
        _require_a_chance(draw.chance)
        return np.asarray(draw.chance.mean() / chance)
    return np.ones(len(chance))


def _proposal(rows: pa.Table, sampling: Sampling) -> np.ndarray:
    """What a row's chance to be drawn is proportional to: a column, its youth, or nothing in particular."""
    if sampling.half_life_days is not None:
        times = _microseconds(rows)
        return np.asarray(0.5 ** ((times.max() - times) / DAY_US / sampling.half_life_days))
    if sampling.weight_column is None:
        return np.ones(rows.num_rows)
    column = rows[sampling.weight_column]
    is_number = (
        pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    )
    if not is_number:
        raise DataError(
            f"column {sampling.weight_column!r} is {column.type}, and weights are numbers",
            where=f"{SETTING}.weight_column",
            cure="name an integer or a float column",
        )
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    weights = column.cast(pa.float64(), safe=False).fill_null(math.nan).to_numpy()
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        shown = ", ".join("missing" if np.isnan(weight) else f"{weight:g}" for weight in weights[wrong[:3]])
        raise DataError(
            f"{len(wrong)} of {len(weights)} training rows have no usable weight in {sampling.weight_column!r}, "
            f"such as {shown}",
            where=f"{SETTING}.weight_column",
            cure="weights are finite and not negative; mend the column in events.sql (coalesce), or name another one",
        )
    if not weights.any():
        raise DataError(
            f"every training row has weight 0 in {sampling.weight_column!r}, so none can be drawn",
            where=f"{SETTING}.weight_column",
            cure="give some rows a positive weight, or name another column",
        )
    return np.asarray(weights)


def _strata(rows: pa.Table, by: list[str]) -> tuple[np.ndarray, list[str]]:
    """Stratum of each row as a position in the second, the strata's names: values joined by |, null for a missing one.

    >>> codes, names = _strata(pa.table({"a": ["x", None, "x"], "b": [1, 2, 1]}), ["a", "b"])
    >>> codes.tolist(), names
    ([0, 1, 0], ['x|1', 'null|2'])
    """
    texts = [pc.fill_null(rows[name].cast(pa.string()), "null") for name in by]
    joined = pc.binary_join_element_wise(*texts, "|")
    names = joined.unique()
    return pc.index_in(joined, value_set=names).to_numpy().astype(np.int64), names.to_pylist()


def _shares(sampling: Sampling, names: list[str]) -> np.ndarray:
    """Share of each stratum of `names`; one that is not mentioned has none."""
    for name in sampling.shares:
        if name not in names:
            shown = ", ".join(sorted(names)[:10]) + (", ..." if len(names) > 10 else "")
            raise DataError(
                f"no training row is in stratum {name!r}{did_you_mean(name, names)}",
                where=f"{SETTING}.shares",
                cure=f"strata of {', '.join(sampling.by)} are: {shown}",
            )
    shares = np.array([sampling.shares.get(name, 0.0) for name in names])
    return np.asarray(shares / shares.sum())


def _require_a_chance(chance: np.ndarray) -> None:
    """A sample speaks for rows only that it could have drawn: no weight makes up for a chance of nought."""
    if not chance.all():
        raise DataError(
            f"{np.count_nonzero(chance == 0)} training rows that the weights are to speak for have no chance to be "
            "drawn",
            where=SETTING,
            cure="give each row a positive weight (or a longer half_life_days) and each stratum a share, or leave out "
            "`correct`",
        )


def _require_two_labels_each(rows: ds.Dataset, splits: Sequence[str]) -> None:
    """That each of `splits` has rows with two different labels."""
    ends = sql.query("SELECT split, min(label) AS low, max(label) AS high FROM rows GROUP BY split", {"rows": rows})
    for split in splits:
        of_split = ends.filter(pc.equal(ends["split"], split))
        values = pa.chunked_array([*of_split["low"].chunks, *of_split["high"].chunks], ends.schema.field("low").type)
        _require_two_labels(values, split, "give it more partitions (dataset.split), or look at the labels")


def _require_two_labels(labels: pa.ChunkedArray, split: str, cure: str) -> None:
    values = labels.unique()
    if len(values) < 2:
        what = "one value of the label only" if pa.types.is_floating(values.type) else "one class only"
        raise DataError(
            f"the {split} split has {what if len(values) else 'no rows'}",
            where="training set",
            cure=cure,
        )


def _microseconds(rows: pa.Table) -> np.ndarray:
    return np.asarray(rows["event_time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy())
