"""What is expected follows what was read, drawn to nothing where little was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import COSTS, Policy
from pipelines.monitoring.decide.decide import Option, Situation, decide
from pipelines.monitoring.decide.options import KEPT_READINGS, options
from pipelines.monitoring.decide.readings import Reading
from pipelines.monitoring.diagnose.finding import Diagnosis


def read(way: Any, number: int, value: float, age: int = 0, version: str = "1", **more: Any) -> Reading:
    return Reading(way=way, partition=f"2024-{number:03}", version=version, value=value, age=age, **more)


def both(age: int) -> Any:
    return {"retrain": age, "continue": age}


def of(way: str, found: tuple[Option, ...]) -> Option:
    (one,) = [one for one in found if one.action == way]
    return one


def ageing(slope: float, count: int = 12, noise: float = 0.0, version: str = "1") -> list[Reading]:
    random = np.random.default_rng(0)
    return [read("retrain", age, slope * age + noise * random.normal(), age, version) for age in range(1, count + 1)]


def test_ageing_is_learnt_from_all_versions() -> None:
    policy = Policy(prior_readings=0, horizon_partitions=8)
    found = of("retrain", options(policy, ageing(0.002, version="0"), "1", both(10), alarm=False))
    assert found.gain == pytest.approx(8 * 10 * 0.002) and found.cost == COSTS["retrain"]
    assert found.low == pytest.approx(found.gain) and found.high == pytest.approx(found.gain)


def test_the_prior_draws_to_nothing() -> None:
    gains = [
        of("retrain", options(Policy(prior_readings=prior), ageing(0.002), "1", both(10), alarm=False)).gain
        for prior in (0, 4, 100)
    ]
    assert gains[0] and gains[1] and gains[2] and gains[0] > gains[1] > gains[2] > 0
    assert gains[1] == pytest.approx(gains[0] * 12 / 16)


def test_the_horizon_counts() -> None:
    for horizon in (1, 16):
        policy = Policy(prior_readings=0, horizon_partitions=horizon)
        assert of("retrain", options(policy, ageing(0.002), "1", both(5), alarm=False)).gain == pytest.approx(
            horizon * 0.01
        )


def test_an_alarm_looks_at_what_came_beyond_age() -> None:
    calm = ageing(0.001, 10, version="0")
    fell = [read("retrain", 20 + n, 0.2, 11 + n) for n in range(2)]
    policy = Policy(prior_readings=2)
    without, told = (
        of("retrain", options(policy, [*calm, *fell], "1", both(13), alarm=alarm)) for alarm in (False, True)
    )
    assert without.gain and told.gain and told.gain > without.gain
    others = [one.model_copy(update={"version": "0"}) for one in fell]
    seen = [
        of("retrain", options(policy, [*calm, *others], "1", both(13), alarm=alarm)).gain for alarm in (False, True)
    ]
    assert seen[0] == seen[1], "what another version did is no alarm of this one"


def test_other_ways_are_judged_by_the_newest_of_this_version() -> None:
    policy = Policy(of_last=2, at_least=1, prior_readings=0, horizon_partitions=1)
    readings = [read("recalibrate", 1, 9), read("recalibrate", 2, 0.1), read("recalibrate", 3, 0.3)]
    assert of("recalibrate", options(policy, readings, "1", both(0), alarm=True)).gain == pytest.approx(0.2)
    other = of("recalibrate", options(policy, readings, "2", both(0), alarm=True))
    assert other.gain is None and "no labelled partition" in other.why_not


def test_what_cannot_be_measured_says_why() -> None:
    found = options(Policy(), [], "1", both(3), alarm=True, unmeasured={"roll_back": "there is no version before"})
    assert [one.gain for one in found] == [None] * 5
    assert of("roll_back", found).why_not == "there is no version before"


def test_a_window_is_taken_where_older_data_surely_harms() -> None:
    before = ageing(0.01)
    for low, expected in ((0.01, "2024-005"), (-0.01, None)):
        window = read("retrain", 12, 0.05, 12, low=low, high=0.2, window_from="2024-005")
        found = of("retrain", options(Policy(), [*before, window], "1", both(12), alarm=False))
        assert found.window_from == expected
        assert found.gain == of("retrain", options(Policy(), before, "1", both(12), alarm=False)).gain


def test_old_readings_are_forgotten() -> None:
    old = [read("retrain", n, 1.0, 5) for n in range(30)]
    new = [read("retrain", 100 + n, 0.0, 5) for n in range(KEPT_READINGS)]
    assert of("retrain", options(Policy(), [*old, *new], "1", both(5), alarm=False)).gain == 0


@given(
    values=st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    ages=st.lists(st.integers(0, 30), min_size=30, max_size=30),
    age=st.integers(0, 60),
    prior=st.floats(0, 10),
)
def test_gains_are_finite_and_lie_within_their_interval(
    values: list[float], ages: list[int], age: int, prior: float
) -> None:
    readings = [read(way, n, value, ages[n]) for n, value in enumerate(values) for way in ("retrain", "recalibrate")]
    for alarm in (False, True):
        for one in options(Policy(prior_readings=prior), readings, "1", both(age), alarm):
            if one.gain is not None and one.low is not None and one.high is not None:
                assert np.isfinite([one.low, one.gain, one.high]).all()
                assert one.low <= one.gain + 1e-9 and one.gain <= one.high + 1e-9


def test_a_measured_cost_is_weighed_and_says_where_it_comes_from() -> None:
    policy = Policy(prior_readings=0, costs={"retrain": "measured"})
    weighed = options(policy, ageing(0.002), "1", both(10), alarm=False, costs={"retrain": (0.1, "measured in EUR")})
    retrain = of("retrain", weighed)
    assert (retrain.cost, retrain.cost_from) == (0.1, "measured in EUR")
    decision = decide(policy, Diagnosis(findings=(), labelled=("a",), bad=()), weighed, Situation())
    assert decision.action == "retrain"
    assert decision.reason.endswith("is expected to gain 0.16 over 8 partitions and costs 0.1 (measured in EUR)")
    dear = options(policy, ageing(0.002), "1", both(10), alarm=False, costs={"retrain": (0.2, "measured in EUR")})
    (refused,) = (
        way
        for way in decide(policy, Diagnosis(findings=(), labelled=("a",), bad=()), dear, Situation()).options
        if way.action == "retrain"
    )
    assert refused.why_not == "expected to gain 0.16, and costs 0.2 (measured in EUR)"


def test_nothing_is_said_of_where_a_cost_of_the_policy_comes_from() -> None:
    weighed = options(Policy(prior_readings=0), ageing(0.002), "1", both(10), alarm=False)
    assert all("cost_from" not in way.model_dump() for way in weighed)
