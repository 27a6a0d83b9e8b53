"""resample: another balance of the classes among the training rows, by imbalanced-learn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.config import Resampling
from pipelines.dataset.columns import codes, from_codes, from_numbers, is_category, numbers
from pipelines.errors import DataError

# A search for neighbours compares each row with each: in random blocks its cost grows with the rows, not with their
# square, and the distances within a block (200 MB for SMOTEN, which keeps them) fit in memory.
BLOCK_ROWS = 5_000
# SMOTENC holds each neighbour of each row that it makes in one call, with its categories as dense one-hot codes.
SMOTENC_BYTES = 2**27


def resample(rows: pa.Table, features: list[str], categorical: list[str], resampling: Resampling) -> pa.Table:
    """The rows in another balance of the classes: `features`, `label` and `weight`, columns in the table's order.

    `rows` are those of the training split and no others. *undersample* leaves out random rows of the majority,
    *oversample* repeats random ones of the minority, *smote* makes minority rows between neighbours (Chawla et al.,
    SMOTE, 2002), each until there are `ratio` minority rows per majority row; if there are so many already, nothing
    happens. Of several classes each is thinned out to the smallest, or filled up to the largest, in this way. *tomek*
    leaves out rows that are the nearest neighbour of a row of another class and have it as theirs (Tomek, Two
    Modifications of CNN, 1976), but for the smallest class. Kept rows are as they were and in their order; repeated
    and made ones follow. A repeated row has its weight, a made one the mean weight of its class. Huyen, ch. 4: class
    imbalance. With method none the table comes back as it is.

    Raises:
        DataError: there is one class only, or a class that is to grow has too few rows for its neighbours.
    """
    if resampling.method == "none":
        return rows
    label = rows["label"].to_numpy()
    classes, counts = np.unique(label, return_counts=True)
    if len(classes) < 2:
        raise DataError(
            f"all {len(label)} training rows have the same label, so that there is nothing to balance",
            where="dataset.resampling",
            cure="learn from more partitions (dataset.window_partitions), or sample by label (dataset.sampling)",
        )
    rows = rows.select([name for name in rows.column_names if name in (*features, "label", "weight")])
    match resampling.method:
        case "undersample":
            most = round(counts.min() / resampling.ratio)
            wanted = {code: most for code, count in _counted(classes, counts) if count > most}
            return rows.take(pa.array(_drawn(label, wanted, resampling)))
        case "oversample":
            least = round(counts.max() * resampling.ratio)
            wanted = {code: least for code, count in _counted(classes, counts) if count < least}
            return rows.take(pa.array(_drawn(label, wanted, resampling)))
        case "tomek":
            encoded = _encoded(rows, features, categorical)
            smallest = classes[::-1][np.argmin(counts[::-1])]
            return rows.filter(pa.array(_without_links(encoded, label, smallest, resampling.seed)))
        case "smote":
            least = round(counts.max() * resampling.ratio)
            grown = [
                (np.flatnonzero(label == code), least - count)
                for code, count in _counted(classes, counts)
                if count < least
            ]
            if not grown:
                return rows
            encoded = _encoded(rows, features, categorical)
            made = [_smote(rows, encoded, few, count, resampling) for few, count in grown]
            return pa.concat_tables([rows, *made])


def _counted(classes: np.ndarray, counts: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(classes.tolist(), counts.tolist(), strict=True))


@dataclass(frozen=True)
class Encoded:
    """Rows as numbers. `scaled`: in standard deviations, a missing one as the median, shape (rows, len(numeric)).

    `codes`: of categories, a missing value being one more; then, of each of `holed`, whether the number is missing.
    So neighbours share what they lack, and a made row lacks what most of its neighbours lack: a made value in every
    hole would tell made rows, and with them the minority, from the others.
    """

    numeric: list[str]
    scaled: np.ndarray
    scale: np.ndarray
    categories: dict[str, pa.Array]
    holed: list[str]
    codes: np.ndarray


def _encoded(rows: pa.Table, features: list[str], categorical: list[str]) -> Encoded:
    numeric = [name for name in features if not is_category(rows[name], name, categorical)]
    scaled = np.empty((rows.num_rows, len(numeric)))
    scale = np.ones(len(numeric))
    holes, categories, positions_by_column = {}, {}, []
    for position, name in enumerate(numeric):
        values = numbers(rows[name])
        is_missing = np.isnan(values)
        if is_missing.any():
            holes[name] = is_missing
            values[is_missing] = 0 if is_missing.all() else np.nanmedian(values)
        scale[position] = values.std() or 1
        scaled[:, position] = values / scale[position]
    for name in features:
        if name not in numeric:
            positions, categories[name] = codes(rows[name])
            positions_by_column.append(positions)
    coded = (
        np.column_stack([*positions_by_column, *holes.values()])
        if positions_by_column or holes
        else np.empty((rows.num_rows, 0))
    )
    return Encoded(numeric, scaled, scale, categories, list(holes), coded.astype(np.float64))


def _drawn(label: np.ndarray, wanted: dict[int, int], resampling: Resampling) -> np.ndarray:
    """Positions of the rows that are drawn: kept ones in their order, then repeated ones."""
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.under_sampling import RandomUnderSampler

    positions = np.arange(len(label)).reshape(-1, 1)
    if resampling.method == "oversample":
        sampler = RandomOverSampler(sampling_strategy=wanted, random_state=resampling.seed)
        sampler.fit_resample(positions, label)
        return np.asarray(sampler.sample_indices_)
    sampler = RandomUnderSampler(sampling_strategy=wanted, random_state=resampling.seed)
    sampler.fit_resample(positions, label)
    return np.sort(sampler.sample_indices_)


def _without_links(encoded: Encoded, label: np.ndarray, smallest: int, seed: int) -> np.ndarray:
    """Which rows stay: of each Tomek link the side of the smallest class. Looked for within random blocks."""
    from imblearn.under_sampling import TomekLinks
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder

    width = len(encoded.numeric)
    points = np.hstack([encoded.scaled, encoded.codes])
    # As for SMOTENC, another category counts like a difference of one standard deviation. A dense search is several
    # times faster than a sparse one, as long as the categories are few.
    encoder = ColumnTransformer(
        [
            ("numbers", "passthrough", list(range(width))),
            ("codes", OneHotEncoder(), list(range(width, points.shape[1]))),
        ],
        transformer_weights={"codes": 1 / math.sqrt(2)},
        sparse_threshold=0.05,
    )
    stays = np.ones(len(label), dtype=bool)
    order = np.random.default_rng(seed).permutation(len(label))
    for block in np.array_split(order, math.ceil(len(order) / BLOCK_ROWS)):
        present = np.unique(label[block])
        if len(present) > 1:
            cleaner = TomekLinks(sampling_strategy=[code for code in present.tolist() if code != smallest])
            cleaner.fit_resample(encoder.fit_transform(points[block]), label[block])
            stays[np.delete(block, cleaner.sample_indices_)] = False
    return stays


def _smote(rows: pa.Table, encoded: Encoded, few: np.ndarray, count: int, resampling: Resampling) -> pa.Table:
    """`count` made rows of the class that the rows `few` are of."""
    if len(few) <= resampling.neighbours:
        raise DataError(
            f"SMOTE looks for {resampling.neighbours} neighbours of each row, and a class has {len(few)} rows",
            where="dataset.resampling.neighbours",
            cure=f"ask for at most {len(few) - 1}" if len(few) > 1 else "take method oversample, which repeats rows",
        )
    many = np.delete(np.arange(rows.num_rows), few)
    made = np.concatenate(list(_made(encoded, few, many, count, resampling)))
    width = len(encoded.numeric)
    synthetic = made[:, width:].astype(np.int64)
    is_hole = dict(zip(encoded.holed, synthetic[:, len(encoded.categories) :].T.astype(bool), strict=True))
    columns = {}
    for position, name in enumerate(encoded.numeric):
        values = made[:, position] * encoded.scale[position]
        columns[name] = from_numbers(np.where(is_hole.get(name, False), np.nan, values), rows[name])
    for position, (name, values) in enumerate(encoded.categories.items()):
        columns[name] = from_codes(synthetic[:, position], values, rows[name])
    weight = rows["weight"].to_numpy()[few].mean()
    columns["label"] = rows["label"].take(pa.array(np.repeat(few[:1], count)))
    columns["weight"] = pa.array(np.full(count, weight)).cast(rows["weight"].type)
    return pa.table(columns).select(rows.column_names).cast(rows.schema)


def _made(
    encoded: Encoded, few: np.ndarray, many: np.ndarray, count: int, resampling: Resampling
) -> Iterator[np.ndarray]:
    """Made rows, scaled numbers before codes, in pieces; a minority row is as likely a parent as any other."""
    from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC

    width, neighbours = len(encoded.numeric), resampling.neighbours
    random = np.random.default_rng(resampling.seed)
    blocks = math.ceil(len(few) / max(BLOCK_ROWS, 2 * (neighbours + 1)))
    upto = 0
    for mine, others in zip(
        np.array_split(random.permutation(few), blocks), np.array_split(random.permutation(many), blocks), strict=True
    ):
        start, upto = upto, upto + len(mine)
        wanted = round(count * upto / len(few)) - round(count * start / len(few))
        nominal = width == 0
        # Of the majority SMOTEN learns which categories are alike; the others only want a second class.
        block = np.concatenate([mine, others if nominal else mine[:1]])
        label = np.arange(len(block)) < len(mine)
        points = np.hstack([encoded.scaled[block], encoded.codes[block]])
        wide = width + sum(len(np.unique(column)) for column in encoded.codes[block].T)
        at_once = max(1, SMOTENC_BYTES // (8 * neighbours * wide))
        pieces = np.diff(np.linspace(0, wanted, math.ceil(wanted / at_once) + 1).round().astype(int))
        for piece in pieces.tolist():
            settings = {
                "sampling_strategy": {True: len(mine) + piece, False: len(block) - len(mine)},
                "random_state": int(random.integers(2**31)),
                "k_neighbors": neighbours,
            }
            if nominal:
                sampler = SMOTEN(**settings)
            elif encoded.codes.shape[1]:
                sampler = SMOTENC(list(range(width, points.shape[1])), **settings)
            else:
                sampler = SMOTE(**settings)
            with warnings.catch_warnings():  # that the minority outgrows this block's share of the majority
                warnings.filterwarnings("ignore", "After over-sampling", UserWarning)
                resampled, _ = sampler.fit_resample(points, label)
            yield np.asarray(resampled, dtype=np.float64)[len(block) :]
