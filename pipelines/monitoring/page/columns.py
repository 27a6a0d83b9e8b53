"""The bottom of a monitoring page: features now and before, bin by bin, and every column's distances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from pipelines.html.wording import span
from pipelines.monitoring.explain.contribution import pooled
from pipelines.monitoring.explain.series import OF_SCORE, features_of
from pipelines.monitoring.page import plots
from pipelines.monitoring.page.evidence import Judged, PageFacts, column_sources
from pipelines.monitoring.page.trace import Source, Trace, source
from pipelines.profiles.column import Bins, ColumnProfile, Numbers
from pipelines.profiles.profile import SCORE

DRAWN = 4  # features whose bins are drawn
LEAST_BIN = 0.005  # share of a side's rows, for a bin to be drawn
MOST_BINS = 24
BY_CALENDAR = "not judged: the calendar tells it"
DISTANCES = ("psi", "js", "wasserstein", "null_share", "unseen_share")


class DistributionsPart(NamedTuple):
    """`before` and `now`: which partitions; a picture for each feature."""

    before: str
    now: str
    pictures: list[Markup | None]
    sources: list[Source]


class ColumnLine(NamedTuple):
    """Distances of a column to training. `step`: over its alarm level, or why it is not judged. What there is not is
    empty."""

    column: str
    psi: float | str
    js: float | str
    wasserstein: float | str
    empty: float | str
    new_to_the_model: float | str
    step: float | str


class ColumnsPart(NamedTuple):
    lines: list[ColumnLine]
    sources: list[Source]


def distributions(facts: PageFacts, judged: Judged, trace: Trace) -> DistributionsPart | None:
    """Bins of the columns that lead: those of the findings, then by their part of the shift and how far they moved.

    None where there is no other partition to compare with.
    """
    before = judged.explanation.before or [key for key in facts.keys if key != facts.partition]
    after = judged.explanation.after or [key for key in facts.keys if key == facts.partition]
    if not before or not after:
        return None
    earlier, later = (pooled([facts.profiles[key] for key in keys], facts.reference) for keys in (before, after))
    pictures = []
    for place, name in enumerate(_leading(facts, judged)):
        column = facts.reference.columns[name]
        profiles = {"training": column.profile, "before": earlier[name], "now": later[name]}
        labels, shares = shown_bins(column.bins, profiles)
        sources = {
            "before": column_sources(facts, name, before),
            "now": column_sources(facts, name, after),
            "training": [source(facts.file("reference.json"), columns=name)],
        }
        for side, values in shares.items():
            for label, value in zip(labels, values, strict=True):
                trace.noted(f"{name}, {side}: {label}", value, f"share of bin {label}", *sources[side])
        pictures.append(plots.bins(f"bins{place}", _title(facts, name), labels, shares))
    return DistributionsPart(
        before=span(before),
        now=span(after),
        pictures=pictures,
        sources=column_sources(facts, "those shown", [*before, *after]),
    )


def _leading(facts: PageFacts, judged: Judged) -> list[str]:
    """The most harmful finding's columns first; a finding in the scores is of the column of scores."""
    names: list[str] = []
    for finding in judged.diagnosis.findings:
        names += [SCORE] if finding.kind in OF_SCORE else features_of(finding, facts.reference.columns)
    names += [contribution.feature for contribution in judged.explanation.contributions]
    moved = judged.detected.columns
    names += sorted(moved, key=lambda name: -moved[name].psi)
    return [name for name in dict.fromkeys(names) if name in facts.reference.columns][:DRAWN]


def _title(facts: PageFacts, column: str) -> str:
    if column == SCORE:
        return "the scores"
    unit = facts.units.get(column)
    return f"{column} ({unit})" if unit else column


def shown_bins(bins: Bins, profiles: Mapping[str, ColumnProfile]) -> tuple[list[str], dict[str, list[float]]]:
    """Names of the bins in which any side has rows to speak of, and each side's shares."""
    shares = {side: np.asarray(part.counts, np.float64) / max(part.rows, 1) for side, part in profiles.items()}
    if isinstance(bins, Numbers):
        names = [f"up to {edge:.4g}" for edge in bins.edges] + [f"over {bins.edges[-1]:.4g}" if bins.edges else "any"]
    else:
        names = [*bins.kept, "any other"]
    names = [*names, "new to the model", "missing"]
    most = np.max(list(shares.values()), axis=0)
    order = np.argsort(-most, kind="stable")[:MOST_BINS]
    places = sorted(int(place) for place in order if most[place] >= LEAST_BIN)
    return [names[place] for place in places], {
        side: [float(values[place]) for place in places] for side, values in shares.items()
    }


def columns(facts: PageFacts, judged: Judged, trace: Trace) -> ColumnsPart | None:
    """Every column's distances to training, the greatest first; None where nothing was measured."""
    detected = judged.detected
    drifts = dict(detected.columns)
    if detected.prediction is not None:
        drifts[SCORE] = detected.prediction
    if not drifts:
        return None
    reference = facts.file("reference.json")
    lines = []
    for name, drift in sorted(drifts.items(), key=lambda column: -column[1].psi):
        sources = column_sources(facts, name, [facts.partition])
        sources.append(source(reference, partitions="all", column=name))
        values = []
        for part in DISTANCES:
            value = getattr(drift, part)
            values.append("" if value is None else trace.noted(f"{name}: {part}", value, part, *sources))
        psi, js, wasserstein, empty, new = values
        step: float | str = BY_CALENDAR if drift.is_of_calendar else drift.step_over_level() or ""
        lines.append(ColumnLine(name, psi, js, wasserstein, empty, new, step))
    sources = column_sources(facts, "each", [facts.partition])
    return ColumnsPart(lines, [*sources, source(reference, partitions="all")])
