"""What must hold after faults is seen not to, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.chaos.holds import State, breaches, differences

DAY = "2024-01-09"


def state(**changes: Any) -> State:
    """A problem of one day, with three rows of which one was set aside, and one version."""
    sound: dict[str, Any] = {
        "rows": {"events": {'{"pot": "a"}': 1, '{"pot": "b"}': 1}},
        "read": {DAY: 3},
        "events": {DAY: ["a", "b"]},
        "quarantined": {DAY: 1},
        "predictions": {DAY: ["b", "a"]},
        "versions": {DAY: {"1": 2}},
        "manifests": {DAY: {"rows": 2, "versions": {"1": 2}}},
        "decisions": ["promotion:1", "gate:1"],
        "promoted": ["1"],
        "champion": "1",
        "challenger": "2",
        "under_release": "2",
        "registered": {"1": "run of 1", "2": "run of 2"},
        "described": ["1", "2"],
        "runs": {"t1 xgboost": 1},
        "running": [],
        "staged": [],
        "missing_files": [],
    }
    return State.model_validate(sound | changes)


def test_of_a_sound_problem_everything_holds() -> None:
    assert breaches(state(), [DAY], [DAY]) == []
    assert differences(state(), state()) == []


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("published + quarantined = read", {"quarantined": {}}),
        ("an event is published once", {"events": {DAY: ["a", "a"]}, "predictions": {DAY: ["a", "a"]}}),
        ("one prediction an event", {"predictions": {DAY: ["a", "a"]}}),
        ("the manifest says what the table has", {"manifests": {}}),
        ("the manifest says what the table has", {"versions": {DAY: {"1": 1, "2": 1}}}),
        ("a ledger's row is there once", {"decisions": ["gate:1", "gate:1"]}),
        ("the alias champion is the ledger's last promotion", {"promoted": ["1", "2"]}),
        ("the alias challenger is under release", {"challenger": None}),
        ("a version has its files", {"described": ["1"]}),
        ("a run is registered once", {"registered": {"1": "run of 1", "2": "run of 1"}}),
        ("a candidate is fitted once a training", {"runs": {"t1 xgboost": 2}}),
        ("no run of MLflow goes on for ever", {"running": ["xgboost"]}),
        ("nothing is left in staging for ever", {"staged": ["pots/staging/a"]}),
        ("a manifest's files are there", {"missing_files": ["part-0"]}),
    ],
)
def test_what_does_not_hold_is_named(rule: str, changes: dict[str, Any]) -> None:
    assert {breach.rule for breach in breaches(state(**changes), [DAY], [DAY])} >= {rule}


def test_rows_that_are_lost_and_rows_that_are_doubled_are_counted() -> None:
    (difference,) = differences(state(), state(rows={"events": {'{"pot": "b"}': 3}}))
    assert difference[:3] == ("events", 1, 2)


def test_the_last_digit_of_a_sum_is_no_difference() -> None:
    sums = [
        {"profiles": {f'{{"mean": {mean}}}': 1}} for mean in ("-0.12428601398601398", "-0.12428601398601397", "-0.1243")
    ]
    assert differences(state(rows=sums[0]), state(rows=sums[1])) == []
    assert len(differences(state(rows=sums[0]), state(rows=sums[2]))) == 1
