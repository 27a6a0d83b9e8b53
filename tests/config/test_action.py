"""Every action has its words, and is written as it always was."""

from __future__ import annotations

import json

from pipelines.config import COSTS, WAYS, Action


def test_an_action_is_its_word_wherever_it_is_written() -> None:
    assert json.dumps([*Action]) == json.dumps(
        ["none", "alert", "quarantine", "recalibrate", "retrain", "continue", "roll_back", "fall_back"]
    )
    assert f"{Action.ROLL_BACK}" == "roll_back" == Action("roll_back")


def test_every_action_has_words_for_people() -> None:
    assert all(action.noun and action.done.endswith(".") for action in Action)
    assert len({action.done for action in Action}) == len(Action)


def test_ways_are_the_actions_that_change_what_serves() -> None:
    assert {*WAYS} == {*COSTS} == {*Action} - {Action.NONE, Action.ALERT, Action.QUARANTINE}
    assert {way: way.trains for way in WAYS if way.trains} == {
        Action.RETRAIN: "scratch",
        Action.CONTINUE: "continue",
        Action.RECALIBRATE: "recalibrate",
    }
    assert {way for way in WAYS if not way.needs_alarm} == {Action.RETRAIN, Action.CONTINUE}
