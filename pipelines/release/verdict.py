"""What is to be done about a release, by what was seen of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipelines.handoffs.releases import Verdict

if TYPE_CHECKING:
    from pipelines.release.evidence import Comparison
    from pipelines.release.ladder import Rollout


class Judged(NamedTuple):
    """A verdict, and why, in a sentence."""

    verdict: Verdict
    reason: str


def judged(rollout: Rollout, comparison: Comparison) -> Judged:
    """What the evidence asks for.

    Harm and a broken assignment take the challenger back wherever it stands, held or not.
    """
    if comparison.is_broken:
        return Judged("roll back", comparison.is_broken)
    if comparison.step == "roll back":
        return Judged("roll back", comparison.reason)
    if rollout.is_held:
        return Judged("hold", f"held by hand: {rollout.reason}")
    if comparison.step == "promote" and rollout.next_rung.kind != "full":
        return Judged("go on", comparison.reason)
    return Judged(comparison.step, comparison.reason)
