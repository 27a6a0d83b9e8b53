"""Labels that depend on the score, scores that concentrate, and that only both together are a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import Bootstrap, Policy
from pipelines.monitoring.diagnose.feedback import coverage, evenness, feedback, trend
from pipelines.monitoring.diagnose.shifts import LabelEvidence, shifts

RULE = Bootstrap(resamples=100)
FALLING = {f"{week:02}": 1 - 0.04 * week for week in range(12)}
STEADY = {f"{week:02}": 0.9 + 0.02 * (week % 2) for week in range(12)}


def rows(loop: float, count: int = 2_000) -> tuple[Any, ...]:
    """Labels for .9 of the rows; where `loop` is 1 for those with a score of one half or more alone."""
    random = np.random.default_rng(0)
    scores = random.random(count)
    chance = np.where(scores >= 0.5, 0.9, 0.9 * (1 - loop))
    return scores, None, random.random(count) < chance, np.arange(count) * 7 // count, RULE


def test_labels_that_depend_on_the_score_are_seen() -> None:
    free, bound = coverage(*rows(0.0)), coverage(*rows(1.0))
    assert free is not None and free.gap["value"] < 0.1
    assert bound is not None and bound.gap["low"] > 0.8
    assert [round(group.coverage, 1) for group in bound.groups] == [0.0, 0.0, pytest.approx(0.5, abs=0.11), 0.9, 0.9]
    assert bound.groups[0].of.startswith("scores 0.0")


def test_of_several_classes_by_the_one_decided_for() -> None:
    scores, _, is_labelled, blocks, rule = rows(1.0)
    decided = ["hot" if score >= 0.5 else "cold" for score in scores]
    found = coverage(scores, decided, is_labelled, blocks, rule)
    assert found is not None and [group.of for group in found.groups] == ["decided for cold", "decided for hot"]
    assert found.gap["value"] == pytest.approx(0.9, abs=0.03)


def test_too_few_rows_and_one_score_say_nothing() -> None:
    scores, _, is_labelled, blocks, rule = rows(1.0, 40)
    assert coverage(scores, None, is_labelled, blocks, rule) is None
    assert coverage(np.full(40, 0.3), None, is_labelled, blocks, rule) is None
    assert "too few" in feedback(None, None, []).note


def test_a_trend_takes_eight_partitions_and_bears_odd_ones() -> None:
    assert trend({str(key): 1.0 for key in range(7)}, 0.95) is None
    odd = {**FALLING, "03": 0.1, "07": 2.0}
    for series in (FALLING, odd):
        found = trend(series, 0.95)
        assert found is not None and found.fall["value"] == pytest.approx(0.44, abs=0.02)
    steady = trend(STEADY, 0.95)
    assert steady is not None and steady.fall["low"] <= 0 <= steady.fall["high"]


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8))
def test_evenness_is_whole_for_the_reference_itself_and_never_more_than_a_flat_one(counts: list[int]) -> None:
    found = evenness(counts, counts)
    assert found is None or found == pytest.approx(1)
    flat = evenness(counts, [1] * len(counts))
    assert flat is None or 0 <= flat <= 1 + 1e-9


@pytest.mark.parametrize(
    ("loop", "series", "usual", "is_found"),
    [
        (1.0, FALLING, [0.9], True),
        (1.0, FALLING, [], True),
        (0.0, FALLING, [0.9], False),
        (1.0, STEADY, [1.0], False),
        (1.0, FALLING, [0.5], False),  # training had weeks as uneven
    ],
)
def test_a_loop_takes_both(loop: float, series: dict[str, float], usual: list[float], is_found: bool) -> None:
    told = feedback(coverage(*rows(loop)), trend(series, 0.95), usual)
    assert ("selected sample" in told.note) == (loop == 1.0)
    findings = list(shifts(Policy(), LabelEvidence(partition="p", feedback=told)))
    assert [one.kind for one in findings] == ["feedback loop"] * is_found
    for strict in ({"max_coverage_gap": 0.95}, {"max_concentration": 0.9}):
        assert not list(shifts(Policy(**strict), LabelEvidence(partition="p", feedback=told)))
