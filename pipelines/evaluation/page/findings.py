"""The lower half of an evaluation's page: where the model is weak, whom it treats how, what it looks at and costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from markupsafe import Markup

from pipelines.documents.evaluation import (
    BehaviourResult,
    Champion,
    Drift,
    Evaluation,
    Fairness,
    Importance,
    Report,
    Slice,
    Slices,
)
from pipelines.documents.measures import Interval
from pipelines.html import plots
from pipelines.html.columns import Table, interval, number, share, text
from pipelines.html.wording import (
    FAIRNESS_WORDS,
    MOVED,
    NOT_MEASURED,
    figure,
    in_order,
    is_number,
    worst_first,
)

V = TypeVar("V")
SHOWN = 20  # bars of a picture, lines of a long table
SLICE_METRICS = 3  # the columns of a slice that fit on a page


class ChampionSlice(NamedTuple):
    slice: str | None
    rows: int | None
    metric: str | None
    gain: Interval | None


class ChampionSlices(NamedTuple):
    """Gains over the champion; None where they were not measured."""

    lines: list[ChampionSlice] | None
    picture: Markup | None


class SlicesPart(NamedTuple):
    """`over_champion`: None where no champion serves."""

    looked_at: int | None
    found: Table | None
    declared: Table | None
    over_champion: ChampionSlices | None


class FairnessMeasure(NamedTuple):
    measure: str
    difference: Interval | None
    meaning: str


class FairnessGroup(NamedTuple):
    group: str | None
    rows: int | None
    decided_positive: float | None
    positives_found: float | None
    negatives_mistaken: float | None


class FairnessPart(NamedTuple):
    column: str
    measures: list[FairnessMeasure]
    groups: list[FairnessGroup]


class BehaviourLine(NamedTuple):
    test: str | None
    kind: str | None
    passed: bool
    value: float | None
    wanted: str | None


class ImportanceLine(NamedTuple):
    feature: str | None
    importance: float | None
    share: float | None


class ImportancePart(NamedTuple):
    methods: str
    picture: Markup | None
    lines: list[ImportanceLine]


class DriftPart(NamedTuple):
    """`columns`: each with its PSI, the one that moved most first. `unknown`: those whose PSI was not measured."""

    scores: float | None
    limit: float
    picture: Markup | None
    columns: list[tuple[str, float]]
    unknown: list[str]


@dataclass(frozen=True)
class Findings:
    """A part that is None was not measured. `dropped`: features with the reason; `unseen`: features with rows."""

    slices: SlicesPart | None
    fairness: list[FairnessPart]
    behaviours: list[BehaviourLine] | None
    importances: ImportancePart | None
    drift: DriftPart | None
    speed: Mapping[str, str]
    dropped: list[tuple[str, str]] | None
    unseen: list[tuple[str, int]] | None


def findings(evaluation: Evaluation, report: Report) -> Findings:
    """What the lower sections show."""
    return Findings(
        slices=_slices(report.get("slices"), evaluation.get("champion")),
        fairness=[_fairness(column, measured) for column, measured in (report.get("fairness") or {}).items()],
        behaviours=_behaviours(report.get("behaviours")),
        importances=_importances(report.get("importances")),
        drift=_drift(report.get("drift")),
        speed=_speed(report),
        dropped=_by_feature(report.get("dropped")),
        unseen=_by_feature(report.get("unseen")),
    )


def _slices(slices: Slices | None, champion: Champion | None) -> SlicesPart | None:
    if slices is None:
        return None
    return SlicesPart(
        looked_at=slices.get("looked_at"),
        found=_slice_table(worst_first(slices.get("found"))),
        declared=_slice_table(worst_first(slices.get("declared"))),
        over_champion=_over_champion(champion) if champion else None,
    )


def _over_champion(champion: Champion) -> ChampionSlices:
    compared = champion.get("slices")
    if not compared:
        return ChampionSlices(None, None)
    lines = [
        ChampionSlice(part.get("name"), part.get("rows"), part.get("metric"), part.get("gain")) for part in compared
    ]
    drawn = [(f"{line.slice}: {line.metric}", line.gain) for line in lines[:SHOWN]]
    return ChampionSlices(lines, plots.forest("slices", "Gains over the champion, by slice", drawn))


def _slice_table(slices: list[Slice]) -> Table | None:
    if not slices:
        return None
    metrics = in_order(name for part in slices for name in part.get("metrics") or {})[:SLICE_METRICS]
    columns = [text("slice"), number("rows"), share("share"), interval("loss"), text("sure"), *map(interval, metrics)]
    rows = []
    for part in slices:
        values = part.get("metrics") or {}
        is_sure = "yes" if part.get("is_significant") else "no"
        facts = [part.get("name"), part.get("rows"), part.get("share"), part.get("loss")]
        rows.append([*facts, is_sure, *(values.get(name) for name in metrics)])
    return Table(columns, rows)


def _fairness(column: str, measured: Fairness | None) -> FairnessPart:
    groups = [
        FairnessGroup(
            group.get("group"),
            group.get("rows"),
            group.get("selection_rate"),
            group.get("true_positive_rate"),
            group.get("false_positive_rate"),
        )
        for group in (measured.get("groups") if measured else None) or []
    ]
    measures = [
        FairnessMeasure(name.replace("_", " "), measured.get(name) if measured else None, meaning)
        for name, meaning in FAIRNESS_WORDS.items()
    ]
    return FairnessPart(column, measures, groups)


def _behaviours(behaviours: list[BehaviourResult] | None) -> list[BehaviourLine] | None:
    """Those that failed first."""
    if behaviours is None:
        return None
    lines = [
        BehaviourLine(
            test.get("name"), test.get("kind"), test.get("passed") is True, test.get("value"), test.get("wanted")
        )
        for test in behaviours
    ]
    return sorted(lines, key=lambda line: line.passed)


def _importances(importances: list[Importance] | None) -> ImportancePart | None:
    if not importances:
        return None
    lines = [ImportanceLine(each.get("feature"), each.get("importance"), each.get("share")) for each in importances]
    drawn = [(str(line.feature), 100 * (line.share or 0)) for line in lines[:SHOWN]]
    return ImportancePart(
        methods=", ".join(sorted({str(each.get("method")) for each in importances})),
        picture=plots.bars("importances", "What the scores depend on", drawn, "share of all features, %"),
        lines=lines,
    )


def _drift(drift: Drift | None) -> DriftPart | None:
    if drift is None:
        return None
    distances = drift.get("columns") or {}
    columns = [(name, value) for name, value in distances.items() if is_number(value)]
    columns.sort(key=lambda column: -column[1])
    return DriftPart(
        scores=drift.get("prediction"),
        limit=MOVED,
        picture=plots.bars("drift", "Features that moved most", columns[:SHOWN], "PSI", limit=MOVED),
        columns=columns,
        unknown=[name for name, value in distances.items() if not is_number(value)],
    )


def _speed(report: Report) -> dict[str, str]:
    size, latency, rows = report.get("size_bytes"), report.get("latency_ms"), report.get("rows_per_s")
    return {
        "One row": f"{figure(latency)} ms (median)" if is_number(latency) else NOT_MEASURED,
        "Many rows": f"{rows:,.0f} rows a second" if is_number(rows) else NOT_MEASURED,
        "Model": f"{size / 1e6:,.2f} MB" if is_number(size) else NOT_MEASURED,
    }


def _by_feature(values: Mapping[str, V] | None) -> list[tuple[str, V]] | None:
    return None if values is None else list(values.items())
