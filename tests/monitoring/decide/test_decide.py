"""An action is taken when its expected gain outdoes its cost, with an alarm or without, and never on a fault."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import WAYS, Policy, Way
from pipelines.monitoring.decide.decide import Decision, Option, Situation, decide
from pipelines.monitoring.diagnose.finding import Diagnosis, Finding, Kind

POLICY = Policy(at_least=2, of_last=3, cool_down_partitions=4)
HARM: tuple[Kind, ...] = ("performance drop", "calibration drift")
NOW = Situation(since_training=9)


def diagnosis(*kinds: Kind, bad: str = "", labelled: str = "abc") -> Diagnosis:
    """Partitions are letters; every finding's evidence is its kind in capitals."""
    findings = tuple(Finding(kind=kind, evidence=kind.upper(), numbers={}) for kind in kinds)
    return Diagnosis(findings=findings, labelled=tuple(labelled), bad=tuple(bad))


def ways(**gains: float | None) -> list[Option]:
    """Every way costs 0.1; `go_on` stands for continue."""
    named = {"continue" if name == "go_on" else name: gain for name, gain in gains.items()}
    return [Option(action=way, cost=0.1, gain=named[way]) for way in WAYS if way in named]


def told(**changes: Any) -> Policy:
    return Policy.model_validate({**POLICY.model_dump(), **changes})


def test_stable() -> None:
    assert decide(POLICY, diagnosis(), [], NOW) == Decision(
        verdict="stable",
        action="none",
        reason="no shift beyond the policy's limits, 0 of the last 3 labelled partitions are off",
    )
    early = decide(POLICY, diagnosis(labelled=""), [], NOW)
    assert early.reason == "no shift beyond the policy's limits, no labels yet"


@pytest.mark.parametrize(("waiting", "told"), [("d", "d"), ("de", "2 partitions since d")])
def test_a_decision_says_which_labels_it_waits_for(waiting: str, told: str) -> None:
    for labelled, before in (("abc", "0 of the last 3 labelled partitions are off"), ("", "no labels yet")):
        late = diagnosis(labelled=labelled).model_copy(update={"waiting": tuple(waiting)})
        reason = decide(POLICY, late, [], NOW).reason
        assert reason == f"no shift beyond the policy's limits, {before}, labels of {told} are still on their way"


@pytest.mark.parametrize("kind", ["prediction drift", "covariate shift", "label shift", "label schema change"])
def test_a_shift_that_does_no_harm_is_an_alert(kind: Kind) -> None:
    decision = decide(POLICY, diagnosis(kind), [], NOW)
    assert decision == Decision(
        verdict=kind, action="alert", reason=f"{kind.upper()}, 0 of the last 3 labelled partitions are off"
    )


@pytest.mark.parametrize("kind", HARM)
def test_an_alarm_asks_for_a_retraining_whose_gain_is_not_known(kind: Kind) -> None:
    decision = decide(POLICY, diagnosis(kind, "covariate shift", bad="bc"), ways(retrain=None, recalibrate=0), NOW)
    assert (decision.verdict, decision.action) == (kind, "retrain")
    assert decision.reason == f"{kind.upper()}, 2 of the last 3 labelled partitions are off"
    other = decide(POLICY, diagnosis(kind, bad="bc"), ways(retrain=None, recalibrate=1), NOW)
    assert other.action == "recalibrate"


def test_an_alarm_takes_the_best_way() -> None:
    found = decide(
        POLICY, diagnosis("performance drop", bad="bc"), ways(retrain=0.2, roll_back=0.5, fall_back=0.01), NOW
    )
    assert found.action == "roll_back" and found.verdict == "performance drop"
    assert found.reason.endswith("the version before is expected to gain 0.5 over 8 partitions and costs 0.1")
    assert {one.action: one.why_not for one in found.options} == {
        "retrain": "roll_back is expected to gain more",
        "roll_back": "",
        "fall_back": "expected to gain 0.01, and costs 0.1",
    }


def test_an_alarm_that_nothing_would_help_is_told() -> None:
    found = decide(POLICY, diagnosis("performance drop", bad="bc"), ways(retrain=0.05, recalibrate=-0.2), NOW)
    assert found.action == "alert" and found.reason.endswith("nothing is expected to gain more than it costs")


def test_age_alone_is_staleness() -> None:
    found = decide(POLICY, diagnosis(), ways(retrain=0.3, recalibrate=0.9), NOW)
    assert (found.verdict, found.action) == ("staleness", "retrain")
    assert found.options[0].why_not == "there is no alarm"
    assert decide(POLICY, diagnosis("feature change"), ways(retrain=0.3), NOW).verdict == "feature change"
    assert decide(POLICY, diagnosis(), ways(retrain=0.09), NOW).action == "none"


def test_the_window_is_handed_on() -> None:
    option = Option(action="retrain", cost=0.1, gain=0.4, window_from="2024-01-05")
    assert decide(POLICY, diagnosis("concept drift"), [option], NOW).window_from == "2024-01-05"


def test_one_bad_partition_is_no_alarm() -> None:
    found = decide(POLICY, diagnosis("calibration drift", bad="c"), ways(recalibrate=0.5), NOW)
    assert found.action == "alert"
    assert found.reason == ("CALIBRATION DRIFT, 1 of the last 3 labelled partitions is off, acting takes 2 of 3")
    recovered = decide(POLICY, diagnosis("label shift", bad="ab"), ways(recalibrate=0.5), NOW)
    assert recovered.action == "alert"


