"""The parameters of the model `xgboost`: scikit-learn's names, checked, and given to XGBoost as it takes them."""

from __future__ import annotations

import json
import numbers
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from pipelines.config import Parameter, Parameters, did_you_mean

OBJECTIVES: dict[str, tuple[str, ...]] = {  # the first is the default
    "binary": ("binary:logistic",),
    "multiclass": ("multi:softprob",),
    "regression": (
        "reg:squarederror",
        "reg:absoluteerror",
        "reg:quantileerror",
        "reg:pseudohubererror",
        "reg:squaredlogerror",
        "reg:gamma",
        "reg:tweedie",
        "count:poisson",
    ),
}
ONLY_WITH = {
    "quantile_alpha": "reg:quantileerror",
    "huber_slope": "reg:pseudohubererror",
    "tweedie_variance_power": "reg:tweedie",
    "scale_pos_weight": "binary:logistic",
}
TAKEN = frozenset(
    {
        "n_estimators",
        "early_stopping_rounds",
        "eval_metric",
        "objective",
        "base_score",
        "learning_rate",
        "max_depth",
        "max_leaves",
        "max_bin",
        "grow_policy",
        "gamma",
        "min_child_weight",
        "max_delta_step",
        "subsample",
        "sampling_method",
        "colsample_bytree",
        "colsample_bylevel",
        "colsample_bynode",
        "reg_alpha",
        "reg_lambda",
        "num_parallel_tree",
        "max_cat_to_onehot",
        "max_cat_threshold",
        "monotone_constraints",
        "interaction_constraints",
        *ONLY_WITH,
    }
)
CALLED = {
    "eta": "learning_rate",
    "lambda": "reg_lambda",
    "alpha": "reg_alpha",
    "num_boost_round": "n_estimators",
    "num_round": "n_estimators",
    "min_split_loss": "gamma",
}
SET_ELSEWHERE = {
    "n_jobs": "training.threads",
    "nthread": "training.threads",
    "random_state": "training.seed",
    "seed": "training.seed",
    "device": "training.device",
    "feature_types": "preprocessing.encoding: native",
    "enable_categorical": "preprocessing.encoding: native",
    "missing": "preprocessing.missing",
}
FIXED = {"tree_method": "hist", "booster": "gbtree", "multi_strategy": "one_output_per_tree"}
SAMPLES = ("subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode")
HIGHER_IS_BETTER = ("auc", "aucpr")

# What holds where nothing is written: measured over real tables (`python -m benchmarks.defaults`, docs/training.md).
ROUNDS, PATIENCE = 1_000, 50  # at most, where held-out rows say when to stop
BLIND_ROUNDS = 200  # where there are none
LEAST_ROUNDS = 150  # of squared errors: who stops sooner holds back a part of each leaf, and some weeks reward that
RATE, SAMPLED = 0.05, 0.8
FEW_ROWS, FEW_COLUMNS = 2_000, 5


