"""Pictures of the Health page, as SVG that stands in the page: drawn by hand, since a page has fifty and a visit is
to cost milliseconds. Colours are classes of health.css, light or dark. Equal data give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import ceil
from typing import Literal, NamedTuple

from markupsafe import Markup

from pipelines.health.document import Point
from pipelines.html.wording import cut, figure

SPARK = (150.0, 34.0)
WIDTH = 960.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 8.0, 34.0, 40.0
PLOT_HEIGHT = 170.0
LABEL_WIDTH = 190.0
CELL_HEIGHT = 15.0
WIDEST_CELL = 60.0
LABEL_CHARACTERS = 28
KEY_WIDTH = 90.0
LEVELS = (0.5, 1.0, 1.5, 3.0)
"""Of a step over what is usual: where one colour ends and the next begins; from 1 on it is a shift."""
SHIFT = 1.0

MarkKind = Literal["promoted", "back", "failed", "asked", "started"]
SHAPES: dict[MarkKind, str] = {
    "promoted": "M0,-6 L6,5 L-6,5 Z",
    "back": "M0,6 L6,-5 L-6,-5 Z",
    "failed": "M-5,-5 L5,5 M5,-5 L-5,5",
    "asked": "M0,-6 L6,0 L0,6 L-6,0 Z",
    "started": "M-5,-5 H5 V5 H-5 Z",
}


class Mark(NamedTuple):
    """Something that happened at a partition."""

    partition: str
    kind: MarkKind
    text: str


class Scale(NamedTuple):
    """Values of a metric as heights of a picture."""

    low: float
    high: float
    top: float
    bottom: float

    def y(self, value: float) -> float:
        within = min(max(value, self.low), self.high)
        return self.bottom - (within - self.low) / (self.high - self.low) * (self.bottom - self.top)


def sparkline(points: Sequence[Point], gate: float | None, title: str, description: str) -> Markup | None:
    """The metric of the newest partitions, oldest first, with the gate's level; None where nothing is known."""
    values = [value for point in points for value in (point.realised, point.estimated) if value is not None]
    if not values:
        return None
    width, height = SPARK
    scale = _scale([*values, *([] if gate is None else [gate])], 4.0, height - 4.0)
    step = (width - 8.0) / max(len(points) - 1, 1)
    xs = {point.partition: 4.0 + place * step for place, point in enumerate(points)}
    parts = [_gate_line(gate, scale, 0.0, width)] if gate is not None else []
    parts += _measured(points, xs, scale)
    # Of what was measured the newest alone has a dot; of what is estimated each has one.
    newest = max((place for place, point in enumerate(points) if point.realised is not None), default=len(points))
    parts += _dots(points[newest:], xs, scale)
    return _svg("spark", width, height, title, description, parts)


def timeline(
    points: Sequence[Point],
    gate: float | None,
    marks: Sequence[Mark],
    served_by: Mapping[str, str],
    title: str,
    description: str,
) -> Markup | None:
    """The metric by partition, with what happened above it and which version served below; None of no partition.

    `served_by`: version by partition.
    """
    if not points:
        return None
    height = TOP + PLOT_HEIGHT + BOTTOM
    values = [
        value
        for point in points
        for value in (point.realised, point.estimated, point.low, point.high)
        if value is not None
    ]
    scale = _scale([*values, *([] if gate is None else [gate])] or [0.0, 1.0], TOP, TOP + PLOT_HEIGHT)
    step = (WIDTH - LEFT - RIGHT) / len(points)
    xs = {point.partition: LEFT + (place + 0.5) * step for place, point in enumerate(points)}
    parts = list(_axis(scale))
    if gate is not None:
        parts.append(_gate_line(gate, scale, LEFT, WIDTH - RIGHT))
    parts += _measured(points, xs, scale)
    parts += _dots(points, xs, scale)
    parts += _marks([mark for mark in marks if mark.partition in xs], xs)
    parts += _served(points, served_by, step)
    parts += _keys([point.partition for point in points], xs, height - 6.0)
    return _svg("timeline", WIDTH, height, title, description, parts)


def heat_map(
    columns: Mapping[str, Mapping[str, float | None]], keys: Sequence[str], title: str, description: str
) -> Markup | None:
    """A line of cells for each column, a cell for each partition: the step over what is usual; None of nothing."""
    if not columns or not keys:
        return None
    step = min((WIDTH - LABEL_WIDTH - RIGHT) / len(keys), WIDEST_CELL)
    parts: list[Markup] = []
    for line, (name, values) in enumerate(columns.items()):
        top = line * (CELL_HEIGHT + 1.0)
        label = cut(name, LABEL_CHARACTERS) if len(name) > LABEL_CHARACTERS else name
        parts.append(
            Markup('<text class="label" x="{:.0f}" y="{:.1f}" text-anchor="end">{}</text>').format(
                LABEL_WIDTH - 8, top + CELL_HEIGHT - 4, label
            )
        )
        parts += _cells(name, values, keys, top, step)
    height = len(columns) * (CELL_HEIGHT + 1.0) + 20.0
    xs = {key: LABEL_WIDTH + (place + 0.5) * step for place, key in enumerate(keys)}
    parts += _keys(keys, xs, height - 5.0)
    return _svg("heat", WIDTH, height, title, description, parts)


