"""Columns that tell the label: better than is to be believed, only where it happened, or as parts of its sum."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.config import Leaks
from pipelines.dataset.single_feature import (
    Prediction,
    beyond_the_others,
    single_feature_aucs,
    single_feature_r2s,
    single_feature_shares,
    stand_ins,
)
from pipelines.propose.table import ROWS, Table
from pipelines.propose.target import Target

SAMPLED_ROWS, SAMPLED_CELLS = 100_000, 10_000_000
FEWEST_ROWS = 50
LITTLE = 0.1  # share of the uncertainty about the class
NEAR = 0.02  # below a limit of the leak checks: those look at fewer rows
BEYOND = 0.55  # share of what all others leave unexplained
USUAL = 0.3  # share of rows in which a column is 0 or missing, that make the others the exception
PURE, PURE_ROWS, LIKELY = 0.995, 30, 0.5  # share of one class among the exceptions, their number, its share at all
EXACT = 0.9999  # R2 of a sum
SUMMED = 40  # columns that a sum is looked for among
PART = 0.02  # of the label's spread, that a part of its sum moves
CUT, CUT_VALUES, CUT_ROWS = 0.9, 50, 20  # share of a column's uncertainty that the label's ranges of 20 rows remove
COVERED = 0.95  # share of rows with a value that comes so often
WORDS_ROWS, WORD_SHARE = 5_000, 0.01  # texts that are read, and share of them in which a word stands

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Telling:
    """Columns by how they tell the label."""

    leaks: dict[str, str]
    """with the reason to leave them out"""
    near: list[str]
    """just below a limit: honest, as far as a table shows, though a training on other rows could take them for leaks"""


def telling(table: Table, target: Target, names: Sequence[str], texts: Sequence[str]) -> Telling:
    """Which columns of `names`, and of `texts`, alone or together, tell the label better than is to be believed."""
    leaks: dict[str, str] = {}
    near: list[str] = []
    if names:
        label = f"{target.of_rows} AS label"
        rows = sampled(
            table, [label, *(sql.quote(name) for name in names)], f"{target.of_rows} IS NOT NULL", len(names)
        )
        if rows.num_rows >= FEWEST_ROWS:
            if target.task == "regression":
                leaks |= _of_a_number(rows, names)
            else:
                measured = _of_classes(rows, names, target)
                leaks |= measured.leaks
                near = measured.near
                leaks |= dict(_only_where(rows, [name for name in names if name not in leaks]))
    if target.task != "regression":
        leaks |= dict(_by_words(table, target, texts))
    return Telling(leaks, [name for name in near if name not in leaks])


def _of_classes(rows: pa.Table, names: Sequence[str], target: Target) -> Telling:
    """By the limits of a training's own checks."""
    limits = Leaks()
    leaks: dict[str, str] = {}
    usual: list[str] = []
    if target.task == "binary":
        best, limit, what = single_feature_aucs(rows, names, 0), limits.max_single_feature_auc, "an AUC"
    else:
        best, limit, what = single_feature_shares(rows, names, 0), limits.max_single_feature_share, "a share of the"
        what = f"{what} uncertainty"
        for name, stand_in in stand_ins(rows, names, 0).items():
            if stand_in.overlap <= limits.max_class_overlap - NEAR or best[name].value > limit:
                continue
            if best[name].value < LITTLE and pc.mean(pc.equal(rows["label"], stand_in.label)).as_py() > 0.5:
                usual.append(name)  # what most rows have goes with what most rows are
            else:
                leaks[name] = f"look: {short(stand_in.value)} of it is {stand_in.label} in other words"
    leaks |= {name: _alone(what, measured) for name, measured in best.items() if measured.value > limit}
    return Telling(
        leaks, [*usual, *(name for name, measured in best.items() if limit - NEAR < measured.value <= limit)]
    )


def _alone(what: str, measured: Prediction) -> str:
    how = f"with {what} of {measured.value:.3f} (by {measured.by})"
    return f"look: alone it tells the label, {how}: most likely it is known only with it"


