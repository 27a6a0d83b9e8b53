from __future__ import annotations

import numpy as np
import pytest

from pipelines.metrics.effects import Effect, paired
from pipelines.release.judge import PROMOTING, Judgement, judge

MARGIN, ALPHA, LOOKS, ROWS = 0.002, 0.05, 8, 800


def effects(mean: float, seed: int, looks: int = LOOKS) -> list[Effect]:
    """At each look, of differences with this mean and a standard deviation of 0.02."""
    differences = np.random.default_rng(seed).normal(mean, 0.02, looks * ROWS)
    ends = ROWS * np.arange(1, looks + 1)
    return [paired(differences[:end], np.zeros(end), np.arange(end)) for end in ends]


def decided(at_each_look: list[Effect]) -> Judgement:
    judgements = judge(at_each_look, margin=MARGIN, alpha=ALPHA, looks=len(at_each_look))
    acted = (judgement for judgement in judgements if judgement.step in ("promote", "roll back"))
    return next(acted, judgements[-1])


def test_a_challenger_that_is_as_good_is_promoted_before_the_last_look() -> None:
    judgement = decided(effects(0.0, 1))
    assert judgement.step == "promote" and judgement.effect.rows < LOOKS * ROWS
    assert judgement.z >= judgement.bound and judgement.reason.startswith("shown not to be worse: effect ")


def test_one_that_harms_is_rolled_back_at_once() -> None:
    judgement = decided(effects(0.02, 2))
    assert judgement.step == "roll back" and judgement.effect.rows <= 2 * ROWS
    assert judgement.lower > MARGIN and "shown to be worse" in judgement.reason


def test_one_at_the_margin_is_neither_promoted_nor_rolled_back_but_in_five_percent() -> None:
    steps = [decided(effects(MARGIN, seed)).step for seed in range(150)]
    assert steps.count("promote") + steps.count("roll back") <= 0.05 * 150 + 3 * (150 * 0.05 * 0.95) ** 0.5
    assert set(steps) <= {"promote", "roll back", "expire"} and steps.count("expire") > 125


def test_where_only_harm_is_asked_for_nothing_is_promoted_and_no_look_is_the_last() -> None:
    good = judge(effects(-0.02, 1), margin=MARGIN, alpha=ALPHA, looks=None)
    assert {judgement.step for judgement in good} == {"hold"} and good[0].bound == float("inf")
    assert "z" not in good[0].reason
    harmful = effects(0.02, 2)
    asked = judge(harmful, margin=MARGIN, alpha=ALPHA, looks=None)
    within = judge(harmful, margin=MARGIN, alpha=ALPHA, looks=LOOKS)
    assert asked[-1].step == "roll back"
    assert [judgement.lower for judgement in asked] == [judgement.lower for judgement in within]


def test_sequences_share_the_error_of_roll_backs_and_leave_promotions_alone() -> None:
    at_each_look = effects(0.001, 3)
    alone, third = (judge(at_each_look, margin=MARGIN, alpha=ALPHA, looks=LOOKS, sequences=count) for count in (1, 3))
    for one_of_one, one_of_three in zip(alone, third, strict=True):
        assert one_of_three.lower < one_of_one.lower < one_of_one.effect.value < one_of_one.upper < one_of_three.upper
        assert one_of_three.bound == one_of_one.bound
    stricter = judge(at_each_look, margin=MARGIN, alpha=ALPHA / 3, looks=LOOKS)
    assert [judgement.lower for judgement in third] == pytest.approx([judgement.lower for judgement in stricter])


def test_each_kind_of_error_stays_within_its_part_of_alpha() -> None:
    steps = [decided(effects(MARGIN, seed)).step for seed in range(300)]
    for step, part in (("promote", PROMOTING), ("roll back", 1 - PROMOTING)):
        allowed = ALPHA * part
        assert steps.count(step) <= 300 * allowed + 3 * (300 * allowed * (1 - allowed)) ** 0.5


def test_the_last_look_expires_and_those_before_hold() -> None:
    judgements = judge(effects(MARGIN, 7), margin=MARGIN, alpha=ALPHA, looks=LOOKS)
    assert [judgement.step for judgement in judgements] == ["hold"] * (LOOKS - 1) + ["expire"]


def test_what_was_said_at_a_look_stays() -> None:
    at_each_look = effects(0.001, 3)
    whole = judge(at_each_look, margin=MARGIN, alpha=ALPHA, looks=LOOKS)
    assert judge(at_each_look[:3], margin=MARGIN, alpha=ALPHA, looks=LOOKS) == whole[:3]


@pytest.mark.parametrize("looks", [1, LOOKS])
def test_a_look_without_an_estimate_waits_and_at_last_expires(looks: int) -> None:
    nothing = Effect(float("nan"), float("inf"), 0, 0)
    (judgement,) = judge([nothing], margin=MARGIN, alpha=ALPHA, looks=looks)
    assert judgement.step == ("expire" if looks == 1 else "hold")
    with_more = judge([nothing, *effects(0.0, 1)[:3]], margin=MARGIN, alpha=ALPHA, looks=LOOKS)
    assert [judgement.effect.rows for judgement in with_more] == [0, ROWS, 2 * ROWS, 3 * ROWS]


def test_a_release_has_no_more_looks_than_were_planned() -> None:
    with pytest.raises(ValueError, match="9 effects for 8 looks"):
        judge(effects(0.0, 1, 9), margin=MARGIN, alpha=ALPHA, looks=8)
