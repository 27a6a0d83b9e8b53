"""The state of a training that is kept while it runs, so that a killed one goes on where it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Protocol

from pipelines.config import Parameters
from pipelines.training.boost_parameters import BoostSettings


class Checkpoint(Protocol):
    """Where the state of a training is kept while it runs."""

    every: int  # rounds between two states, at least 1

    def save(self, rounds: int, model: bytes) -> None:
        """Keep the state after so many rounds, in place of the one before."""

    def load(self) -> tuple[int, bytes] | None:
        """What was saved last; None: nothing. A state of another training is told apart and not used."""


@dataclass
class NoCheckpoint:
    """Keeps nothing; the model comes out as with a checkpoint every so many rounds, which sampling depends on."""

    every: int

    def save(self, rounds: int, model: bytes) -> None:
        pass

    def load(self) -> None:
        return None


def key_of(
    settings: BoostSettings,
    native: Parameters,
    focal: dict[str, float | None] | None,
    every: int,
    *digests: list[str],
) -> str:
    """What decides which model a training makes: the state of another one is of no use. `digests`: of its rows."""
    import xgboost

    made_of = [
        native | {"nthread": 0, "device": ""},
        focal,
        settings.rounds,
        settings.patience,
        every,
        *digests,
        xgboost.__version__,
    ]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()


def packed(rounds: int, history: list[float], raw: bytes, key: str) -> bytes:
    """A line of JSON, then the model in UBJ."""
    head = {"key": key, "rounds": rounds, "history": history, "sha256": hashlib.sha256(raw).hexdigest()}
    return json.dumps(head).encode() + b"\n" + bytes(raw)


def unpacked(state: tuple[int, bytes] | None, key: str) -> tuple[int, list[float], bytearray] | None:
    """None where the state is of other data or parameters, or damaged."""
    if state is None:
        return None
    head, _, raw = state[1].partition(b"\n")
    try:
        header = json.loads(head)
    except ValueError:
        return None
    if not isinstance(header, dict) or (header.get("key"), header.get("sha256")) != (
        key,
        hashlib.sha256(raw).hexdigest(),
    ):
        return None
    return int(header["rounds"]), list(header["history"]), bytearray(raw)
