"""select: which prepared columns a model sees (Burkov, ch. 4), and of each other one why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.config import Selection
from pipelines.errors import DataError

FOREST = 50  # trees
BOOSTED = 100  # trees of the model that permutation looks at
DEPTH = 6
BINS = 64
SHOWN_CATEGORIES = 50  # most frequent ones of a native category, which l1 sees one by one
BATCH_BYTES = 2**27  # of shuffled copies that are scored at once


@dataclass(frozen=True)
class Columns:
    """The rows that selection looks at; `matrix` float32 (rows, columns) with NaN and category codes."""

    matrix: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    is_category: list[bool]
    task: str


def select(
    selection: Selection,
    matrix: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    names: list[str],
    origin: list[str],
    is_category: list[bool],
    task: str,
    seed: int,
) -> tuple[list[int], dict[str, str]]:
    """Indexes of the columns that are kept, ascending, and of each other one's name why it is not.

    `matrix`, `names`, `origin` and `is_category` are a Preparation's; `y` are labels or codes of classes, shape
    (rows,). Rows stand in time's order: *permutation* learns from the older and measures on the newest fifth. At most
    `max_rows` rows with a weight are looked at, drawn by `seed`. Columns of the features in `always` are kept in any
    case, and take part. With method none nothing is dropped.

    Raises:
        DataError: no column is left.
    """
    if selection.method == "none" or not names:
        return list(range(len(names))), {}
    random = np.random.default_rng(seed)
    there = np.flatnonzero(weight > 0)
    if len(there) > selection.max_rows:
        there = np.sort(random.choice(there, selection.max_rows, replace=False))
    # Of regression in standard deviations, so that strength and min_gain mean the same for labels of any unit.
    label = _standardised(y[there].astype(np.float64)) if task == "regression" else y[there].astype(np.int64)
    columns = Columns(matrix[there], label, weight[there] / weight[there].mean(), is_category, task)
    match selection.method:
        case "l1":
            reasons = _l1(columns, selection, seed)
        case "boruta":
            reasons = _boruta(columns, selection, random)
        case "permutation":
            reasons = _permutation(columns, selection, random)
    reasons = {n: why for n, why in reasons.items() if origin[n] not in selection.always}
    if len(reasons) == len(names):
        raise DataError(
            f"{selection.method} finds no feature worth keeping ({reasons[0]}, and so on)",
            where="training.selection",
            cure="make it less strict (strength, significance, min_gain), name features in always, or take method none",
        )
    return [n for n in range(len(names)) if n not in reasons], {names[n]: reasons[n] for n in sorted(reasons)}


def _l1(columns: Columns, selection: Selection, seed: int) -> dict[int, str]:
    """What a linear model with the penalty `strength` * sum |w| beside its mean loss gives no weight (Tibshirani 1996).

    Of a number it sees the value in standard deviations, its median where missing, and whether it was missing; of a
    native category its most frequent values, each by itself. A column stays if one of these has a weight.
    """
    from sklearn.linear_model import Lasso, LogisticRegression

    design, column = _design(columns)
    strength, weight = selection.strength, columns.weight
    used = np.zeros(design.shape[1], dtype=bool)
    if columns.task == "regression":
        lasso = Lasso(alpha=strength, max_iter=2000, tol=1e-3).fit(design, columns.y, sample_weight=weight)
        used |= lasso.coef_ != 0
    else:
        classes = np.unique(columns.y)
        for label in classes[len(classes) == 2 :] if len(classes) > 1 else ():
            model = LogisticRegression(
                C=1 / (strength * weight.sum()),
                l1_ratio=1,
                solver="liblinear",
                max_iter=200,
                tol=1e-3,
                intercept_scaling=100,
                random_state=seed,  # liblinear shrinks the intercept as well: hardly, so scaled
            )
            used |= model.fit(design, columns.y == label, sample_weight=weight).coef_[0] != 0
    kept = set(column[used].tolist())
    reason = f"l1: weight 0 at strength {strength:g}"
    return {n: reason for n in range(columns.matrix.shape[1]) if n not in kept}


def _design(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Standardised float64 matrix (rows, parts), and of each part the column that it is of; constant parts are out."""
    parts, column = [], []
    for n, is_category in enumerate(columns.is_category):
        values = columns.matrix[:, n].astype(np.float64)
        missing = np.isnan(values)
        design_parts: list[np.ndarray] = [missing.astype(np.float64)]
        if is_category:
            codes, counts = np.unique(values[~missing], return_counts=True)
            shown = codes[np.argsort(-counts, kind="stable")[:SHOWN_CATEGORIES]]
            design_parts += [(values == code).astype(np.float64) for code in shown]
        elif not missing.all():
            design_parts.append(np.where(missing, np.nanmedian(values), values))
        varying = [part for part in design_parts if part.min() != part.max()]
        parts += [_standardised(part) for part in varying]
        column += [n] * len(varying)
    design = np.column_stack(parts) if parts else np.zeros((len(columns.y), 1))
    return design, np.array(column or [-1])


