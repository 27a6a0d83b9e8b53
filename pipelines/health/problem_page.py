"""A problem's page: how it stands, what its versions did, which columns drift, and its ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

from markupsafe import Markup

from pipelines.artifacts import LEDGER_KINDS
from pipelines.health.document import Health, History, Point, SourceFresh, Turn
from pipelines.health.drawn import SHIFT, Mark, MarkKind, heat_map, timeline
from pipelines.health.freshness import lasting, reaches
from pipelines.health.freshness import shown as shown_time
from pipelines.health.links import DAG_OF, Links
from pipelines.health.overview import (
    ChampionCell,
    DataCell,
    MetricCell,
    VerdictCell,
    champion_cell,
    data_cell,
    described,
    metric_cell,
    shown_metric,
    verdict_cell,
)
from pipelines.health.rows import Row, ago
from pipelines.health.script import SCRIPT, Script
from pipelines.html.render import render

WINDOWS = (26, 104, 520)
"""Partitions that the pictures may be of."""
COLUMNS = 30
"""Columns of the heat map."""
PAGE = 50
"""Decisions on a page of the ledger."""
SEARCHED_CHARACTERS = 100


class Filter(NamedTuple):
    """What of the ledger is wanted. `page` counts from 1."""

    kind: str = ""
    text: str = ""
    page: int = 1


class RunKey(NamedTuple):
    """A run is found by its DAG, such as `train`, and its partition."""

    dag: str
    partition: str


class Reference(NamedTuple):
    text: str
    href: str
    is_outside: bool = False


class WindowLink(NamedTuple):
    text: str
    href: str
    is_current: bool


class DriftLine(NamedTuple):
    """A column in the window. `shifts`: partitions at which it shifted."""

    column: str
    newest: float | str
    highest: float | str
    at: str
    shifts: int


class LedgerLine(NamedTuple):
    turn: Turn
    evidence: str | None
    run: str | None
    dag: str | None
    """Whose run it is, such as `train`."""


class LedgerPart(NamedTuple):
    """`first` and `last`: places of the lines that are shown, of so many."""

    kinds: list[str]
    filter: Filter
    lines: list[LedgerLine]
    first: int
    last: int
    of: int
    newer: str | None
    older: str | None
    is_whole: bool


class SourceLine(NamedTuple):
    """A source, in words."""

    name: str
    newest: str
    columns: str
    arrived: str
    lag: str
    """At the end of the newest partition that was read."""
    allowed: str
    is_behind: bool


class FactsPart(NamedTuple):
    """As on the overview."""

    champion: ChampionCell | None
    metric: MetricCell | None
    verdict: VerdictCell | None
    data: DataCell
    cost: str


class VersionsPart(NamedTuple):
    picture: Markup | None
    lines: list[LedgerLine]


class DriftPart(NamedTuple):
    picture: Markup | None
    lines: list[DriftLine]
    left_out: int


@dataclass(frozen=True)
class ProblemPage:
    """`fault`: why what is shown is of an earlier look; None: it is of now."""

    problem: str
    every: str
    overview: str
    row: Row
    age: str
    derived: datetime | None
    facts: FactsPart | None
    window: int
    windows: list[WindowLink]
    sources: list[SourceLine]
    versions: VersionsPart | None
    drift: DriftPart | None
    ledger: LedgerPart | None
    references: list[Reference]
    fault: str | None
    script: Script


def wanted(history: History, chosen: Filter) -> list[Turn]:
    """The decisions that are asked for, the newest first."""
    text = chosen.text.casefold()
    return [
        turn
        for turn in reversed(history.turns)
        if chosen.kind in ("", turn.kind) and (not text or text in _searched(turn))
    ]


def shown(history: History, chosen: Filter) -> list[Turn]:
    """Those of them on the page that is asked for."""
    return wanted(history, chosen)[(chosen.page - 1) * PAGE : chosen.page * PAGE]


def shown_runs(history: History, chosen: Filter) -> set[RunKey]:
    """The runs that are linked to."""
    turns = [*shown(history, chosen), *_of_versions(history)]
    return {RunKey(DAG_OF[turn.kind], turn.partition) for turn in turns if turn.kind in DAG_OF}


def page(
    row: Row,
    history: History | None,
    links: Links,
    now: datetime,
    *,
    chosen: Filter = Filter(),  # noqa: B008 - it is never changed
    window: int = WINDOWS[0],
    runs: Mapping[RunKey, str] | None = None,
    dags: Sequence[str] = (),
    fault: str | None = None,
) -> bytes:
    """One HTML page, which needs nothing else.

    Args:
        runs: id of the newest run by its DAG and partition.
        dags: the problem's DAGs in Airflow, without its name.
    """
    health, run_ids = row.health, runs or {}
    drawn = ProblemPage(
        problem=row.problem,
        every=health.every if health else "partition",
        overview=links.overview(),
        row=row,
        age=ago(health.derived, now) if health else "",
        derived=health.derived if health else None,
        facts=_facts(health, links, now) if health else None,
        window=window,
        windows=[WindowLink(f"{each}", f"?window={each}", each == window) for each in WINDOWS],
        sources=[_source(source) for source in health.sources] if health else [],
        versions=_versions(health, history, window, links, run_ids) if health and history else None,
        drift=_drift(history, window) if history else None,
        ledger=_ledger(history, chosen, window, links, run_ids) if history else None,
        references=list(_references(row.problem, health, links, dags)),
        fault=fault,
        script=SCRIPT,
    )
    return render("health_problem.html", row.problem, drawn)


def _facts(health: Health, links: Links, now: datetime) -> FactsPart:
    return FactsPart(
        champion=champion_cell(health, links),
        metric=metric_cell(health),
        verdict=verdict_cell(health, links),
        data=data_cell(health, now),
        cost=f"{health.cost.per_partition:,.4g} {health.cost.unit}" if health.cost else "",
    )


def _source(source: SourceFresh) -> SourceLine:
    return SourceLine(
        name=source.name,
        newest=reaches(source),
        columns=source.columns or "",
        arrived=shown_time(source.arrived) if source.arrived else "",
        lag=lasting(source.until - source.newest) if source.until and source.newest else "",
        allowed="" if source.allowed_s is None else f"up to {lasting(timedelta(seconds=source.allowed_s))}",
        is_behind=source.is_behind,
    )


def _references(name: str, health: Health | None, links: Links, dags: Sequence[str]) -> Iterator[Reference]:
    for dag in dags:
        yield Reference(f"Airflow: {name}.{dag}", links.dag(name, dag), is_outside=True)
    if comparison := links.comparison(name):
        yield Reference("MLflow: newest training compared", comparison, is_outside=True)
    if model := links.model(name):
        yield Reference("MLflow: its versions", model, is_outside=True)
    if health and health.champion:
        version = health.champion.version
        yield Reference(f"Model card of version {version}", links.card(name, version))
        if of_version := links.model(name, version):
            yield Reference(f"MLflow: version {version}", of_version, is_outside=True)


def _versions(health: Health, history: History, window: int, links: Links, runs: Mapping[RunKey, str]) -> VersionsPart:
    realised = history.realised()
    turns = _of_versions(history)
    estimated = {point.partition: point for point in health.points if point.realised is None}
    happened = [mark for mark in map(_mark, turns) if mark is not None]
    measured = {*realised, *estimated, *(look.partition for look in history.watched)}
    keys = sorted({*measured, *(mark.partition for mark in happened)})[-window:] if measured else []
    points = [_point(key, realised, estimated) for key in keys]
    name = shown_metric(history.metric)
    words = described(health)
    if happened:
        words += f" What happened to versions: {len(happened)} events, listed in the table below."
    picture = timeline(
        points,
        health.gate,
        happened,
        {look.partition: look.version or "" for look in history.watched},
        f"{name} by {health.every}, and what happened to versions",
        words,
    )
    return VersionsPart(picture, [_line(turn, history.problem, links, runs) for turn in reversed(turns)])


def _point(key: str, realised: Mapping[str, float], estimated: Mapping[str, Point]) -> Point:
    return estimated.get(key) or Point(partition=key, realised=realised.get(key))


def _of_versions(history: History) -> list[Turn]:
    """Decisions about versions, oldest first."""
    return [turn for turn in history.turns if _mark(turn) is not None]


def _mark(turn: Turn) -> Mark | None:
    """What a decision did to a version; None: nothing that is drawn."""
    version = f"version {turn.version}" if turn.version else "a challenger"
    by = f", approved by {turn.by}" if turn.by else ""
    kind: MarkKind
    match turn.kind, turn.action:
        case "promotion", "promoted":
            kind, text = "promoted", f"{version} came to serve{by}"
        case "promotion", _:
            kind, text = "back", f"{turn.action}: {version} serves"
        case "gate", _ if turn.verdict == "failed":
            kind, text = "failed", "a challenger failed its gate"
        case "refit", _ if turn.verdict == "failed":
            kind, text = "failed", "a model that was fitted again failed its gate"
        case "rollout", "started":
            kind, text = "started", f"the release of {version} began"
        case "rollout", "asked":
            kind, text = "asked", f"people were asked about {version}"
        case "rollout", "answered":
            kind, text = "asked", f"{version} was {turn.verdict}"
        case "rollout", "rolled back" | "expired" | "aborted" | "replaced" | "overtaken" | "rejected":
            kind, text = "back", f"the release of {version} ended: {turn.action}"
        case _:
            return None
    return Mark(turn.partition, kind, text)


def _drift(history: History, window: int) -> DriftPart:
    newest = {look.partition: look.drift for look in history.watched}
    keys = sorted(newest)[-window:]
    names = dict.fromkeys(name for key in reversed(keys) for name in newest[key])
    by_column = {name: {key: newest[key].get(name) for key in keys} for name in names}
    lines = [_drift_line(name, values, keys) for name, values in by_column.items()]
    lines.sort(
        key=lambda line: (-line.shifts, -(line.highest if isinstance(line.highest, float) else -1.0), line.column)
    )
    drawn = {line.column: by_column[line.column] for line in lines[:COLUMNS]}
    shifted = [line.column for line in lines if line.shifts]
    words = f"{len(shifted)} of {len(lines)} columns shifted" + (f": {', '.join(shifted[:5])}" if shifted else "")
    picture = heat_map(drawn, keys, "Drift by column", f"{words}. The numbers are in the table below.")
    return DriftPart(picture, lines, max(len(lines) - COLUMNS, 0))


def _drift_line(name: str, values: Mapping[str, float | None], keys: Sequence[str]) -> DriftLine:
    measured = {key: value for key, value in values.items() if value is not None}
    if not measured:
        return DriftLine(name, "", "", "", 0)
    at = max(measured, key=lambda key: measured[key])
    newest = values[keys[-1]]
    shifts = sum(value > SHIFT for value in measured.values())
    return DriftLine(name, "" if newest is None else newest, measured[at], at, shifts)


def _ledger(history: History, chosen: Filter, window: int, links: Links, runs: Mapping[RunKey, str]) -> LedgerPart:
    turns = wanted(history, chosen)
    first = (chosen.page - 1) * PAGE
    page = turns[first : first + PAGE]
    there = {turn.kind for turn in history.turns}
    return LedgerPart(
        kinds=[kind for kind in LEDGER_KINDS if kind in there],
        filter=chosen,
        lines=[_line(turn, history.problem, links, runs) for turn in page],
        first=first + 1 if page else 0,
        last=first + len(page),
        of=len(turns),
        newer=_address(chosen._replace(page=chosen.page - 1), window) if chosen.page > 1 else None,
        older=_address(chosen._replace(page=chosen.page + 1), window) if first + PAGE < len(turns) else None,
        is_whole=history.is_whole,
    )


def _address(chosen: Filter, window: int) -> str:
    return "?" + urlencode({**chosen._asdict(), "window": window}) + "#at-ledger"


def _line(turn: Turn, problem_name: str, links: Links, runs: Mapping[RunKey, str]) -> LedgerLine:
    dag = DAG_OF.get(turn.kind)
    run_id = runs.get(RunKey(dag, turn.partition)) if dag else None
    run = links.run(problem_name, dag, run_id) if dag and run_id else None
    return LedgerLine(turn, links.evidence(problem_name, turn), run, dag)


def _searched(turn: Turn) -> str:
    words = (
        turn.partition,
        turn.verdict,
        turn.action,
        turn.reason,
        turn.by,
        turn.version and f"version {turn.version}",
    )
    return "\n".join(filter(None, words)).casefold()
