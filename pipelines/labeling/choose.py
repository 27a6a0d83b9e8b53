"""Which events to ask people about: those that a model, or a committee of models, would learn most from.

Settles (2009), Active Learning Literature Survey, ch. 3; Huyen, ch. 4. A label costs a person's time, and most
events would only tell a model what it knows.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from pipelines.errors import ConfigError, DataError

Strategy = Literal["random", "uncertainty", "margin", "disagreement"]


def choose(scores: np.ndarray, strategy: Strategy, batch: int, seed: int) -> np.ndarray:
    """Positions of the `batch` rows to ask about (all of them if there are fewer), the most wanted first.

    `scores`: probabilities of the positive class, shape (rows,) or (rows, models). Among equals the seed decides, so
    that scores which tie (a model that says the same of all) do not always bring the first rows.

    Raises:
        DataError: a score is no probability.
        ConfigError: disagreement without a committee.

    >>> choose(np.array([0.1, 0.45, 0.9, 0.6]), "uncertainty", 2, seed=0)
    array([1, 3])
    """
    table = np.asarray(scores, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if not ((table >= 0) & (table <= 1)).all():
        raise DataError("scores are no probabilities", where="choose", cure="train and register a new model")
    wanted = informativeness(table, strategy)
    ties = np.random.default_rng(seed).random(len(table))
    order: np.ndarray = np.lexsort([ties, -wanted])
    return order[:batch]


def informativeness(scores: np.ndarray, strategy: Strategy) -> Any:
    """How much each row is wanted, shape (rows,); higher is more. `scores` has shape (rows, models).

    - random: all the same.
    - uncertainty: one minus the probability of the likelier class (least confidence), the committee's mean.
    - margin: minus the difference of the two classes' probabilities. With two classes it ranks as uncertainty does.
    - disagreement: mean Kullback-Leibler divergence, in nats, of each model from the committee's mean (McCallum &
      Nigam 1998): high where models are sure of different things, nought where all are equally unsure.
    """
    mean = scores.mean(axis=1)
    match strategy:
        case "random":
            return np.zeros(len(scores))
        case "uncertainty":
            return 1 - np.maximum(mean, 1 - mean)
        case "margin":
            return -np.abs(mean - (1 - mean))
        case "disagreement":
            if scores.shape[1] < 2:
                raise ConfigError(
                    "one model cannot disagree",
                    where="labels.hand.choose",
                    cure="give training.candidates a second model that learns, or choose by uncertainty",
                )
            return _entropy(mean) - _entropy(scores).mean(axis=1)


def _entropy(probability: np.ndarray) -> np.ndarray:
    """Of a coin, in nats; nought at 0 and 1."""
    inside = np.clip(probability, 1e-300, 1.0), np.clip(1 - probability, 1e-300, 1.0)
    return np.asarray(-probability * np.log(inside[0]) - (1 - probability) * np.log(inside[1]))
