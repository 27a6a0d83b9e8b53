from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import Release
from pipelines.release.ladder import Rollout
from pipelines.release.verdict import judged

SETTINGS = Release.model_validate({"path": ["shadow", "canary", "full"], "canary": {"shares": [0.1, 0.5]}})


def at(rung: int) -> Rollout:
    """A release on a rung: shadow, the canary's two shares."""
    return Rollout(
        name="v3-v4",
        champion="3",
        champion_run="a",
        challenger="4",
        challenger_run="b",
        settings=SETTINGS,
        began="2023-12-31",
        started=datetime(2024, 1, 1, tzinfo=UTC),
        reason="",
        rung=rung,
    )


def seen(step: str, is_broken: str | None = None) -> Any:
    return SimpleNamespace(step=step, reason=f"seen: {step}", is_broken=is_broken)


@pytest.mark.parametrize(
    ("rung", "step", "verdict"),
    [
        (0, "promote", "go on"),
        (1, "promote", "go on"),
        (2, "promote", "promote"),
        *((rung, step, step) for rung in range(3) for step in ("hold", "expire", "roll back")),
    ],
)
def test_what_the_evidence_asks_for(rung: int, step: str, verdict: str) -> None:
    assert judged(at(rung), seen(step)) == (verdict, f"seen: {step}")


def test_a_held_release_stays_but_harm_is_taken_back() -> None:
    held = replace(at(0), is_held=True, reason="ask the airline")
    assert judged(held, seen("promote")) == ("hold", "held by hand: ask the airline")
    assert judged(held, seen("expire")).verdict == "hold"
    assert judged(held, seen("roll back")).verdict == "roll back"


@given(st.integers(0, 2), st.sampled_from(["promote", "hold", "expire", "roll back"]), st.booleans())
def test_a_broken_assignment_ends_it_by_name(rung: int, step: str, is_held: bool) -> None:
    rollout = replace(at(rung), is_held=is_held)
    assert judged(rollout, seen(step, is_broken="9 rows are missing")) == ("roll back", "9 rows are missing")