@pytest.mark.parametrize(("since", "is_asked"), [(1, False), (3, False), (4, True), (None, True)])
def test_a_request_cools_down(since: int | None, is_asked: bool) -> None:
    at = Situation(since_request=since, since_training=9)
    for alarm in (diagnosis("performance drop", bad="abc"), diagnosis()):
        found = decide(POLICY, alarm, ways(retrain=1), at)
        assert (found.action == "retrain") is is_asked
        assert ("cooling down" in found.reason) is not is_asked
    warm = decide(told(cool_down_partitions=0), diagnosis(), ways(retrain=1), at)
    assert warm.action == "retrain"


def test_while_a_training_runs() -> None:
    at = Situation(since_training=9, is_training=True)
    alarm = diagnosis("performance drop", bad="abc")
    assert decide(told(while_training="one"), alarm, ways(retrain=1), at).action == "retrain"
    waits = decide(told(while_training="none"), alarm, ways(retrain=1), at)
    assert waits.action == "alert" and waits.reason.endswith("but a training is running")
    assert decide(told(while_training="none"), alarm, ways(roll_back=1), at).action == "roll_back"
    assert decide(told(while_training="none", updates="scheduled"), alarm, [], at).action == "alert"


def test_a_champion_is_not_continued_for_ever() -> None:
    for continued, action in ((0, "continue"), (2, "continue"), (3, "retrain")):
        at = Situation(since_training=9, continued=continued)
        assert decide(POLICY, diagnosis(), ways(go_on=0.5, retrain=0.4), at).action == action
    often = Situation(since_training=9, continued=3)
    assert decide(told(scratch_every=9), diagnosis(), ways(go_on=0.5, retrain=0.4), often).action == "continue"


@pytest.mark.parametrize("updates", ["manual", "scheduled", "scheduled_stateful", "continual"])
def test_broken_data_is_quarantined_and_never_trained_from(updates: str) -> None:
    broken = diagnosis("data fault", "performance drop", bad="abc")
    found = decide(told(updates=updates), broken, ways(retrain=9), NOW)
    assert (found.verdict, found.action) == ("data fault", "quarantine")
    assert found.reason.endswith("mend the data before anything learns from it")
    assert decide(told(updates=updates, quarantine=False), broken, ways(retrain=9), NOW).action == "alert"


def test_manual_updates_only_alert() -> None:
    found = decide(told(updates="manual"), diagnosis("performance drop", bad="abc"), ways(retrain=9), NOW)
    assert found.action == "alert" and found.options[0].why_not == "updates are manual"
    assert decide(told(updates="manual"), diagnosis(), ways(retrain=9), NOW).action == "none"


def test_a_schedule_asks_by_the_calendar_alone() -> None:
    policy = told(updates="scheduled", every_partitions=3)
    asked = [decide(policy, diagnosis(), [], Situation(since_training=age)).action for age in range(5)]
    assert asked == ["none", "none", "none", "retrain", "retrain"]
    assert decide(policy, diagnosis("performance drop", bad="abc"), [], Situation(since_training=1)).action == "alert"


def test_a_stateful_schedule_starts_from_scratch_now_and_then() -> None:
    policy = told(updates="scheduled_stateful", every_partitions=3, scratch_every=2)
    asked = [decide(policy, diagnosis(), [], Situation(since_training=3, continued=n)).action for n in range(3)]
    assert asked == ["continue", "retrain", "retrain"]


gains = st.none() | st.floats(-1, 1)


@given(
    found=st.fixed_dictionaries(dict.fromkeys(WAYS, gains)),
    kinds=st.lists(st.sampled_from(get_args(Kind)), unique=True),
    bad=st.sampled_from(["", "a", "c", "ab", "ac", "bc", "abc"]),
    since=st.none() | st.integers(1, 9),
    continued=st.integers(0, 5),
    is_training=st.booleans(),
)
def test_every_case_keeps_the_rules(
    found: dict[Way, float | None], kinds: list[Kind], bad: str, since: int | None, continued: int, is_training: bool
) -> None:
    options = [Option(action=way, cost=POLICY.costs[way], gain=gain) for way, gain in found.items()]
    at = Situation(since_request=since, since_training=9, continued=continued, is_training=is_training)
    for updates, while_training in itertools.product(("manual", "scheduled", "continual"), ("none", "one")):
        policy = told(updates=updates, while_training=while_training)
        decision = decide(policy, diagnosis(*kinds, bad=bad), options, at)
        alarm = len(bad) >= 2 and bad.endswith("c")
        assert "\n" not in decision.reason
        assert (decision.action == "quarantine") is ("data fault" in kinds)
        if decision.action.trains and updates == "continual":
            assert since is None or since >= 4
            assert not (is_training and while_training == "none")
        if updates == "continual" and decision.action in WAYS:
            (taken,) = [one for one in decision.options if not one.why_not]
            assert alarm or not decision.action.needs_alarm
            assert taken.action == decision.action
            if taken.gain is None:
                assert alarm and decision.action == "retrain"
            else:
                assert taken.gain > taken.cost
        if updates == "continual" and decision.action not in WAYS:
            assert all(one.why_not for one in decision.options)
        if updates == "manual":
            assert decision.action in ("none", "alert", "quarantine")
