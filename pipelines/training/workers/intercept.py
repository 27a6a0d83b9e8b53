"""What boosting starts from, estimated from the rows of all workers at once.

XGBoost's workers would each sum up their own rows, and round before and after: what comes of it hangs in its last digit
on how rows are shared.
"""

from __future__ import annotations

import json

import numpy as np

from pipelines.config import Parameters
from pipelines.training.boost_parameters import plainly

OF_COLUMNS = ("monotone_constraints", "interaction_constraints")


def estimated(native: Parameters, y: np.ndarray, weight: np.ndarray) -> str:
    """XGBoost's base_score as one process estimates it, to be given to `native` as it is.

    Args:
        native: what XGBoost is told.
        y, weight: of all rows, (n,), in their order.

    Raises:
        ValueError: a parameter is wrong, or the objective takes no such labels.
    """
    import xgboost

    told = {name: value for name, value in native.items() if name not in OF_COLUMNS}
    with plainly():
        empty = np.full((len(y), 1), np.nan, np.float32)  # of which no tree has a split
        train = xgboost.DMatrix(empty, label=y, weight=weight, nthread=int(str(native["nthread"])))
        booster = xgboost.Booster(told, [train])
        booster.update(train, 0)  # it estimates before the first round, and only there
        return str(json.loads(booster.save_config())["learner"]["learner_model_param"]["base_score"])


def marked_estimated(model: bytes) -> bytes:
    """The model in UBJ as if XGBoost had estimated base_score itself: a model notes which it was."""
    import xgboost

    booster = xgboost.Booster(model_file=bytearray(model))
    booster.set_param({"boost_from_average": 1})
    return bytes(booster.save_raw("ubj"))