@dataclass(frozen=True)
class BoostSettings:
    """What one training does.

    Attributes:
        rounds: boosting rounds at most; None: nobody said.
        patience: rounds without a better metric on the held-out rows after which it stops; None: nobody said.
        native: what XGBoost is told, under its names.
        least: rounds that a model has at least, whatever the held-out rows say.
    """

    rounds: int | None
    patience: int | None
    native: Parameters
    least: int = 0

    def on(self, rows: int, columns: int, has_held_out: bool) -> BoostSettings:
        """The settings for a training set of this size: what was given, and for the rest the defaults.

        Small sets get shallow trees and small leaves, as large ones would hide what there is to learn. The least weight
        of a leaf is in rows for squared errors, and in their second derivatives, at most a quarter each, for log loss;
        other objectives have other scales, and keep XGBoost's. Rounds that were given are that many: who names them
        and no patience asks for no early stopping.

        >>> BoostSettings(None, None, {"objective": "binary:logistic", "max_depth": 3}).on(800, 20, True)
        ... # doctest: +NORMALIZE_WHITESPACE
        BoostSettings(rounds=1000, patience=50, native={'learning_rate': 0.05, 'max_depth': 3, 'reg_lambda': 5.0,
            'subsample': 0.8, 'colsample_bynode': 0.8, 'min_child_weight': 1.0, 'objective': 'binary:logistic'},
            least=0)
        """
        stops = self.patience is not None or (self.rounds is None and has_held_out)
        leaf = {"reg:squarederror": min(max(rows / 200, 1.0), 20.0), "binary:logistic": min(max(rows / 800, 1.0), 5.0)}
        leaf["multi:softprob"] = leaf["binary:logistic"]
        objective = str(self.native["objective"])
        is_squared = objective == "reg:squarederror"
        defaults = {
            "learning_rate": RATE,
            "max_depth": depth(rows),
            "reg_lambda": 1.0 if is_squared else 5.0,
            "subsample": SAMPLED,
            "colsample_bynode": SAMPLED if columns >= FEW_COLUMNS else 1.0,
            **({"min_child_weight": leaf[objective]} if objective in leaf else {}),
        }
        return BoostSettings(
            rounds=self.rounds or (ROUNDS if stops else BLIND_ROUNDS),
            patience=(self.patience or PATIENCE) if stops else None,
            native={**defaults, **self.native},
            least=LEAST_ROUNDS if is_squared and stops and self.rounds is None and self.patience is None else 0,
        )

    @property
    def max_bin(self) -> int:
        return int(cast(int, self.native.get("max_bin", 256)))

    @property
    def is_sampled(self) -> bool:
        """Whether rows or columns are drawn at random."""
        return any(float(cast(float, self.native.get(name, 1))) < 1 for name in SAMPLES)

    @property
    def is_higher_better(self) -> bool:
        return str(self.native.get("eval_metric", "")).split("@")[0] in HIGHER_IS_BETTER


def boost_settings(
    parameters: Parameters,
    task: str,
    *,
    classes: int,
    is_category: list[bool],
    names: list[str] | None,
    is_focal: bool,
) -> BoostSettings:
    """The settings that `parameters` ask for, without defaults; a parameter that is null is as if it were not there.

    Raises:
        ValueError: a parameter is unknown (XGBoost only warns), belongs to another task or objective, or has a value
            that cannot be. XGBoost checks the ranges of numbers itself.

    >>> made = boost_settings({"n_estimators": 50, "max_depth": 3}, "binary", classes=2, is_category=[False],
    ...                       names=None, is_focal=False)
    >>> made.rounds, made.native
    (50, {'objective': 'binary:logistic', 'max_depth': 3})
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    for name, value in given.items():
        refuse_unknown(name, value)
    objective = given.get("objective", OBJECTIVES[task][0])
    if objective not in OBJECTIVES[task]:
        known = ", ".join(OBJECTIVES[task])
        raise ValueError(f"objective {objective!r} does not go with the task {task}; known: {known}")
    for name, wanted in ONLY_WITH.items():
        if name in given and (objective != wanted or is_focal):
            raise ValueError(f"{name} goes with objective {wanted!r} only{', without focal loss' if is_focal else ''}")
    if objective == "reg:quantileerror" and not _is_between(given.get("quantile_alpha"), 0, 1):
        raise ValueError("objective 'reg:quantileerror' needs quantile_alpha, one number between 0 and 1")
    if not isinstance(given.get("eval_metric", ""), str):
        raise ValueError("eval_metric is one metric's name")
    rounds, patience = given.get("n_estimators"), given.get("early_stopping_rounds")
    native = {"objective": objective} | {
        name: value
        for name, value in given.items()
        if name not in ("n_estimators", "early_stopping_rounds") and name not in FIXED
    }
    if task == "multiclass":
        native["num_class"] = classes
    if "monotone_constraints" in given:
        native["monotone_constraints"] = _monotone(given["monotone_constraints"], is_category, names)
    if "interaction_constraints" in given:
        groups = [
            [_position(member, len(is_category), names, "interaction_constraints") for member in group]
            for group in _groups(given["interaction_constraints"])
        ]
        native["interaction_constraints"] = json.dumps(groups)
    return BoostSettings(
        None if rounds is None else _whole("n_estimators", rounds),
        None if patience is None else _whole("early_stopping_rounds", patience),
        dict(native),
    )


def depth(rows: int) -> int:
    """Of trees that learn from so many rows, where nobody gave it.

    >>> depth(1_999), depth(2_000)
    (4, 6)
    """
    return 4 if rows < FEW_ROWS else 6


def stops_by_itself(parameters: Parameters) -> bool:
    """Whether a fit with these parameters stops early where there are held-out rows, though nobody asked for it.

    >>> stops_by_itself({"max_depth": 3}), stops_by_itself({"n_estimators": 80})
    (True, False)
    """
    return all(parameters.get(name) is None for name in ("n_estimators", "early_stopping_rounds"))


def _groups(value: Parameter) -> list[list[int | str]]:
    """Groups of columns that may stand in one tree's path together."""
    if isinstance(value, (list, tuple)) and all(isinstance(group, (list, tuple)) for group in value):
        return [list(group) for group in value]
    raise ValueError(f"interaction_constraints is a list of lists of columns, not {value!r}")


