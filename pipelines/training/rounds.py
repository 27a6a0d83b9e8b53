"""The rounds of a boosting: trees, early stopping, and the state that is kept on the way.

They are looped over here and not by `xgboost.train`, which counts from 0 whenever it goes on with a model: what is
drawn at random follows the number of the round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pipelines.config import Parameters
from pipelines.errors import DataError
from pipelines.training.boost_parameters import BoostSettings
from pipelines.training.checkpoint import Checkpoint, packed, unpacked
from pipelines.training.focal import Gradients

Objective = Callable[[np.ndarray, Any], Gradients]


class Boosted(NamedTuple):
    """What a training has learnt."""

    model: bytes
    """The rounds up to the best one, in UBJ."""
    rounds: int
    """How many these are."""
    history: list[float]
    """The metric on the held-out rows after each round, where there is early stopping."""


def boosted(
    settings: BoostSettings,
    native: Parameters,
    train: Any,
    held_out: Any = None,
    objective: Objective | None = None,
    checkpoint: Checkpoint | None = None,
    key: str = "",
    start: Any = None,
    draw: Callable[[int], None] | None = None,
) -> Boosted:
    """Boost on the matrix `train`, from the last state of this training on, where one was kept.

    Several workers, each with a matrix of its own, run this at once within one communicator: XGBoost adds up what they
    sum, and all of them grow the same trees.

    Args:
        settings: sized (`BoostSettings.on`).
        native: what XGBoost is told.
        held_out: matrix that says when to stop; goes with settings.patience.
        objective: in place of XGBoost's own.
        key: of this training, `key_of`.
        start: a booster that rounds are added to.
        draw: is told the number of each round before it.

    Raises:
        DataError: the metric has no value on the held-out rows.
    """
    import xgboost

    assert settings.rounds is not None, "sized settings say how long"
    matrices = [train] if held_out is None else [train, held_out]
    kept = unpacked(checkpoint.load(), key) if checkpoint else None
    begun = 0 if start is None else int(start.num_boosted_rounds())
    first, history, raw = kept or (begun, [], None if start is None else start.save_raw("ubj"))
    booster = xgboost.Booster(native, matrices, model_file=raw)
    if start is not None and held_out is not None:
        history.append(_metric(booster, held_out, begun))
    for done in range(first + 1, begun + settings.rounds + 1):
        if draw is not None:
            draw(done - 1)
        booster.update(train, done - 1, objective)
        if settings.patience is not None:
            history.append(_metric(booster, held_out, done))
            if done >= settings.least and len(history) - 1 - _best(history, settings) >= settings.patience:
                break
        if checkpoint is not None and done % checkpoint.every == 0 and done < settings.rounds:
            raw = booster.save_raw("ubj")
            checkpoint.save(done, packed(done, history, raw, key))
            if settings.is_sampled:
                # What draws columns has a state of its own that no model holds. A new booster begins anew, and so
                # does one that resumes here: both draw the same.
                booster = xgboost.Booster(native, matrices, model_file=raw)
    counted_from = 1 if start is None else begun  # rounds that the first metric of the history is of
    best = _best(history, settings) + counted_from if history else begun + settings.rounds
    rounds = max(best, settings.least)
    return Boosted(bytes(booster[:rounds].save_raw("ubj")), rounds, history)


def _metric(booster: Any, held_out: Any, done: int) -> float:
    text = booster.eval(held_out, "held_out", done)
    value = float(text.rsplit(":", 1)[1])
    if np.isnan(value):
        name = text.rsplit(":", 1)[0].rsplit("-", 1)[1]
        raise DataError(
            f"{name} has no value on the held-out rows, so it cannot say when to stop",
            where="validation split",
            cure="have it hold rows of every class that weigh something, or drop early_stopping_rounds",
        )
    return value


def _best(history: list[float], settings: BoostSettings) -> int:
    """The first of the best rounds, counted from 0."""
    return int(np.argmax(history) if settings.is_higher_better else np.argmin(history))