def _cells(
    name: str, values: Mapping[str, float | None], keys: Sequence[str], top: float, step: float
) -> Iterator[Markup]:
    """Cells of one colour beside each other are one; a shift is a cell of its own, which says its number."""

    def looks_like(place: int) -> tuple[int, int]:
        level = _level(values.get(keys[place]))
        return level, place if level > LEVELS.index(SHIFT) else -1

    for (level, _), run in groupby(range(len(keys)), looks_like):
        places = list(run)
        cell = Markup('<rect class="l{}" x="{:.1f}" y="{:.0f}" width="{:.1f}" height="{:.0f}">').format(
            "0" if level < 0 else level + 1, LABEL_WIDTH + places[0] * step, top, len(places) * step, CELL_HEIGHT
        )
        value = values.get(keys[places[0]])
        if level > LEVELS.index(SHIFT) and value is not None:
            cell += Markup("<title>{}, {}: {} times what is usual</title>").format(name, keys[places[0]], figure(value))
        yield cell + Markup("</rect>")


def _level(value: float | None) -> int:
    """Which colour a step has; -1: it is not known."""
    return -1 if value is None else sum(value > level for level in LEVELS)


def _scale(values: Sequence[float], top: float, bottom: float) -> Scale:
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    return Scale(low - room, high + room, top, bottom)


def _gate_line(gate: float, scale: Scale, left: float, right: float) -> Markup:
    y = scale.y(gate)
    return Markup('<path class="gate" d="M{:.1f},{:.1f} H{:.1f}"/>').format(left, y, right)


def _measured(points: Sequence[Point], xs: Mapping[str, float], scale: Scale) -> list[Markup]:
    """What was measured, as a line."""
    places = [(xs[point.partition], scale.y(point.realised)) for point in points if point.realised is not None]
    if len(places) < 2:
        return []
    return [Markup('<path class="measured" d="M{}"/>').format(" L".join(f"{x:.1f},{y:.1f}" for x, y in places))]


def _dots(points: Sequence[Point], xs: Mapping[str, float], scale: Scale) -> Iterator[Markup]:
    """What was measured, and, hollow and with its interval, what is estimated."""
    dot = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>')
    for point in points:
        x = xs[point.partition]
        if point.realised is not None:
            yield dot.format("dot", x, scale.y(point.realised), 2, f"{point.partition}: {figure(point.realised)}")
        elif point.estimated is not None:
            if point.low is not None and point.high is not None:
                bar = Markup('<path class="interval" d="M{:.1f},{:.1f} V{:.1f}"/>')
                yield bar.format(x, scale.y(point.low), scale.y(point.high))
            words = f"{point.partition}: estimated {figure(point.estimated)}"
            yield dot.format("estimated", x, scale.y(point.estimated), 2.6, words)


def _axis(scale: Scale) -> Iterator[Markup]:
    for share in (0.0, 0.5, 1.0):
        value = scale.low + share * (scale.high - scale.low)
        y = scale.y(value)
        yield Markup('<path class="grid" d="M{:.0f},{:.1f} H{:.0f}"/>').format(LEFT, y, WIDTH - RIGHT)
        yield Markup('<text class="tick" x="{:.0f}" y="{:.1f}" text-anchor="end">{}</text>').format(
            LEFT - 6, y + 4, f"{value:.3g}"
        )


def _marks(marks: Sequence[Mark], xs: Mapping[str, float]) -> Iterator[Markup]:
    """Those of one partition stand beside each other."""
    for key, several in groupby(sorted(marks, key=lambda mark: mark.partition), lambda mark: mark.partition):
        together = list(several)
        for place, mark in enumerate(together):
            x = min(max(xs[key] + (place - (len(together) - 1) / 2) * 14, LEFT + 7), WIDTH - RIGHT - 7)
            yield Markup('<path class="stem" d="M{:.1f},{:.0f} V{:.0f}"/>').format(xs[key], TOP - 6, TOP + PLOT_HEIGHT)
            yield Markup(
                '<path class="mark {}" transform="translate({:.1f},{:.0f})" d="{}"><title>{}</title></path>'
            ).format(mark.kind, x, TOP - 16, SHAPES[mark.kind], f"{mark.partition}: {mark.text}")


def _served(points: Sequence[Point], served_by: Mapping[str, str], step: float) -> Iterator[Markup]:
    """A strip: which version served, one piece as long as it did."""
    keys = [point.partition for point in points]
    y = TOP + PLOT_HEIGHT + 4.0
    for turn, (version, run) in enumerate(groupby(range(len(keys)), lambda place: served_by.get(keys[place], ""))):
        places = list(run)
        if not version:
            continue
        x, width = LEFT + places[0] * step, len(places) * step
        strip = Markup(
            '<rect class="served s{}" x="{:.1f}" y="{:.0f}" width="{:.1f}" height="14"><title>{}</title></rect>'
        )
        words = f"version {version} served {keys[places[0]]} to {keys[places[-1]]}"
        yield strip.format(turn % 2, x, y, max(width - 1, 1), words)
        if width > 24:
            yield Markup('<text class="tick" x="{:.1f}" y="{:.0f}">v{}</text>').format(x + 4, y + 11, version)


def _keys(keys: Sequence[str], xs: Mapping[str, float], y: float) -> Iterator[Markup]:
    """The last partition, and as many before it as fit."""
    between = (xs[keys[-1]] - xs[keys[0]]) / (len(keys) - 1) if len(keys) > 1 else KEY_WIDTH
    every = max(ceil(KEY_WIDTH / between), 1)
    shown = keys[::-1][::every][::-1]
    for key in shown:
        anchor = "end" if key == keys[-1] else "middle"
        x = min(xs[key] + (20 if anchor == "end" else 0), WIDTH - 2)
        yield Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, key)


def _svg(kind: str, width: float, height: float, title: str, description: str, parts: Sequence[Markup]) -> Markup:
    frame = Markup(
        '<svg class="{}" role="img" viewBox="0 0 {:.0f} {:.0f}" aria-label="{}"><title>{}</title><desc>{}</desc>'
    )
    drawn = frame.format(kind, width, height, f"{title}. {description}", title, description)
    return drawn + Markup("").join(parts) + Markup("</svg>")
