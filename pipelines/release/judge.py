"""Is a challenger to go on, to go, or to wait? Asked after each partition whose labels are in.

Two questions, each with a test of its own. *Promote*: that it is not worse than the champion by `margin` has to be
shown, within `looks` partitions: a group-sequential bound, which is what such a promise costs least with. *Roll back*:
that it is worse by more than that may be shown at any time: a confidence sequence. Neither, and it waits; at the last
look it expires, and the champion stays.

Most of the error is spent on promotions: real harm is far from the margin, and shows under a strict bound as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pipelines.metrics import sequential
from pipelines.metrics.effects import Effect

PROMOTING = 0.9  # of alpha; roll-backs get the rest
TUNED_LOOKS = 4  # the confidence sequence is narrowest at so many times the first look's variance
Step = Literal["promote", "roll back", "hold", "expire"]


class Judgement(NamedTuple):
    """What is to be done, and the numbers behind it."""

    step: Step
    effect: Effect
    """All labelled partitions together."""
    z: float
    """How far the effect is below `margin`, in standard errors."""
    bound: float
    """What z has to reach at this look."""
    lower: float
    """The effect is at least this, and was at every look, but with the error that roll-backs are allowed."""
    upper: float
    """And at most this, with the same error."""

    @property
    def reason(self) -> str:
        rows = f"{self.effect.rows:,} rows of {self.effect.units:,} units"
        numbers = f"effect {self.effect.value:+.5f} on {rows}" if self.effect.information else f"{rows} are too few"
        if math.isfinite(self.bound):
            numbers += f", z {self.z:.2f} of {self.bound:.2f}"
        match self.step:
            case "promote":
                return f"shown not to be worse: {numbers}"
            case "roll back":
                return f"shown to be worse: {numbers}, at least {self.lower:+.5f}"
            case "hold":
                return f"nothing is shown yet: {numbers}"
            case "expire":
                return f"inconclusive to the last: {numbers}"


def judge(
    effects: Sequence[Effect], *, margin: float, alpha: float, looks: int | None, sequences: int = 1
) -> list[Judgement]:
    """What each look so far said of a challenger, the oldest first; whatever comes later changes none of them.

    Args:
        effects: at each look, of all labelled partitions until then: the challenger's loss less the champion's.
        margin: by how much it may be worse; 0: it has to be better.
        alpha: chance that a challenger at the margin is promoted, or rolled back: `PROMOTING` of it is for promotions.
        looks: partitions at most; None: as many as there will be, and only whether to roll back is asked.
        sequences: how many confidence sequences the whole release begins, one after the other, of which this is one:
            the error of roll-backs is divided among them.

    Raises:
        ValueError: there are more effects than `looks`.
    """
    if looks is not None and len(effects) > looks:
        raise ValueError(f"{len(effects)} effects for {looks} looks")
    promoting, rolling_back = alpha * PROMOTING, alpha * (1 - PROMOTING) / sequences
    known = [effect for effect in effects if effect.information]
    if known:
        information = [effect.information for effect in known]
        bounds = iter(
            [math.inf] * len(known) if looks is None else sequential.upper_bounds(information, promoting, looks)
        )
        # The mixture is set by the first estimate: later ones would set it by what they were to judge.
        mixing = sequential.tuned(2 * rolling_back, TUNED_LOOKS * known[0].variance * known[0].rows ** 2)
    judgements = []
    for look, effect in enumerate(effects, 1):
        waiting: Step = "expire" if look == looks else "hold"
        if not effect.information:
            judgements.append(Judgement(waiting, effect, 0.0, math.inf, -math.inf, math.inf))
            continue
        z = (margin - effect.value) * math.sqrt(effect.information)
        reach = sequential.above(effect.variance * effect.rows**2, rolling_back, mixing) / effect.rows
        bound, lower = next(bounds), effect.value - reach
        step: Step = "roll back" if lower > margin else "promote" if z >= bound else waiting
        judgements.append(Judgement(step, effect, z, bound, lower, effect.value + reach))
    return judgements
