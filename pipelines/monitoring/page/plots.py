"""Pictures of a monitoring page: a series with its change, estimates beside what came, what carries a shift, bins."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import dropwhile
from typing import Any

import numpy as np
from markupsafe import Markup

from pipelines.html.plots import BAD, FAINT, FIRST, INK, SECOND, half, shortened, svg, wide
from pipelines.monitoring.explain.change_point import ChangePoint

TICKS = 9
DASHED = (0, (4, 3))
Axes = Any


def timeline(
    name: str,
    title: str,
    keys: Sequence[str],
    values: Mapping[str, float | None],
    change: ChangePoint | None,
    unlabelled: Sequence[str],
) -> Markup | None:
    """A number by partition, its change, and in grey the partitions without labels yet. None of no values."""
    known = {key: value for key, value in values.items() if value is not None and np.isfinite(value)}
    keys = _from_first(keys, known)
    at = {key: place for place, key in enumerate(keys)}
    shown = [(at[key], value) for key, value in known.items() if key in at]
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        _shade(axes, [at[key] for key in unlabelled if key in at])
        x, y = (np.array(part, dtype=float) for part in zip(*shown, strict=True))
        axes.plot(x, y, "o-", color=FIRST, markersize=4, linewidth=1.2)
        if change is not None and change.since in at:
            start = at[change.since]
            axes.axvspan(at[change.first] - 0.5, at[change.last] + 0.5, color=SECOND, alpha=0.12, linewidth=0)
            axes.axvline(start - 0.5, color=SECOND, linewidth=1.4, linestyle=DASHED)
            axes.plot([x[0], start - 1], [change.before] * 2, color=SECOND, linewidth=1.2)
            level = change.before if change.shape == "gradual" else change.after
            axes.plot([start, x[-1]], [level, change.after], color=SECOND, linewidth=1.2)
            side = 1 if start < 0.7 * len(keys) else -1
            axes.annotate(
                f"since {change.since}",
                (start - 0.5, 1),
                xycoords=("data", "axes fraction"),
                xytext=(4 * side, -2),
                textcoords="offset points",
                color=SECOND,
                va="top",
                ha="left" if side > 0 else "right",
            )
        _partitions(axes, keys)

    return svg(name, title, draw, wide(2.9))


def estimates(
    name: str,
    title: str,
    keys: Sequence[str],
    estimated: Mapping[str, tuple[float, float, float]],
    realised: Mapping[str, float],
    unlabelled: Sequence[str],
) -> Markup | None:
    """Estimated metrics with their intervals (value, low, high), hollow, and realised ones, filled, by partition."""
    keys = _from_first(keys, {*estimated, *realised})
    at = {key: place for place, key in enumerate(keys)}
    guessed = {at[key]: interval for key, interval in estimated.items() if key in at}
    came = {at[key]: value for key, value in realised.items() if key in at}
    if not guessed and not came:
        return None

    def draw(axes: Axes) -> None:
        _shade(axes, [at[key] for key in unlabelled if key in at])
        if guessed:
            x = np.array(list(guessed), dtype=float)
            value, low, high = (np.array(part) for part in zip(*guessed.values(), strict=True))
            axes.errorbar(
                x,
                value,
                yerr=[np.maximum(value - low, 0), np.maximum(high - value, 0)],
                fmt="o",
                color=SECOND,
                markerfacecolor="none",
                markersize=5,
                elinewidth=1,
                capsize=2,
                label="estimated, before labels",
            )
        if came:
            axes.plot(list(came), list(came.values()), "o", color=FIRST, markersize=5, label="realised, by labels")
        axes.legend(frameon=False, fontsize=9, loc="best")
        _partitions(axes, keys)

    return svg(name, title, draw, wide(2.9))


def carried(name: str, title: str, rows: Sequence[tuple[str, float]], label: str) -> Markup | None:
    """Bars to either side of nothing, the first on top."""
    if not rows:
        return None

    def draw(axes: Axes) -> None:
        values = np.array([value for _, value in rows], dtype=float)
        axes.barh(range(len(rows)), values, color=[FIRST if value > 0 else SECOND for value in values], height=0.62)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [shortened(word) for word, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set(xlabel=label)
        axes.grid(visible=False, axis="y")

    return svg(name, title, draw, wide(1.0 + 0.24 * len(rows)))


def bins(name: str, title: str, labels: Sequence[str], sides: Mapping[str, Sequence[float]]) -> Markup | None:
    """Shares of several sides in each bin, side by side; the last side stands out."""
    if not labels or not sides:
        return None

    def draw(axes: Axes) -> None:
        width, colours = 0.8 / len(sides), [FAINT, FIRST, BAD]
        for place, (side, shares) in enumerate(sides.items()):
            x = np.arange(len(labels)) + (place - (len(sides) - 1) / 2) * width
            axes.bar(x, 100 * np.asarray(shares), width, color=colours[place % len(colours)], label=side)
        axes.set_xticks(
            range(len(labels)), [shortened(label)[:18] for label in labels], rotation=40, ha="right", fontsize=8
        )
        axes.grid(visible=False, axis="x")
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(sides), borderpad=0)
        axes.set(ylabel="% of the rows")

    return svg(name, title, draw, half(2.9))


def _from_first(keys: Sequence[str], shown: Container[str]) -> list[str]:
    """Partitions from the first of which something is shown on: of those that were only learnt from nothing may be."""
    return list(dropwhile(lambda key: key not in shown, keys))


def _shade(axes: Axes, places: Sequence[int]) -> None:
    if places:
        axes.axvspan(min(places) - 0.5, max(places) + 0.5, color=FAINT, alpha=0.35, linewidth=0)
        axes.annotate(
            "no labels yet",
            (max(places) + 0.4, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
        )


def _partitions(axes: Axes, keys: Sequence[str]) -> None:
    places = np.unique(np.linspace(0, len(keys) - 1, min(TICKS, len(keys))).round().astype(int)).tolist()
    axes.set_xticks(places, [keys[place] for place in places], rotation=30, ha="right", fontsize=8)
    axes.set_xlim(-0.7, len(keys) - 0.3)
    axes.margins(y=0.15)
    axes.tick_params(axis="y", labelright=True)  # a narrow screen shows the right end first
