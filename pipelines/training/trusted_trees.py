"""Whether the trees of a model that came from a file are trees: scikit-learn follows their indexes unchecked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipelines.errors import DataError
from pipelines.training.model import Model

LEAF = -1


def require_sound(model: Model) -> Model:
    """The model, after a look at each tree of scikit-learn's in it.

    skops loads such a tree as the array that it is kept as; one that was tampered with would read memory that is not
    its own, or never come to a leaf.

    Raises:
        DataError: a node points to itself, back, or out of its tree, or asks for a feature that there is none of.
    """
    for part in [model, *getattr(model.estimator, "models", [])]:
        width = getattr(part.estimator, "n_features_in_", 0)
        for nodes, left, right, feature in _inner_nodes(part.estimator):
            here = np.arange(nodes)[left != LEAF]
            children = np.concatenate([left[here], right[here]])
            is_tree = ((np.tile(here, 2) < children) & (children < nodes)).all()
            if not (nodes and is_tree and ((feature[here] >= 0) & (feature[here] < width)).all()):
                raise DataError(
                    "a tree of the model is broken: its nodes lead nowhere",
                    where=f"model file, {type(part.estimator).__name__}",
                    cure="find out who wrote it; train and register a new model",
                )
    return model


def _inner_nodes(estimator: Any) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each tree the number of nodes, and of each node its two children (of a leaf LEAF) and its feature."""
    for tree in getattr(estimator, "estimators_", []):
        nodes = tree.tree_.__getstate__()["nodes"]
        yield len(nodes), nodes["left_child"], nodes["right_child"], nodes["feature"]
    for predictor in (
        predictor_of_class for each in getattr(estimator, "_predictors", []) for predictor_of_class in each
    ):
        nodes, bitsets = predictor.nodes, len(predictor.raw_left_cat_bitsets)
        by_category = (nodes["is_leaf"] == 0) & (nodes["is_categorical"] != 0)
        asked = np.where(by_category & (nodes["bitset_idx"] >= bitsets), -1, nodes["feature_idx"])
        left = np.where(nodes["is_leaf"] != 0, LEAF, nodes["left"].astype(np.int64))
        yield len(nodes), left, nodes["right"].astype(np.int64), asked
