"""Whether the trees of a model that came from a file are trees: the libraries follow their indexes unchecked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from pipelines.errors import DataError
from pipelines.training.model import Model

LEAF = -1

# What Evergreen fits. skops trusts all of scikit-learn, and what is not looked at here would be used unlooked at.
SINGLE = {
    "pipelines.training.boost.BoostedTrees",
    "pipelines.training.estimators.Prior",
    "pipelines.training.estimators.Random",
    "pipelines.training.heuristic.Heuristic",
    "sklearn.ensemble._forest.RandomForestClassifier",
    "sklearn.ensemble._forest.RandomForestRegressor",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor",
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.linear_model._ridge.Ridge",
}
ENSEMBLES = {"pipelines.training.ensemble.Stacking", "pipelines.training.ensemble.Voting"}


def require_sound(model: Model) -> Model:
    """The model, after a look at each tree in it, of scikit-learn's and of XGBoost's.

    skops loads such a tree as the array that it is kept as; one that was tampered with would read memory that is not
    its own, or never come to a leaf.

    Raises:
        DataError: a node points to itself, back, or out of its tree, or asks for a feature that there is none of; or
            the estimator is none that Evergreen fits.
    """
    if not isinstance(model, Model):
        raise _broken(f"it is a {type(model).__name__} and no model of Evergreen's", "all of it")
    is_ensemble = _kind(model.estimator) in ENSEMBLES
    parts = [model, *model.estimator.models] if is_ensemble else [model]
    for part in parts:
        allowed = ENSEMBLES if part is model and is_ensemble else SINGLE
        if not isinstance(part, Model) or _kind(part.estimator) not in allowed:
            raise _broken("Evergreen fits no such estimator", type(getattr(part, "estimator", part)).__name__)
        final = getattr(part.estimator, "final_", None)
        if final is not None and _kind(final) not in SINGLE:
            raise _broken("Evergreen fits no such estimator", type(final).__name__)
        if hasattr(part.estimator, "booster_"):
            require_sound_booster(part.estimator.booster_.save_raw("json"))
        width = getattr(part.estimator, "n_features_in_", 0)
        for nodes, left, right, feature in _inner_nodes(part.estimator):
            here = np.arange(nodes)[left != LEAF]
            children = np.concatenate([left[here], right[here]])
            is_tree = ((np.tile(here, 2) < children) & (children < nodes)).all()
            if not (nodes and is_tree and ((feature[here] >= 0) & (feature[here] < width)).all()):
                raise _broken("a tree of the model is broken: its nodes lead nowhere", type(part.estimator).__name__)
    return model


def require_sound_booster(raw: bytes) -> None:
    """Look at all trees of an XGBoost model, which is given as its JSON.

    Raises:
        DataError: a node leads back or out of its tree, a split asks for a feature or for categories that there are
            none of, a tree counts for a class that there is none of, or a round has trees that there are none of.
    """
    learner = json.loads(raw)["learner"]
    booster = learner["gradient_booster"]
    model = booster.get("gbtree", booster).get("model", {})
    trees = model.get("trees", [])
    parameters = learner["learner_model_param"]
    groups = max(1, int(parameters["num_class"]), int(parameters["num_target"]))
    rounds, group_of = np.array(model.get("iteration_indptr", [])), np.array(model.get("tree_info", []))
    are_rounds = len(rounds) > 0 and rounds[0] == 0 and rounds[-1] == len(trees) and (np.diff(rounds) >= 0).all()
    is_listed = len(group_of) == len(trees) and ((group_of >= 0) & (group_of < groups)).all()
    if not (are_rounds and is_listed and (not trees or _are_trees(trees, int(parameters["num_feature"])))):
        raise _broken("a tree of the model is broken: its nodes lead nowhere", "XGBoost's booster")


def _are_trees(trees: list[dict[str, Any]], width: int) -> bool:
    """Whether all of these are trees over `width` features; they are looked at together, since there may be many."""
    sizes = np.array([len(tree["left_children"]) for tree in trees])
    columns = ("left_children", "right_children", "split_indices", "split_type")
    if any(len(tree[name]) != size for tree, size in zip(trees, sizes, strict=True) for name in columns):
        return False
    left, right, feature, kind = (np.array(list(chain.from_iterable(tree[name] for tree in trees))) for name in columns)
    here = np.concatenate([np.arange(size) for size in sizes])
    is_inner, size = left != LEAF, np.repeat(sizes, sizes)
    lead_on = (here < left) & (left < size) & (here < right) & (right < size)
    are_asked = (feature >= 0) & (feature < width) & ((kind == 0) | (kind == 1))
    by_category = (
        np.flatnonzero(is_inner & (kind == 1)) - np.repeat(np.cumsum(sizes) - sizes, sizes)[is_inner & (kind == 1)]
    )
    named = [node for tree in trees for node in tree["categories_nodes"]]
    return bool((sizes > 0).all() and (lead_on & are_asked)[is_inner].all() and named == by_category.tolist()) and all(
        int(tree["tree_param"]["size_leaf_vector"]) <= 1
        and len(tree["categories_segments"]) == len(tree["categories_sizes"]) == len(tree["categories_nodes"])
        and _are_segments(tree["categories_segments"], tree["categories_sizes"], tree["categories"])
        for tree in trees
        if tree["categories_nodes"] or int(tree["tree_param"]["size_leaf_vector"]) > 1
    )


def _are_segments(begins: list[int], sizes: list[int], categories: list[int]) -> bool:
    """Whether each split's categories lie in the list of all, and are codes."""
    are_inside = all(
        begin >= 0 and size > 0 and begin + size <= len(categories) for begin, size in zip(begins, sizes, strict=True)
    )
    return are_inside and all(code >= 0 for code in categories)


def _kind(estimator: Any) -> str:
    return f"{type(estimator).__module__}.{type(estimator).__qualname__}"


def _broken(what: str, part: str) -> DataError:
    return DataError(
        what, where=f"model file, {part}", cure="find out who wrote it; train and register a new model, or roll back"
    )


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
