"""A retraining is asked for when enough labels say that the model is off now, and never for less."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from pipelines.config import Policy
from pipelines.monitoring.decide import Decision, decide
from pipelines.monitoring.finding import Diagnosis, Finding, Kind

POLICY = Policy(at_least=2, of_last=3, cool_down_partitions=4)
HARM: tuple[Kind, ...] = ("performance drop", "calibration drift")


def diagnosis(*kinds: Kind, bad: str = "", labelled: str = "abc") -> Diagnosis:
    """Partitions are letters; every finding's evidence is its kind in capitals."""
    findings = tuple(Finding(kind=kind, evidence=kind.upper(), numbers={}) for kind in kinds)
    return Diagnosis(findings=findings, labelled=tuple(labelled), bad=tuple(bad))


def test_stable() -> None:
    expected = Decision(
        verdict="stable",
        action="none",
        reason="no shift beyond the policy's limits, 0 of the last 3 labelled partitions are off",
    )
    assert decide(POLICY, diagnosis(), None) == expected


def test_stable_before_any_label() -> None:
    assert decide(POLICY, diagnosis(labelled=""), None).reason == "no shift beyond the policy's limits, no labels yet"


@pytest.mark.parametrize("kind", ["prediction drift", "covariate shift", "label shift", "label schema change"])
def test_a_shift_that_does_no_harm_is_an_alert(kind: Kind) -> None:
    decision = decide(POLICY, diagnosis(kind), None)
    assert decision == Decision(
        verdict=kind, action="alert", reason=f"{kind.upper()}, 0 of the last 3 labelled partitions are off"
    )


@pytest.mark.parametrize("kind", HARM)
def test_enough_bad_partitions_ask_for_a_retraining(kind: Kind) -> None:
    decision = decide(POLICY, diagnosis(kind, "covariate shift", bad="bc"), None)
    assert decision == Decision(
        verdict=kind, action="retrain", reason=f"{kind.upper()}, 2 of the last 3 labelled partitions are off"
    )


def test_a_season_alone_wakes_nobody() -> None:
    decision = decide(POLICY, diagnosis("feature change"), None)
    assert (decision.verdict, decision.action) == ("feature change", "none")
    assert decision.reason == "FEATURE CHANGE, 0 of the last 3 labelled partitions are off"


def test_one_bad_partition_is_not_enough() -> None:
    decision = decide(POLICY, diagnosis("calibration drift", bad="c"), None)
    assert decision.action == "alert"
    assert decision.reason == "CALIBRATION DRIFT, 1 of the last 3 labelled partitions is off, a retraining takes 2 of 3"


def test_a_model_that_recovered_is_left_alone() -> None:
    assert decide(POLICY, diagnosis("label shift", bad="ab"), None).action == "alert"
    assert decide(POLICY, diagnosis(bad="ab"), None).action == "none"


@pytest.mark.parametrize(
    ("since", "action", "end"),
    [
        (1, "alert", "cooling down for 3 more partitions"),
        (3, "alert", "cooling down for 1 more partition"),
        (4, "retrain", "3 of the last 3 labelled partitions are off"),
        (None, "retrain", "3 of the last 3 labelled partitions are off"),
    ],
)  # fmt: skip
def test_cool_down(since: int | None, action: str, end: str) -> None:
    decision = decide(POLICY, diagnosis("performance drop", bad="abc"), since)
    assert decision.action == action and decision.reason.endswith(end)


def test_no_cool_down() -> None:
    assert (
        decide(POLICY.model_copy(update={"cool_down_partitions": 0}), diagnosis("performance drop", bad="bc"), 1).action
        == "retrain"
    )


def test_broken_data_never_retrains() -> None:
    decision = decide(POLICY, diagnosis("data fault", "performance drop", bad="abc"), None)
    assert (decision.verdict, decision.action) == ("data fault", "alert")
    assert decision.reason.endswith("mend the data before anything learns from it")


def test_every_case_keeps_the_rules() -> None:
    """All sets of findings, all patterns of bad partitions, before and after a cool-down."""
    seen = set()
    kinds = get_args(Kind)
    for flags in itertools.product([False, True], repeat=len(kinds)):
        shown = tuple(kind for kind, flag in zip(kinds, flags, strict=True) if flag)
        for bad in ("", "a", "c", "ab", "ac", "bc", "abc"):
            if any(kind in HARM for kind in shown) is not bad.endswith("c"):
                continue  # the newest partition is bad exactly when a harm shows
            for since in (None, 1, 9):
                decision = decide(POLICY, diagnosis(*shown, bad=bad), since)
                seen.add(decision.action)
                assert decision.verdict == (shown[0] if shown else "stable")
                assert (decision.action == "none") is (shown in ((), ("feature change",)))
                assert "\n" not in decision.reason
                may = len(bad) >= 2 and bad.endswith("c") and since != 1 and "data fault" not in shown
                assert (decision.action == "retrain") is may
    assert seen == {"none", "alert", "retrain"}
