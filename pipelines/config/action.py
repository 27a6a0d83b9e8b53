"""What may be done about a partition: one vocabulary for the policy, the ledger, the alerts and the pages."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

How = Literal["scratch", "continue", "recalibrate"]
"""How a training makes its model: from no other, or on top of the champion."""


class Action(StrEnum):
    """An action, by the word that problem.yaml, the ledger and the tables have for it."""

    NONE = "none"
    ALERT = "alert"
    QUARANTINE = "quarantine"
    RECALIBRATE = "recalibrate"
    RETRAIN = "retrain"
    CONTINUE = "continue"
    ROLL_BACK = "roll_back"
    FALL_BACK = "fall_back"

    @property
    def trains(self) -> How | None:
        """The training that it asks the train DAG for; None: it asks for none."""
        return _MEANINGS[self].trains

    @property
    def needs_alarm(self) -> bool:
        """Whether age alone can never speak for it."""
        return _MEANINGS[self].needs_alarm

    @property
    def noun(self) -> str:
        """What it is, within a sentence."""
        return _MEANINGS[self].noun

    @property
    def done(self) -> str:
        """A sentence that says what happens."""
        return _MEANINGS[self].done

    @property
    def news(self) -> str:
        """A clause for an alert; empty: nothing beyond the verdict."""
        return _MEANINGS[self].news


class _Meaning(NamedTuple):
    """What the properties of an action are."""

    noun: str
    done: str
    news: str = ""
    trains: How | None = None
    needs_alarm: bool = False


_MEANINGS = {
    Action.NONE: _Meaning("nothing", "Nothing is done."),
    Action.ALERT: _Meaning("an alert", "People are told; nothing else is done."),
    Action.QUARANTINE: _Meaning(
        "quarantine",
        "The partition is kept out of training, and people are told.",
        "the partition is in quarantine",
    ),
    Action.RECALIBRATE: _Meaning(
        "a calibration",
        "A recalibration of the serving model is asked for.",
        "the champion is to be calibrated again",
        trains="recalibrate",
        needs_alarm=True,
    ),
    Action.RETRAIN: _Meaning(
        "a training from scratch",
        "A training from scratch is asked for.",
        "retraining requested",
        trains="scratch",
    ),
    Action.CONTINUE: _Meaning(
        "continuing the champion",
        "The serving model is to learn on from newer rows.",
        "the champion is to be continued",
        trains="continue",
    ),
    Action.ROLL_BACK: _Meaning(
        "the version before",
        "The version before serves again.",
        "the version before serves again",
        needs_alarm=True,
    ),
    Action.FALL_BACK: _Meaning(
        "the baseline",
        "The baseline model serves until a model passes the gate.",
        "the baseline serves",
        needs_alarm=True,
    ),
}

Way = Literal[Action.RECALIBRATE, Action.RETRAIN, Action.CONTINUE, Action.ROLL_BACK, Action.FALL_BACK]
"""An action that changes what serves: it costs something, and may gain more."""
# At equal gains the one with fewer surprises comes first.
WAYS: tuple[Way, ...] = (
    Action.RECALIBRATE,
    Action.CONTINUE,
    Action.RETRAIN,
    Action.ROLL_BACK,
    Action.FALL_BACK,
)