def _of_a_number(rows: pa.Table, names: Sequence[str]) -> dict[str, str]:
    """What adds up to it, what is cut from it, and what tells it although nothing else does.

    One leak hides another from the last question, which is why it is asked again once one is out.
    """
    leaks = dict(_parts_of_a_sum(rows, names))
    leaks |= dict(_cut_from(rows, [name for name in names if name not in leaks]))
    best = single_feature_r2s(rows, names, 0)
    limit = Leaks().max_single_feature_r2 - NEAR
    suspects = [name for name in sorted(best, key=lambda name: -best[name].value) if best[name].value > limit]
    is_settled = False
    while not is_settled:
        is_settled = True
        for name in [suspect for suspect in suspects if suspect not in leaks]:
            others = [other for other in names if other not in leaks]
            if beyond_the_others(rows, others, name, 0) > BEYOND:
                leaks[name] = _alone("an R2", best[name])
                is_settled = False
    return leaks


def _numbers(rows: pa.Table, name: str) -> Floats | None:
    """A column of numbers or flags, NaN where it is missing; None of texts."""
    column = rows[name]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None
    values: Floats = column.cast(pa.float64()).to_numpy()
    return values


def _only_where(rows: pa.Table, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Columns that mostly are 0 or missing, and are not only in rows of one class: a consequence of it."""
    labels = np.asarray(rows["label"].to_pylist(), dtype=object)
    shares = {label: float((labels == label).mean()) for label in dict.fromkeys(labels)}
    for name in names:
        numbers = _numbers(rows, name)
        is_there: Flags = ~rows[name].is_null().to_numpy()
        what = "there"
        if numbers is not None and is_there.mean() > 1 - USUAL:
            is_there, what = np.isfinite(numbers) & (numbers != 0), "other than 0"
        if not PURE_ROWS <= is_there.sum() <= (1 - USUAL) * len(labels):
            continue
        there = labels[is_there]
        label = max(shares, key=lambda value: (there == value).sum())
        is_rare = shares[label] <= LIKELY and is_there.sum() * np.log10(shares[label]) < -6
        if is_rare and (there == label).mean() >= PURE:
            yield name, f"look: it is {what} only where the label is {short(label)}: most likely it follows from it"


def _parts_of_a_sum(rows: pa.Table, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Numbers of which the label is a sum (least squares)."""
    label = rows["label"].to_numpy().astype(np.float64)
    columns = {name: values for name in names if (values := _numbers(rows, name)) is not None}
    columns = {name: values for name, values in columns.items() if np.isfinite(values).mean() > PURE}
    columns = {name: values for name, values in columns.items() if np.nanstd(values) > 0}
    if len(columns) < 2:
        return
    complete = np.isfinite(label) & np.all([np.isfinite(values) for values in columns.values()], axis=0)
    label = label[complete]
    if len(label) < FEWEST_ROWS or label.std() == 0:
        return
    label = (label - label.mean()) / label.std()
    spread = {name: values[complete].std() for name, values in columns.items()}
    scaled = {name: (columns[name][complete] - columns[name][complete].mean()) / s for name, s in spread.items() if s}
    closest = sorted(scaled, key=lambda name: -abs(float(scaled[name] @ label)))[: min(SUMMED, len(label) // 10)]
    if len(closest) < 2:
        return
    matrix = np.stack([scaled[name] for name in closest], axis=1)
    weights = np.linalg.lstsq(matrix, label, rcond=None)[0]
    if 1 - float(np.mean((label - matrix @ weights) ** 2)) < EXACT:
        return
    parts = [name for name, weight in zip(closest, weights, strict=True) if abs(weight) > PART]
    for name in parts if len(parts) > 1 else []:
        others = [part for part in parts if part != name]
        yield name, f"look: with {', '.join(others[:5])} it adds up to the label: most likely it is known only with it"


def _cut_from(rows: pa.Table, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Columns of few values that follow from the label: whether it is beyond some number, in which range it lies."""
    label = rows["label"].to_numpy().astype(np.float64)
    ranges = np.argsort(np.argsort(label, kind="stable"), kind="stable") // CUT_ROWS
    for name in names:
        codes = pc.dictionary_encode(rows[name].combine_chunks(), null_encoding="encode").indices.to_numpy()
        counts = np.bincount(codes)
        often = counts >= CUT_ROWS
        if len(counts) > 4 * CUT_VALUES or not 2 <= often.sum() <= CUT_VALUES or often[codes].mean() < COVERED:
            continue
        together = np.zeros((ranges.max() + 1, len(counts)))
        np.add.at(together, (ranges, codes), 1)
        together = together[:, often]
        together = together[together.sum(axis=1) > 0]
        left = float((together.sum(axis=1) * _entropy(together)).sum() / together.sum())
        if 1 - left / float(_entropy(together.sum(axis=0)[None, :])[0]) > CUT:
            yield name, "look: it follows from the label, as a range of it or a threshold does"


def _entropy(counts: Floats) -> Floats:
    shares = counts / counts.sum(axis=1, keepdims=True)
    entropies: Floats = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
    return entropies


def _by_words(table: Table, target: Target, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Texts of which one word tells the label."""
    limits = Leaks()
    limit = 2 * limits.max_single_feature_auc - 1 if target.task == "binary" else limits.max_class_overlap
    for name in names:
        rows = sampled(
            table,
            [f"{target.of_rows} AS label", sql.quote(name)],
            f"{target.of_rows} IS NOT NULL AND {sql.quote(name)} IS NOT NULL",
            SAMPLED_CELLS // WORDS_ROWS,
        )
        labels = np.asarray(rows["label"].to_pylist(), dtype=object)
        places: dict[str, list[int]] = {}
        for place, text in enumerate(rows[name].to_pylist()):
            for word in set(re.findall(r"\w+", str(text).lower())):
                places.setdefault(word, []).append(place)
        often = {word: rows_of for word, rows_of in places.items() if len(rows_of) > WORD_SHARE * len(labels)}
        classes = {label: labels == label for label in dict.fromkeys(labels)}
        for word, rows_of in often.items():
            has_word = np.zeros(len(labels), dtype=bool)
            has_word[rows_of] = True
            measure = _agreement if target.task == "binary" else _overlap
            best, label = max(
                ((measure(has_word, rows_with), label) for label, rows_with in classes.items()), key=_first
            )
            if len(labels) >= FEWEST_ROWS and best > limit:
                yield name, f"look: its word {short(word)} tells whether the label is {short(label)}"
                break


def _first(pair: tuple[float, object]) -> float:
    return pair[0]


def _agreement(flags: Flags, others: Flags) -> float:
    """Twice the AUC of a flag, less one: 1 if it is there just where the other is."""
    if others.all() or not others.any():
        return 0.0
    return float(flags[others].mean() - flags[~others].mean())


def _overlap(flags: Flags, others: Flags) -> float:
    """Rows that have both over rows that have either."""
    return float((flags & others).sum() / max((flags | others).sum(), 1))


def sampled(table: Table, selected: Sequence[str], condition: str = "true", columns: int = 1) -> pa.Table:
    """Rows in their order, as many as so many columns allow, drawn by a hash."""
    most = max(2_000, min(SAMPLED_ROWS, SAMPLED_CELLS // max(columns, 1)))
    (rows,) = table.database.execute(f"SELECT count(*) FROM {ROWS} WHERE {condition}").fetchall()[0]
    drawn = "true" if rows <= most else f"hash(rowid) % {rows} < {most}"
    return table.database.sql(
        f"SELECT {', '.join(selected)} FROM {ROWS} WHERE {condition} AND {drawn} ORDER BY rowid"
    ).to_arrow_table()


def short(value: object) -> str:
    """A value for a reason."""
    text = "missing" if value is None else str(value)
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
