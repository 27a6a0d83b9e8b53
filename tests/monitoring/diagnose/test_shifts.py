"""Which numbers become findings, and which settings decide it; concept and feedback are in tests of their own."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.config import Policy
from pipelines.monitoring.diagnose.concept import Carrier, Concept, Where
from pipelines.monitoring.diagnose.label_shift import LabelShift
from pipelines.monitoring.diagnose.shifts import LabelEvidence, shifts
from tests.handed_on import example


def label_shift(value: float, low: float, high: float, why_not: str | None = None, rows: int = 900) -> LabelEvidence:
    rates = {
        "0": {"value": 1 - value, "low": 1 - high, "high": 1 - low, "usual": 0.8},
        "1": {"value": value, "low": low, "high": high, "usual": 0.2},
    }
    shift = example(LabelShift, rates=rates, rows=rows, why_not=why_not)
    return LabelEvidence(partition="2024-01-08", label_shift=shift)


def test_an_estimated_label_shift_is_told_as_an_estimate() -> None:
    (finding,) = shifts(Policy(), label_shift(0.4, 0.3, 0.5))
    assert finding.kind == "label shift" and finding.features == ()
    assert finding.evidence == (
        "estimated before labels came: rate of 1 0.40 (0.30 to 0.50) in 2024-01-08, 0.20 when it was tested"
    )
    assert finding.numbers == {"estimated_rate": 0.4, "low": 0.3, "high": 0.5, "test_rate": 0.2}


@pytest.mark.parametrize(
    ("estimated", "policy"),
    [
        (label_shift(0.25, 0.22, 0.28), {}),  # too little to matter
        (label_shift(0.4, 0.15, 0.6), {}),  # it may be as it was
        (label_shift(0.4, 0.3, 0.5, "the inputs moved otherwise"), {}),
        (label_shift(0.4, 0.3, 0.5, rows=100), {}),
        (label_shift(0.4, 0.3, 0.5), {"min_labels": 1_000}),
        (label_shift(0.4, 0.3, 0.5), {"max_label_rate_shift": 0.3}),
        (LabelEvidence(partition="2024-01-08", label_shift=None, concept=None, feedback=None), {}),
        (LabelEvidence(partition="2024-01-08"), {}),
    ],
)
def test_nothing_is_found(estimated: LabelEvidence, policy: dict[str, Any]) -> None:
    assert not list(shifts(Policy(**policy), estimated))


def test_a_class_of_several_is_named() -> None:
    rates = {
        name: {"value": value, "low": value - 0.05, "high": value + 0.05, "usual": usual}
        for name, value, usual in (("x", 0.5, 0.6), ("y", 0.1, 0.3), ("z", 0.4, 0.1))
    }
    estimated = LabelEvidence(partition="p", label_shift=example(LabelShift, rates=rates, rows=900, why_not=None))
    (finding,) = shifts(Policy(), estimated)
    assert "rate of z 0.40" in finding.evidence


@pytest.mark.parametrize(("error", "label_spread", "count"), [(-12.8, 180.0, 0), (-12.8, 90.0, 1), (-12.8, None, 1)])
def test_labels_that_came_off_by_next_to_nothing_are_no_other_concept(
    error: float, label_spread: float | None, count: int
) -> None:
    """However sure it is: births of a state and day spread by far more than that."""
    concept = example(
        Concept,
        partition="2024-01-08",
        rows=1_000,
        times_usual=9.0,
        features=(example(Carrier, feature="births_a_year_before", times_usual=9.0, gain=0.1),),
        where=example(Where, rows="births_a_year_before in (226, 388]", error=error),
    )
    found = list(shifts(Policy(), LabelEvidence(partition="2024-01-08", concept=concept), label_spread))
    assert [finding.kind for finding in found] == ["concept drift"] * count
