"""domain: can a partition's rows be told from held-out ones, all inputs together, and which held-out ones are like it?

A classifier of where a row comes from (Rabanser, Günnemann and Lipton, Failing loudly, 2019) sees shifts that no
column shows by itself; its odds are the weights that make held-out rows look like the partition's (importance
weighting: Sugiyama, Krauledat and Müller, Covariate shift adaptation by importance weighted cross validation, 2007).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.config import Bootstrap
from pipelines.documents.measures import Interval
from pipelines.metrics.bootstrap import FEWEST_BLOCKS, intervals
from pipelines.metrics.scored import Scored
from pipelines.monitoring.estimate.score_curves import effective
from pipelines.problem import Problem
from pipelines.training.prepare import Preparation

Array = NDArray[Any]

FOLDS = 5
LEAST_OVERLAP = 0.5
TEXT_COLUMNS = 16
MOST_WEIGHT = 20.0  # of a row before norming: a single one must not speak for hundreds
TREES = {
    "n_estimators": 60,
    "max_depth": 3,
    "learning_rate": 0.1,
    "min_child_weight": 20,
    "subsample": 0.8,
    "colsample_bytree": 0.5,
    "reg_lambda": 5.0,
}


class Domain(NamedTuple):
    """auc: how well the two sides are told apart, 0.5: not at all. weights: (n,) of the held-out rows, mean 1.

    rows, blocks: how many equally weighted held-out rows, and blocks of them, the weights leave. overlap: mean of the
    weights before they were normed; it is 1 where they are right, and less where the partition has rows of a kind that
    the held-out ones lack (normed, these weights would look as good as equal ones).
    """

    auc: Interval
    weights: Array
    rows: float
    blocks: float
    overlap: float

    @property
    def has_moved(self) -> bool:
        low = self.auc["low"]
        return low is not None and low > 0.5

    def why_not(self, fewest_rows: int) -> str | None:
        """Why the weights are of no use; None if they are. They must leave enough effective rows, in enough blocks: few
        days that look like the partition are few days' luck, however many rows they have."""
        if not self.has_moved:
            return "the inputs have not moved beyond chance"
        if self.overlap < LEAST_OVERLAP:
            return f"too few held-out rows are of the partition's kind: the weights make up {self.overlap:.0%} of it"
        if self.rows < fewest_rows:
            return f"weights would leave {self.rows:.0f} effective rows, fewer than {fewest_rows}"
        if self.blocks < FEWEST_BLOCKS:
            return f"weights would leave {self.blocks:.1f} effective blocks, fewer than {FEWEST_BLOCKS}"
        return None


def domain(
    problem: Problem,
    held_out: pa.Table,
    blocks: Array,
    partition: pa.Table,
    its_blocks: Array,
    rule: Bootstrap,
    its_weights: Array | None = None,
) -> Domain | None:
    """Tell held-out rows from the partition's by their features, with small trees; None where no feature says anything.

    Cross-fitted by whole blocks: rows of one day share its weather, and trees that know other rows of a day would tell
    its rows by heart, in data that never changed. With fewer than 2 blocks on a side rows are folded. `its_weights`, of
    the partition's rows, say how likely each gets a label, as all held-out rows did.
    """
    features = problem.feature_names
    rows = pa.concat_tables([held_out.select(features), partition.select(features)], promote_options="permissive")
    is_partition = np.repeat([False, True], [held_out.num_rows, partition.num_rows])
    prepare = plain_preparation(problem).fit(rows)
    if not prepare.names_ or is_partition.all() or not is_partition.any():
        return None
    matrix = prepare.transform(rows)
    # A balanced prior: odds are then density ratios, whatever the numbers of rows.
    weight = np.ones(len(rows))
    if its_weights is not None and its_weights.any():
        weight[is_partition] = its_weights / its_weights.mean()
    balance = weight * np.where(is_partition, 0.5 / is_partition.mean(), 0.5 / (1 - is_partition.mean()))
    fold = np.concatenate([folds(blocks), folds(its_blocks)])
    chances = np.full(len(rows), 0.5)
    for held_fold in np.unique(fold):
        test, train = fold == held_fold, fold != held_fold
        if len(np.unique(is_partition[train])) == 2:
            model = small_trees(prepare.is_category_).fit(
                matrix[train], is_partition[train], sample_weight=balance[train]
            )
            chances[test] = model.predict_proba(matrix[test])[:, 1]
    told_apart = Scored("binary", ("0", "1"), is_partition.astype(np.int64), chances, weight)
    named = np.concatenate([blocks, its_blocks + int(blocks.max()) + 1])
    odds = chances[~is_partition] / (1 - chances[~is_partition])
    clipped = np.minimum(odds, MOST_WEIGHT)
    overlap = float(clipped.mean())
    weights = clipped / overlap
    _, place = np.unique(blocks, return_inverse=True)
    return Domain(
        intervals(told_apart, named, rule, ["auc"])["auc"],
        weights,
        effective(weights),
        effective(np.bincount(place, weights)),
        overlap,
    )


def plain_preparation(problem: Problem) -> Preparation:
    """Features as trees take them, texts in few columns."""
    settings = {"text": {"components": TEXT_COLUMNS}}
    return Preparation(
        problem.feature_names, problem.categorical_features, settings, "binary", 0, problem.vector_features
    )


def small_trees(is_category: list[bool]) -> Any:
    """A classifier that tells two sides by a few features each, categories among them."""
    from xgboost import XGBClassifier

    kinds = ["c" if is_text else "q" for is_text in is_category]
    return XGBClassifier(**TREES, n_jobs=1, random_state=0, enable_categorical=True, feature_types=kinds)


def folds(blocks: Array) -> Array:
    """Fold (n,) of each row: blocks side by side go to different folds."""
    names, place = np.unique(blocks, return_inverse=True)
    return (place if len(names) > 1 else np.arange(len(blocks))) % FOLDS
