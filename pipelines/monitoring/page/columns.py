"""The bottom of a monitoring page: features now and before, bin by bin, and every column's distances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.html.markup import note, row_of, table
from pipelines.html.wording import figure
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.monitoring.explain.contribution import pooled
from pipelines.monitoring.explain.root_cause import Explained
from pipelines.monitoring.explain.series import features_of
from pipelines.monitoring.page import plots
from pipelines.monitoring.page.evidence import Seen, column_sources
from pipelines.monitoring.page.trace import Trace, several, source, told
from pipelines.profiles.column import Bins, ColumnProfile, Numbers
from pipelines.profiles.profile import SCORE

DRAWN = 4  # features whose bins are drawn
LEAST_BIN = 0.005  # share of a side's rows, for a bin to be drawn
MOST_BINS = 24


def distributions(seen: Seen, decided: Mapping[str, Any], explained: Explained, trace: Trace) -> str:
    """Bins of the features that lead: by their part of the shift, or else by how far they moved."""
    before = explained.before or [key for key in seen.keys if key != seen.partition]
    after = explained.after or [key for key in seen.keys if key == seen.partition]
    if not before or not after:
        return note("There is no other partition to compare with.")
    one, other = (pooled([seen.profiles[key] for key in keys], seen.reference) for keys in (before, after))
    drawn = []
    for place, name in enumerate(_leading(seen, decided, explained)):
        column = seen.reference.columns[name]
        profiles = {"training": column.profile, "before": one[name], "now": other[name]}
        labels, shares = shown_bins(column.bins, profiles)
        where = {"before": column_sources(seen, name, before), "now": column_sources(seen, name, after),
                 "training": [source(seen.file("reference.json"), columns=name)]}  # fmt: skip
        for side, values in shares.items():
            for label, value in zip(labels, values, strict=True):
                trace.figure(f"{name}, {side}: {label}", value, f"share of bin {label}", *where[side])
        drawn.append(plots.bins(f"bins{place}", name, labels, shares))
    lead = note(
        f"Before: {several(before)}; now: {several(after)}. Bins are the training data's quantiles; those with hardly "
        "any rows are left out."
    )
    return lead + row_of(*drawn) + told(*column_sources(seen, "those shown", [*before, *after]))


def _leading(seen: Seen, decided: Mapping[str, Any], explained: Explained) -> list[str]:
    told_of = Diagnosis.model_validate(decided.get("diagnosis") or {"findings": (), "labelled": (), "bad": ()})
    known = [name for name in seen.reference.columns if name != SCORE]
    found = [name for one in told_of.findings[:1] for name in features_of(one, known)]
    found += [one.feature for one in explained.contributions if one.feature in seen.reference.columns]
    moved = (decided.get("detected") or {}).get("columns") or {}
    found += sorted(moved, key=lambda name: -(moved[name].get("psi") or 0))
    return [name for name in dict.fromkeys(found) if name in known][:DRAWN]


def shown_bins(bins: Bins, profiles: Mapping[str, ColumnProfile]) -> tuple[list[str], dict[str, list[float]]]:
    """Names of the bins in which any side has rows to speak of, and each side's shares."""
    shares = {side: np.asarray(one.counts, np.float64) / max(one.rows, 1) for side, one in profiles.items()}
    if isinstance(bins, Numbers):
        names = [f"up to {edge:.4g}" for edge in bins.edges] + [f"over {bins.edges[-1]:.4g}" if bins.edges else "any"]
    else:
        names = [*bins.kept, "any other"]
    names = [*names, "new to the model", "missing"]
    most = np.max(list(shares.values()), axis=0)
    order = np.argsort(-most, kind="stable")[:MOST_BINS]
    places = sorted(int(place) for place in order if most[place] >= LEAST_BIN)
    return [names[place] for place in places], {
        side: [float(one[place]) for place in places] for side, one in shares.items()
    }


def columns(seen: Seen, decided: Mapping[str, Any], trace: Trace) -> str:
    """The numerical appendix: every column's distances to training."""
    detected = decided.get("detected") or {}
    found = {
        **(detected.get("columns") or {}),
        **({SCORE: detected["prediction"]} if detected.get("prediction") else {}),
    }
    if not found:
        return note("Nothing was measured.")
    rows = []
    for name, one in sorted(found.items(), key=lambda item: -(item[1].get("psi") or 0)):
        where = column_sources(seen, name, [seen.partition])
        where += [source(seen.file("reference.json"), partitions="all", column=name)]
        shown = [trace.figure(f"{name}: {part}", one.get(part), part, *where) if one.get(part) is not None else ""
                 for part in ("psi", "js", "wasserstein", "null_share", "unseen_share")]  # fmt: skip
        level = max(((kind["step"] or 0) / kind["step_level"] for kind in (one.get("levels") or {}).values()
                     if kind.get("step_level")), default=None)  # fmt: skip
        rows.append([name, *shown, "" if level is None else figure(level)])
    lead = note(
        "Distances of this partition to the partitions that the version was made from: population stability index "
        "(PSI), Jensen-Shannon (JS), Wasserstein in standard deviations. Step over level: how far it lies from the "
        "nearest of the partitions before it, as a multiple of what is usual; above 1 is a shift."
    )
    heads = ["column", "#PSI", "#JS", "#Wasserstein", "#empty", "#new to the model", "#step over level"]
    where = column_sources(seen, "each", [seen.partition])
    content = table(heads, rows) + told(*where, source(seen.file("reference.json"), partitions="all"))
    return lead + f"<details><summary>{len(rows)} columns</summary>{content}</details>"
