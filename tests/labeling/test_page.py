from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pipelines.labeling.combine import VoterReport
from pipelines.labeling.page import Summary, page, warnings
from pipelines.problem import Problem

SUMMARY = Summary(
    events=1000,
    voted=900,
    labelled=800,
    positive=200,
    accuracy=0.91,
    checked=500,
    first_partition="2024-01-01",
    last_partition="2024-01-08",
)


def record(**changes: Any) -> VoterReport:
    usual = VoterReport(
        voter="full",
        positive=40,
        negative=60,
        coverage=0.1,
        overlap=0.05,
        conflict=0.01,
        accuracy_estimated=0.8,
        accuracy=0.82,
        checked=70,
    )
    return replace(usual, **changes)


def test_the_page_has_every_function_and_escapes_it(toy: Callable[..., Problem]) -> None:
    functions = {"full": {"sql": "litres > 3 AND shelf <> '<script>'"}, "old": {"python": "kettles:old"}}
    problem = toy(**{"labels.weak": {"functions": functions}})
    html = page(problem, "2024-01-08", [record(), record(voter="old", accuracy=None, checked=0)], SUMMARY).decode()
    for part in (
        "litres &gt; 3 AND shelf &lt;&gt; &#39;&lt;script&gt;",
        "kettles:old",
        "900 of 1,000",
        "82.0 %",
        "91.0 %",
    ):
        assert part in html
    assert "<script" not in html
    assert "Worth a look" in html, "two functions are too few to be told apart"


def test_what_is_worth_a_look_is_said() -> None:
    three = [record(voter=name) for name in ("a", "b", "c")]
    assert warnings(three) == []
    lines = warnings(
        [
            record(voter="mute", positive=0, negative=0, accuracy=None, checked=0),
            record(voter="wrong", accuracy=0.3, accuracy_estimated=0.35, negative=0),
            record(voter="together", accuracy=0.6, accuracy_estimated=0.95, negative=0),
        ]
    )
    for part in ("mute never votes", "worse than a coin", "estimated at 95% and measured at 60%", "ever votes for 0"):
        assert sum(part in line for line in lines) == 1, part
