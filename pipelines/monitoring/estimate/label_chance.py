"""label_chance: which rows of a partition will get a label, as far as the past tells.

Held-out rows are rows that got a label. Where some never do, and not by lot, a partition's rows are another population:
its scores, and the rates that follow from them, are no longer those of rows with a label, though nothing happened. So
the partition's rows are weighed by their chance to get one (inverse of the weights of Horvitz and Thompson 1952, and as
in Little and Rubin, Statistical Analysis with Missing Data, 2002, ch. 3): like is compared with like.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.config import Bootstrap
from pipelines.monitoring.estimate.domain import folds, plain_preparation, small_trees
from pipelines.monitoring.estimate.score_curves import Curves, fit_curves
from pipelines.problem import Problem
from pipelines.training.calibrate import sigmoid

Array = NDArray[Any]

LEAST_UNLABELLED = 0.005  # share of the past's rows without a label, below which all rows count alike
LEAST_ROWS = 30  # with, and without a label, to learn from


class LabelChance(NamedTuple):
    """The chance of each of a partition's rows to get a label: as it is, and as uncertain as it is."""

    values: Array
    """(m,) chances."""
    unlabelled: float
    """Share of the past's rows that never got a label."""
    scores: Array
    blocks: Array
    curves: Curves

    def draws(self, rule: Bootstrap) -> Iterator[Array]:
        """Chances (m,), `rule.resamples` times: of resampled blocks of the past, with a shift for each of the
        partition's blocks."""
        random = np.random.default_rng(rule.seed + 2)
        _, place = np.unique(self.blocks, return_inverse=True)
        count = int(place.max(initial=-1)) + 1
        placed = self.curves.placed(self.scores)
        for turn in range(rule.resamples):
            shifts = random.normal(0, self.curves.spread, count)[place]
            yield sigmoid(self.curves.margins(placed, turn + 1) + shifts)


def label_chance(
    problem: Problem,
    past: pa.Table,
    is_labelled: Array,
    blocks: Array,
    rows: pa.Table,
    its_blocks: Array,
    rule: Bootstrap,
) -> LabelChance | None:
    """The chance of each of `rows` to get a label; None where nearly all rows get one, or too few rows tell.

    Args:
        past: rows with the features, whose labels are in by now.
        is_labelled: (n,) bool, whether they got one. blocks: (n,) their blocks, such as days.
        rows: (m,) the partition's, with the features. its_blocks: (m,).

    Small trees on all features, cross-fitted by blocks, and a curve from what they say to how often it came true, which
    is resampled by blocks.
    """
    unlabelled = 1 - float(np.mean(is_labelled)) if len(is_labelled) else 0.0
    fewest = min(int(is_labelled.sum()), int((~is_labelled).sum()))
    if unlabelled < LEAST_UNLABELLED or fewest < LEAST_ROWS or not rows.num_rows:
        return None
    features = problem.feature_names
    prepare = plain_preparation(problem)
    prepare.fit(pa.concat_tables([past.select(features), rows.select(features)], promote_options="permissive"))
    if not prepare.names_:
        return None
    matrix, own = prepare.transform(past.select(features)), prepare.transform(rows.select(features))
    fold, chances = folds(blocks), np.full(len(is_labelled), 1 - unlabelled)
    for held_fold in np.unique(fold):
        test, train = fold == held_fold, fold != held_fold
        if len(np.unique(is_labelled[train])) == 2:
            model = small_trees(prepare.is_category_).fit(matrix[train], is_labelled[train])
            chances[test] = model.predict_proba(matrix[test])[:, 1]
    scores = small_trees(prepare.is_category_).fit(matrix, is_labelled).predict_proba(own)[:, 1].astype(np.float64)
    curves = fit_curves(chances, is_labelled, np.ones(len(chances)), blocks, rule)
    return LabelChance(sigmoid(curves.margins(curves.placed(scores), 0)), unlabelled, scores, its_blocks, curves)
