"""What the monitor's stages say in a line, and that a hand-off stays small."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.config import Action
from pipelines.handoffs import line
from pipelines.handoffs.base import HandOff
from pipelines.handoffs.monitoring import (
    Decided,
    Detected,
    Diagnosed,
    Estimated,
    Explained,
    Profiled,
    Reported,
    Requested,
)
from tests.handed_on import example

WHOLE: dict[str, Any] = {
    "partition": "2024-01-08",
    "version": "1",
    "detected": {"rows": 90, "columns": {}, "prediction": {}, "same_as": None},
    "realised": [],
    "waiting": ["2024-01-07"],
}


@pytest.mark.parametrize(
    ("stage", "handed_on", "words"),
    [
        ("profile", example(Profiled, version="2", rows=6_560), "6,560 rows, scored by version 2"),
        (
            "detect",
            example(Detected, columns=24, moved=["temp"], labelled=["2024-01-01", "2024-01-07"]),
            "1 of 24 columns moved by more than usual, newest labels of 2024-01-07",
        ),
        ("detect", example(Detected, columns=24), "0 of 24 columns moved by more than usual, no labels yet"),
        ("estimate", example(Estimated, verdict="AUC 0.699 estimated"), "AUC 0.699 estimated"),
        ("diagnose", example(Diagnosed, kinds=["label shift", "label shift"]), "label shift"),
        ("diagnose", example(Diagnosed), "no finding"),
        ("explain", example(Explained, since="2024-01-01"), "since 2024-01-01"),
        ("explain", example(Explained), "no partition stands out"),
        (
            "decide",
            example(Decided, verdict="label shift", action=Action.ALERT, reason="rate 0.40"),
            "label shift, alert: rate 0.40",
        ),
        ("act", example(Requested, action=Action.RETRAIN), "retrain requested"),
        ("report", example(Reported, page="file:///monitoring.html"), "file:///monitoring.html"),
    ],
)
def test_each_stage_says_what_it_has_to_say(stage: str, handed_on: HandOff, words: str) -> None:
    assert handed_on.line() == words
    assert line(f"monitor.{stage}", handed_on.model_dump(mode="json")) == words, "from an XCom too"


def test_evidence_that_was_handed_on_whole_is_taken_as_it_is() -> None:
    detected = Detected.model_validate(WHOLE)
    assert detected.detection == {name: WHOLE[name] for name in ("detected", "realised", "waiting")}
    assert line("monitor.detect", WHOLE) == "", "it counted no columns"
    finding = {"kind": "label shift", "evidence": "", "numbers": {"b": 1.0, "a": 2.0}}
    shifts = {"label_shift": None, "concept": None, "feedback": None}
    diagnosed = Diagnosed.model_validate({**WHOLE, **shifts, "diagnosis": {"findings": [finding]}})
    assert (diagnosed.kinds, diagnosed.measures) == (["label shift"], ["a", "b"])
    assert diagnosed.estimation == {"partition": "2024-01-08", **shifts}
    explained = Explained.model_validate({**diagnosed.model_dump(), "explanation": {"since": "2024-01-01"}})
    assert explained.detection == detected.detection, "it is handed on in turn"


def test_where_evidence_lies_is_all_that_is_handed_on_of_it() -> None:
    decided = example(Decided, detection="a", estimation="b", diagnosis="c", explanation="d", weighing="e")
    again = Decided.model_validate(decided.model_dump(mode="json"))
    assert again == decided
    pieces = ("detection", "estimation", "diagnosis", "explanation", "weighing")
    assert [getattr(again, piece) for piece in pieces] == ["a", "b", "c", "d", "e"]