def _boruta(columns: Columns, selection: Selection, random: np.random.Generator) -> dict[int, str]:
    """What is no better than noise of its own kind (Kursa & Rudnicki, Boruta, 2010).

    Each round grows a forest on the columns and on a shuffled copy, a shadow, of each; a column scores where its gain
    is above that of the best shadow. Of a column no better than a shadow a score is at most a coin's toss: it is
    dropped once it has too few scores for that, and settled once it has too many (binomial test, Bonferroni over the
    columns). What is dropped takes part no more. What is open after `rounds` stays if its median gain is above the
    median of the best shadow's, as in Boruta's TentativeRoughFix. Codes of categories are split like numbers: split as
    categories, the shadow of one with many values would gain more than most signals.
    """
    from scipy.stats import binom

    count = columns.matrix.shape[1]
    level = selection.significance / count
    left, scores = np.arange(count), np.zeros(count, dtype=np.int64)
    is_settled = np.zeros(count, dtype=bool)
    reasons: dict[int, str] = {}
    gains, best_shadows = np.full((selection.rounds, count), np.nan), np.zeros(selection.rounds)
    for done in range(1, selection.rounds + 1):
        gain = _forest_gain(columns, left, random)
        best = gain[len(left) :].max()
        gains[done - 1, left], best_shadows[done - 1] = gain[: len(left)], best
        scores[left] += gain[: len(left)] > best
        is_settled |= binom.sf(scores - 1, done, 0.5) < level
        hopeless = left[(binom.cdf(scores[left], done, 0.5) < level) & ~is_settled[left]]
        for n in hopeless.tolist():
            reasons[n] = f"boruta: above the best shuffled copy in {scores[n]} of {done} forests"
        left = np.setdiff1d(left, hopeless)
        if is_settled[left].all():
            return reasons
    for n in left[~is_settled[left]].tolist():
        if not np.median(gains[:, n]) > np.median(best_shadows):
            reasons[n] = f"boruta: above the best shuffled copy in {scores[n]} of {selection.rounds} forests, undecided"
    return reasons


def _forest_gain(columns: Columns, left: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Gain of the columns `left` and then of their shadows in one forest, shape (2 * len(left),)."""
    chosen = columns.matrix[:, left]
    both = np.hstack([chosen, random.permuted(chosen, axis=0)])
    settings = {"num_parallel_tree": FOREST, "learning_rate": 1.0, "subsample": 0.632, "colsample_bytree": 0.33}
    booster = _boost(columns, both, [False] * both.shape[1], 1, settings, int(random.integers(2**31)))
    gains = booster.get_score(importance_type="total_gain")
    return np.array([gains.get(f"f{n}", 0.0) for n in range(2 * len(left))])


def _permutation(columns: Columns, selection: Selection, random: np.random.Generator) -> dict[int, str]:
    """What costs a boosted model no more than `min_gain` when it is shuffled (Breiman 2001), on the newest fifth.

    The cost is the rise of the loss: log loss, or the squared error in variances of the label; the mean of `rounds`
    shuffles. Of noise it is above 0 half the time: it has to be so beyond chance (z-test over the rows,
    `significance`).
    """
    from scipy.special import ndtri

    rows = len(columns.y)
    older = rows - max(1, rows // 5)
    if older < 1:
        return {}
    past = Columns(columns.matrix[:older], columns.y[:older], columns.weight[:older], columns.is_category, columns.task)
    settings = {"learning_rate": 0.1, "subsample": 0.8}
    model = _boost(past, past.matrix, past.is_category, BOOSTED, settings, int(random.integers(2**31)))
    newest, y, weight = columns.matrix[older:], columns.y[older:], columns.weight[older:]
    before = _losses(model, columns, newest, y)
    at_once = max(1, min(selection.rounds, BATCH_BYTES // newest.nbytes))
    threshold = -ndtri(selection.significance)
    reasons = {}
    for n in range(newest.shape[1]):
        cost = np.zeros(len(y))
        for start in range(0, selection.rounds, at_once):
            times = min(at_once, selection.rounds - start)
            shuffled = np.tile(newest, (times, 1))
            shuffled[:, n] = random.permuted(np.tile(newest[:, n], (times, 1)), axis=1).ravel()
            losses = _losses(model, columns, shuffled, np.tile(y, times))
            cost += (losses.reshape(times, -1) - before).sum(axis=0) / selection.rounds
        mean = np.average(cost, weights=weight)
        error = np.sqrt(np.sum((weight * (cost - mean)) ** 2)) / weight.sum()
        if not mean - selection.min_gain > threshold * error:
            reasons[n] = f"permutation: shuffling it costs {mean:.2g}, which is not surely above {selection.min_gain:g}"
    return reasons


def _losses(model: Any, columns: Columns, matrix: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Loss of each row, float64."""
    scores = np.asarray(model.inplace_predict(matrix), dtype=np.float64)
    if columns.task == "regression":
        return np.asarray((scores - y) ** 2)
    if columns.task == "binary":
        chance = np.where(y == 1, scores, 1 - scores)
    else:  # a class that is only among the newest rows: the model gives it nothing
        unknown = max(0, int(columns.y.max()) + 1 - scores.shape[1])
        chance = np.hstack([scores, np.zeros((len(y), unknown))])[np.arange(len(y)), y]
    return np.asarray(-np.log(np.clip(chance, 1e-15, 1)))


def _boost(
    columns: Columns, matrix: np.ndarray, is_category: list[bool], rounds: int, settings: Mapping[str, float], seed: int
) -> Any:
    import xgboost

    objectives: dict[str, dict[str, Any]] = {
        "binary": {"objective": "binary:logistic"},
        "regression": {"objective": "reg:squarederror"},
        "multiclass": {"objective": "multi:softprob", "num_class": max(2, int(columns.y.max()) + 1)},
    }
    # One thread: the trees are small, and threads that wait for each other cost more than they save.
    rows = xgboost.QuantileDMatrix(
        matrix,
        columns.y,
        weight=columns.weight,
        feature_types=["c" if is_code else "q" for is_code in is_category],
        enable_categorical=True,
        nthread=1,
        max_bin=BINS,
    )
    fixed = {"tree_method": "hist", "max_bin": BINS, "max_depth": DEPTH, "seed": seed, "nthread": 1}
    return xgboost.train({**fixed, **objectives[columns.task], **settings}, rows, rounds)


def _standardised(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    deviation = centred.std()
    return np.asarray(centred / deviation if deviation > 0 else centred)