def on_kept(parameters: Parameters, dropped: Collection[str]) -> Parameters:
    """The parameters without constraints on columns that were left out of the matrix: a constant has no order.

    >>> on_kept({"monotone_constraints": {"rain": 1, "wind": 1}, "max_depth": 3}, {"rain": "constant"})
    {'monotone_constraints': {'wind': 1}, 'max_depth': 3}
    >>> on_kept({"interaction_constraints": [["rain", "wind"], ["rain"]]}, ["rain"])
    {'interaction_constraints': [['wind']]}
    """
    kept = dict(parameters)
    if isinstance(signs := kept.get("monotone_constraints"), dict):
        kept["monotone_constraints"] = {name: sign for name, sign in signs.items() if name not in dropped}
    if kept.get("interaction_constraints"):
        groups = _groups(kept["interaction_constraints"])
        left = [[member for member in group if member not in dropped] for group in groups]
        kept["interaction_constraints"] = [group for group in left if group]
    return kept


def refuse_unknown(name: str, value: Any) -> None:
    """Raises:
    ValueError: XGBoost has no such parameter, or it is another setting's here.
    """
    if name in TAKEN or FIXED.get(name) == value:
        return
    if name in FIXED:
        raise ValueError(f"{name} is always {FIXED[name]!r} here")
    if name in CALLED:
        raise ValueError(f"unknown parameter {name!r}; it is called {CALLED[name]!r} here")
    if name in SET_ELSEWHERE:
        raise ValueError(f"{name} is set by {SET_ELSEWHERE[name]}, for all models")
    raise ValueError(f"unknown parameter {name!r}{did_you_mean(name, [*sorted(TAKEN), *CALLED])}")


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} is a whole number from 1 on, not {value!r}")
    return int(value)


def _is_between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and low < float(value) < high


def _monotone(wanted: Any, is_category: list[bool], names: list[str] | None) -> str:
    """XGBoost's own form; a list that is too short is one that it takes without a word, so lengths are checked here."""
    place = "monotone_constraints"
    if isinstance(wanted, dict):
        signs = [0] * len(is_category)
        for name, sign in wanted.items():
            signs[_position(name, len(is_category), names, place)] = sign
    else:
        signs = list(wanted)
    if len(signs) != len(is_category) or any(sign not in (-1, 0, 1) for sign in signs):
        raise ValueError(
            f"{place}: wanted -1, 0 or 1 for features by name, or for each of the {len(is_category)} columns"
        )
    if any(sign and category for sign, category in zip(signs, is_category, strict=True)):
        raise ValueError(f"{place}: categories have no order that scores could rise with")
    return f"({','.join(str(int(sign)) for sign in signs)})"


def _position(member: Any, columns: int, names: list[str] | None, place: str) -> int:
    if isinstance(member, int) and 0 <= member < columns:
        return member
    if names is None or member not in names:
        raise ValueError(
            f"{place}: {member!r} is no column of the model's matrix{did_you_mean(str(member), names or [])}"
        )
    return names.index(member)


@contextmanager
def plainly() -> Iterator[None]:
    """XGBoost's complaints without the lines of its source and the stack."""
    from xgboost.core import XGBoostError

    try:
        yield
    except XGBoostError as error:
        text = str(error).split("\nStack trace")[0]
        text = re.sub(r"^\[[\d:]+\] \S+?:\d+: ", "", text)
        text = re.sub(r"^Check failed: [^\n]*?\)?: (?=\S)", "", text)
        raise ValueError(text.strip().splitlines()[0]) from error
