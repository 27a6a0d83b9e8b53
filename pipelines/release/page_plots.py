"""The picture of a release page: what is known of the effect, look by look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from pipelines.html.plots import BAD, FIRST, INK, svg, wide

if TYPE_CHECKING:
    from pipelines.release.evidence import EffectLook

TICKS = 9
DASHED = (0, (4, 3))
Axes = Any


def effects(name: str, looks: Sequence[EffectLook], margin: float, label: str) -> Markup | None:
    """The effect of all partitions up to each look, in its confidence sequence, and the margin. None of no labels."""
    shown = [(place, look) for place, look in enumerate(looks) if look.lower is not None]
    if not shown:
        return None
    places = np.array([place for place, _ in shown], float)
    value, low, high = (
        np.array([getattr(look, part) for _, look in shown], float) for part in ("effect", "lower", "upper")
    )

    def draw(axes: Axes) -> None:
        axes.fill_between(places, low, high, color=FIRST, alpha=0.15, linewidth=0)
        axes.errorbar(
            places,
            value,
            yerr=[value - low, high - value],
            fmt="o-",
            color=FIRST,
            markersize=5,
            elinewidth=1,
            capsize=2,
            label="effect so far, and where it is sure to be",
        )
        axes.axhline(0, color=INK, linewidth=0.8)
        words = f"margin ({margin:g}): above it is harm" if margin else "above 0 is harm"
        axes.axhline(margin, color=BAD, linewidth=1.4, linestyle=DASHED, label=words)
        ticks = np.unique(np.linspace(0, len(looks) - 1, min(TICKS, len(looks))).round().astype(int)).tolist()
        axes.set_xticks(ticks, [looks[place].partition for place in ticks], rotation=30, ha="right", fontsize=8)
        axes.set_xlim(-0.7, len(looks) - 0.3)
        axes.margins(y=0.15)
        axes.legend(frameon=False, fontsize=9, loc="best")
        axes.set(ylabel=label)

    return svg(name, "The challenger's loss less the champion's, of all labelled partitions so far", draw, wide(3.2))
