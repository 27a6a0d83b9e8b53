"""power: how small a difference between two models the held-out rows can show, said before anything is trained.

There is no model yet, so two are made up over the labels that are there: both know as much (AUC about 0.75, R2 0.5),
and err alike for the most part, as two models of the same rows do (their noise has a correlation of 0.9). Their paired
gain, with the same blocks and the same bootstrap as the gate's, gives the standard error; the smallest difference that
is shown in four of five tests is (z(confidence) + z(0.8)) times that (Cohen, Statistical Power Analysis, 1988).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from pipelines import sql
from pipelines.handoffs.training import HeldOutPower, SplitPower
from pipelines.metrics.bootstrap import blocks_of, drawn_blocks, gains
from pipelines.metrics.scored import Scored, scored
from pipelines.problem import Problem

Array = NDArray[Any]
SEPARATION = 0.954  # standard deviations between two classes' scores: an AUC of 0.75
R2 = 0.5
AGREEMENT = 0.9
POWER = 0.8
PAIRS = 5  # made-up pairs of models, whose errors are averaged


class Power(NamedTuple):
    """What one split can show."""

    rows: int
    blocks: int
    """Blocks of the bootstrap; rows where there are too few blocks."""
    error: dict[str, float]
    """Standard error of the gain of one model over an equal one, by metric; none where it is not defined."""
    detectable: dict[str, float]
    """Difference of two models that is shown in four of five tests, by metric."""


def power(problem: Problem, rows: pa.Table, metrics: Iterable[str]) -> Power:
    """`rows` have label (a number, as `stored.split` gives it), weight, partition and event_time."""
    rule, blocks = problem.evaluation.bootstrap, blocks_of(problem, rows)
    labels, weights = rows["label"].to_numpy(), rows["weight"].to_numpy()
    half_widths: dict[str, list[float]] = {metric: [] for metric in metrics}
    for seed in range(PAIRS if rows.num_rows > 1 else 0):
        scores, other = equals(problem, labels, weights, seed)
        for metric, gain in gains(scores, other, blocks, rule, list(half_widths)).items():
            if gain["low"] is not None and gain["high"] is not None:
                half_widths[metric].append((gain["high"] - gain["low"]) / 2)
    wide = NormalDist().inv_cdf((1 + rule.confidence) / 2)
    error = {metric: float(np.mean(halves)) / wide for metric, halves in half_widths.items() if halves}
    shown = wide + NormalDist().inv_cdf(POWER)
    counted = len(np.unique(drawn_blocks(blocks[weights > 0])))
    return Power(rows.num_rows, counted, error, {metric: shown * half_width for metric, half_width in error.items()})


def held_out_power(problem: Problem, rows: pa.Table | ds.Dataset) -> HeldOutPower:
    """What the held-out rows of a training set can show: for its datasheet, its result and its evaluation.

    `rows` have split, partition, event_time, label (as the tables keep it) and weight. A
    warning says where the gate's margin over the champion is less than these test rows can show, and what the gate does
    then.
    """
    gate = problem.gate
    wanted = {
        "validation": [problem.training.select_by],
        "test": list(dict.fromkeys([*gate.gain_over_champion, *gate.gain_over_baselines])),
    }
    rows = ds.dataset(rows) if isinstance(rows, pa.Table) else rows
    powers = {split: power(problem, _numbered(problem, rows, split), metrics) for split, metrics in wanted.items()}
    validation, test = (
        SplitPower(rows=split_power.rows, blocks=split_power.blocks, detectable=split_power.detectable)
        for split_power in (powers["validation"], powers["test"])
    )
    return HeldOutPower(validation=validation, test=test, warnings=list(_warnings(problem, powers["test"])))


def _warnings(problem: Problem, test: Power) -> Iterator[str]:
    confidence, ties_pass = problem.evaluation.bootstrap.confidence, problem.gate.ties_pass
    for metric, least in problem.gate.gain_over_champion.items():
        error = test.error.get(metric)
        if error is None:
            yield f"{test.rows:,} test rows give no interval of a gain in {metric}: no challenger passes"
            continue
        share = provable(least, error, confidence)
        if share >= POWER:
            continue
        can = f"{test.rows:,} test rows in {test.blocks:,} blocks show a difference of {test.detectable[metric]:.3g}"
        can += f" in {metric}"
        if least > 0:
            yield f"{can}, and a gain over the champion of {least:g} is wanted for sure: no equal challenger passes"
            continue
        few = f"{can}: of challengers exactly as good as the champion {share:.0%} are shown to be within {abs(least):g}"
        if ties_pass is None:
            yield f"{few}, and the others fail (gate.ties_pass is null)"
        else:
            yield f"{few}; the others pass as ties down to {-NormalDist().inv_cdf(ties_pass) * error:.3g}"


def _numbered(problem: Problem, rows: ds.Dataset, split: str) -> pa.Table:
    """What `power` looks at of the rows of a split whose label is known, with the label as a number."""
    looked_at = ["label", "weight", "partition", "event_time", problem.dataset.split.group_by, problem.key]
    names = [name for name in dict.fromkeys(looked_at) if name in rows.schema.names]
    is_labelled = sql.is_among("split", [split]) & pc.field("label").is_valid()
    held_out = rows.to_table(columns=names, filter=is_labelled)
    if problem.task != "multiclass":
        return held_out
    codes = pc.index_in(held_out["label"], value_set=pa.array(problem.classes, pa.string()))
    return held_out.set_column(names.index("label"), "label", codes.cast(pa.int64()))


def provable(least: float, error: float, confidence: float) -> float:
    """Share of challengers exactly as good as the champion whose interval shows a gain of at least `least`.

    >>> round(provable(-0.02, 0.01, 0.95), 2), round(provable(0.0, 0.01, 0.95), 3)
    (0.52, 0.025)
    """
    if error <= 0:
        return float(least <= 0)
    return NormalDist().cdf(-least / error - NormalDist().inv_cdf((1 + confidence) / 2))


def equals(
    problem: Problem, labels: Array, weights: Array, seed: int, separation: float = SEPARATION, r2: float = R2
) -> tuple[Scored, Scored]:
    """Two made-up models of the same skill whose scores of these labels mean what they say."""
    random = np.random.default_rng(seed)
    count = len(labels)
    shape = (count, len(problem.classes)) if problem.task == "multiclass" else (count,)
    shared = random.normal(size=shape)
    noises = [np.sqrt(AGREEMENT) * shared + np.sqrt(1 - AGREEMENT) * random.normal(size=shape) for _ in range(2)]
    return tuple(
        scored(problem, labels, _scores(problem, labels, weights, noise, separation, r2), weights)  # type: ignore[return-value]
        for noise in noises
    )


def _scores(problem: Problem, labels: Array, weights: Array, noise: Array, separation: float, r2: float) -> Array:
    """What a model sees is the label and noise; what it says is what that makes most likely (Bayes' rule)."""
    if problem.task == "regression":
        mean = np.average(labels, weights=weights)
        spread = np.sqrt(np.average(np.square(labels - mean), weights=weights))
        return np.asarray(mean + r2 * (labels - mean) + np.sqrt(r2 * (1 - r2)) * spread * noise)
    classes = len(problem.classes)
    shares = np.maximum(np.bincount(labels.astype(np.int64), weights, classes) / weights.sum(), 1e-6)
    if problem.task == "binary":
        signal = separation * labels + noise
        logit = np.log(shares[1] / shares[0]) + separation * (signal - separation / 2)
        return np.asarray(1 / (1 + np.exp(-logit)))
    signal = separation * np.eye(classes)[labels.astype(np.int64)] + noise
    chance = np.exp(separation * signal) * shares
    return np.asarray(chance / chance.sum(axis=1, keepdims=True))
