"""What workers and who watches them tell each other, in this order."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

from pipelines.config import Parameters
from pipelines.training.boost_parameters import BoostSettings
from pipelines.training.external import Batch
from pipelines.training.rounds import Boosted
from pipelines.training.workers.bins import Extremes
from pipelines.training.workers.share import Share

PACKAGES = ("evergreen", "numpy", "pyarrow", "scikit-learn", "pandas")


def versions() -> dict[str, str]:
    """Of what messages are made of, and of XGBoost: on each side the same."""
    import xgboost

    own = {name: version(name) for name in PACKAGES}
    return {"Python": ".".join(platform.python_version_tuple()[:2]), **own, "xgboost": xgboost.__version__}


class Hello(NamedTuple):
    """A worker is there."""

    rank: int
    versions: dict[str, str]


class Task(NamedTuple):
    """To a worker: what to read."""

    share: Share
    workers: int
    is_on_disk: bool
    """Its matrix is kept on disk, page by page."""


class Facts(NamedTuple):
    """From a worker: what it has read."""

    rows: int
    """Those that are learnt from."""
    is_used: np.ndarray
    """Which of the share's rows these are, as bits: uint8, of `numpy.packbits`."""
    extremes: Extremes
    digest: list[str]


class Lesson(NamedTuple):
    """To a worker: what all are to learn."""

    settings: BoostSettings
    native: Parameters
    kinds: list[str]
    focal: dict[str, float | None] | None
    bin_rows: np.ndarray
    held_out: Batch | None
    """Rows that say when to stop; of the first worker all, of the others none; None: nothing stops early."""
    every: int | None
    """Rounds between two states that are kept; None: none is."""
    state: tuple[int, bytes] | None
    """What was kept last."""
    key: str


class Built(NamedTuple):
    """From a worker: its matrix is there. From the first one with the address at which the others find it."""

    meeting: dict[str, str | int] | None = None


class Begin(NamedTuple):
    """To a worker: all matrices are there."""

    meeting: dict[str, str | int]


class State(NamedTuple):
    """From the first worker: the state after so many rounds, to be kept."""

    rounds: int
    packed: bytes


class Finished(NamedTuple):
    """From a worker; from the first one with what was learnt."""

    learnt: Boosted | None


class Failed(NamedTuple):
    """From a worker: what went wrong."""

    error: Exception
    is_of_another: bool
    """It has lost another worker, and is not at fault itself."""


FromWorker = Hello | Facts | Built | State | Finished | Failed
