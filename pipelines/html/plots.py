"""Pictures for pages: SVG that stands in the page itself, in the page's own colours, light or dark.

Matplotlib knows no stylesheet: each colour is drawn as a number of its own and becomes a CSS variable afterwards.
Equal data give equal bytes: no date, no random ids, no state of pyplot's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from io import StringIO
from typing import Any, Literal, NamedTuple, TypeGuard

import numpy as np
from markupsafe import Markup

from pipelines.documents.evaluation import CalibrationBin
from pipelines.documents.measures import Interval

INK, FAINT, FIRST, SECOND, GOOD, BAD = "#101112", "#202122", "#303132", "#404142", "#505152", "#606162"
VARIABLES = {INK: "--ink", FAINT: "--faint", FIRST: "--first", SECOND: "--second", GOOD: "--good", BAD: "--bad"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "text.parse_math": False,
}
Axes = Any


class Size(NamedTuple):
    """Inches, of which 12 are the width of a page; `name`: how the stylesheet lays such pictures out."""

    name: Literal["wide", "half", "square"]
    width: float
    height: float


SQUARE = Size("square", 3.7, 3.1)
"""Three of them fit side by side."""


def wide(height: float) -> Size:
    """The whole width of a page."""
    return Size("wide", 12, height)


def half(height: float) -> Size:
    """Two fit side by side."""
    return Size("half", 5.9, height)


def curve(
    name: str,
    title: str,
    points: tuple[Sequence[float | None], Sequence[float | None]],
    labels: tuple[str, str],
    *,
    marks: Sequence[tuple[float, str]] = (),
    is_share: bool = False,
    has_diagonal: bool = False,
) -> Markup | None:
    """A line through points; None where there are not two. `marks`: named places on the x axis."""
    x, y = (np.array([np.nan if value is None else value for value in axis], dtype=float) for axis in points)
    if len(x) != len(y) or (np.isfinite(x) & np.isfinite(y)).sum() < 2:
        return None

    def draw(axes: Axes) -> None:
        if has_diagonal:
            axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(x, y, color=FIRST)
        for place, word in marks:
            axes.axvline(place, color=SECOND, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.annotate(
                word,
                (place, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -2),
                textcoords="offset points",
                color=SECOND,
                va="top",
            )
        if is_share:
            axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.set(xlabel=labels[0], ylabel=labels[1])

    return svg(name, title, draw, SQUARE)


def reliability(name: str, bins: Sequence[CalibrationBin], labels: tuple[str, str], is_share: bool) -> Markup | None:
    """Mean score against what happened, with intervals; on the diagonal scores mean what they say."""
    shown = [
        each_bin for each_bin in bins if each_bin.get("mean_score") is not None and each_bin.get("rate") is not None
    ]
    if not shown:
        return None
    x, y = (np.array([each_bin[key] for each_bin in shown], dtype=float) for key in ("mean_score", "rate"))
    low, high = (
        np.array(
            [each_bin[key] if each_bin.get(key) is not None else each_bin["rate"] for each_bin in shown], dtype=float
        )
        for key in ("low", "high")
    )

    def draw(axes: Axes) -> None:
        ends = [0.0, 1.0] if is_share else [min(x.min(), low.min()), max(x.max(), high.max())]
        axes.plot(ends, ends, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axes.errorbar(
            x,
            y,
            yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)],
            fmt="o-",
            color=FIRST,
            markersize=4,
            elinewidth=1,
            capsize=2,
            linewidth=1,
        )
        if is_share:
            top = min(1.0, 1.08 * max(x.max(), high.max(), 0.05))
            axes.set(xlim=(0, top), ylim=(0, top))
        axes.set(xlabel=labels[0], ylabel=labels[1])

    return svg(name, "Reliability diagram", draw, SQUARE)


def forest(name: str, title: str, rows: Sequence[tuple[str, Interval | None]]) -> Markup | None:
    """One interval a line, with zero marked: green above it, red below, plain across; each on a scale of its own.

    Gains of several metrics have several units, so each is drawn in units of the distance from zero to its far end.
    """
    shown = [(word, *_ends(interval)) for word, interval in rows if _is_whole(interval)]
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        for place, (_, value, low, high) in enumerate(reversed(shown)):
            far = max(abs(value), abs(low), abs(high)) or 1.0
            colour = GOOD if low > 0 else BAD if high < 0 else INK
            axes.plot([low / far, high / far], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([value / far], [place], "s", color=colour, markersize=5)
        axes.axvline(0, color=FAINT, linewidth=1.2)
        axes.set(xlim=(-1.08, 1.08), ylim=(-0.6, len(shown) - 0.4))
        axes.set_xticks([-0.6, 0, 0.6], ["worse", "0", "better"])
        axes.tick_params(axis="x", length=0)
        axes.set_yticks(range(len(shown)), [shortened(word) for word, *_ in reversed(shown)])
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)

    return svg(name, title, draw, wide(0.9 + 0.26 * len(shown)))


def bars(
    name: str, title: str, rows: Sequence[tuple[str, float]], label: str, limit: float | None = None
) -> Markup | None:
    """Horizontal bars, the first on top; `limit` is marked."""
    shown = [(word, value) for word, value in rows if value is not None and np.isfinite(value)]
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        axes.barh(range(len(shown)), [value for _, value in shown], color=FIRST, height=0.62)
        if limit is not None:
            axes.axvline(limit, color=SECOND, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(shown)), [shortened(word) for word, _ in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set(xlabel=label)
        axes.grid(visible=False, axis="y")

    return svg(name, title, draw, wide(1.0 + 0.24 * len(shown)))


def svg(name: str, title: str, draw: Callable[[Axes], None], size: Size) -> Markup:
    """What `draw` draws, below its title: for a figure. Ids of the SVG element begin with `name`.

    The title is text of the page, which keeps its size where the picture is made smaller or is scrolled.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(size.width, size.height), dpi=72)
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        # `layout="constrained"` does the same, but draws all of it once more before that.
        ConstrainedLayoutEngine().execute(figure)
        text = StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format")))
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :].strip()
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn, flags=re.DOTALL)
    # Ids are those of the whole page: each picture has its own.
    drawn = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", drawn)
    for colour, variable in VARIABLES.items():
        drawn = drawn.replace(colour, f"var({variable})")
    # Matplotlib has escaped all text.
    drawn = drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    caption = f"<figcaption>{escape(title)}</figcaption>"
    return Markup(f'{caption}<div class="drawn {size.name}" tabindex="0">{drawn}</div>')  # noqa: S704


def shortened(text: str) -> str:
    """A name that fits beside a plot."""
    return text if len(text) <= 48 else f"{text[:45]}..."


def _is_whole(interval: Interval | None) -> TypeGuard[Interval]:
    return interval is not None and all(
        interval.get(end) is not None and np.isfinite(interval[end] or 0) for end in ("value", "low", "high")
    )


def _ends(interval: Interval) -> tuple[float, float, float]:
    value, low, high = (float(interval[end] or 0) for end in ("value", "low", "high"))
    return value, low, high
