"""The overview: a line of each problem, those that need a person first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from markupsafe import Markup

from pipelines.health.document import Champion, Fresh, Health, Point
from pipelines.health.drawn import sparkline
from pipelines.health.freshness import reaches
from pipelines.health.links import Links
from pipelines.health.rows import Row, ago, beyond_gate, gate, newest_realised, summed_up
from pipelines.health.script import SCRIPT, Script
from pipelines.html.render import render
from pipelines.html.wording import figure


class ChampionCell(NamedTuple):
    version: str
    card: str
    since: datetime
    how: str
    age: str
    comparison: str | None
    """With which other models it competed, in MLflow."""


class MetricCell(NamedTuple):
    """`value`: of the newest labelled partition. `due`: when the next labels are, in words."""

    picture: Markup | None
    name: str
    value: str
    of: str
    gate: str
    is_beyond: bool
    estimate: str
    due: str


class VerdictCell(NamedTuple):
    verdict: str
    action: str
    partition: str
    page: str


class SourceCell(NamedTuple):
    name: str
    reaches: str
    is_behind: bool


class DataCell(NamedTuple):
    """`tables`, `sources`: how far each reaches, in words."""

    tables: list[str]
    sources: list[SourceCell]
    quarantined: str


class Line(NamedTuple):
    """What the template draws of a problem; None: nothing is known of it."""

    row: Row
    href: str
    champion: ChampionCell | None
    metric: MetricCell | None
    verdict: VerdictCell | None
    data: DataCell | None
    cost: str
    derived: datetime | None
    age: str


@dataclass(frozen=True)
class Overview:
    """`fault`: why what is shown is of an earlier look; None: it is of now."""

    summary: str
    lines: list[Line]
    has_costs: bool
    now: datetime
    fault: str | None
    script: Script


def page(made: Sequence[Row], links: Links, now: datetime, fault: str | None = None) -> bytes:
    """One HTML page, which needs nothing else."""
    lines = [_line(row, links, now) for row in made]
    drawn = Overview(
        summary=summed_up(made),
        lines=lines,
        has_costs=any(line.cost for line in lines),
        now=now,
        fault=fault,
        script=SCRIPT,
    )
    return render("health.html", "Health", drawn)


def _line(row: Row, links: Links, now: datetime) -> Line:
    health = row.health
    return Line(
        row=row,
        href=links.problem(row.problem),
        champion=champion_cell(health, links) if health else None,
        metric=metric_cell(health) if health else None,
        verdict=verdict_cell(health, links) if health else None,
        data=data_cell(health, now) if health else None,
        cost=f"{figure(health.cost.per_partition)} {health.cost.unit}" if health and health.cost else "",
        derived=health.derived if health else None,
        age=ago(health.derived, now) if health else "",
    )


def champion_cell(health: Health, links: Links) -> ChampionCell | None:
    champion = health.champion
    if champion is None:
        return None
    card = links.card(health.problem, champion.version)
    return ChampionCell(
        champion.version,
        card,
        champion.since,
        champion.how,
        _age(champion, health.every),
        links.comparison(health.problem),
    )


def _age(champion: Champion, every: str) -> str:
    what = "delivery" if every == "delivery" else every
    many = "deliveries" if every == "delivery" else f"{every}s"
    return "" if champion.age is None else f"{champion.age:,} {what if champion.age == 1 else many} old"


def metric_cell(health: Health) -> MetricCell | None:
    if not health.points:
        return None
    newest, beyond = newest_realised(health), beyond_gate(health)
    waiting = [point for point in health.points if point.realised is None]
    value = figure(newest.realised) if newest else "no labels yet"
    name = shown_metric(health.metric)
    return MetricCell(
        picture=sparkline(health.points, health.gate, f"{name} by {health.every}", described(health)),
        name=name,
        value=value,
        of=newest.partition if newest else "",
        gate=gate(health) if health.gate is not None else "",
        is_beyond=beyond is not None,
        estimate=_estimate(waiting),
        due=_due(waiting),
    )


def shown_metric(metric: str) -> str:
    return metric.upper()


def described(health: Health) -> str:
    """The sparkline in words."""
    measured = [point for point in health.points if point.realised is not None]
    if not measured:
        return "No labels are in yet."
    first, last = measured[0], measured[-1]
    words = f"From {figure(first.realised)} ({first.partition}) to {figure(last.realised)} ({last.partition})."
    return words + (f" The gate asks for {gate(health)}." if health.gate is not None else "")


def _estimate(waiting: Sequence[Point]) -> str:
    newest = next((point for point in reversed(waiting) if point.estimated is not None), None)
    if newest is None:
        return ""
    return f"{figure(newest.estimated)} ({figure(newest.low)} to {figure(newest.high)}) estimated of {newest.partition}"


def _due(waiting: Sequence[Point]) -> str:
    first = next((point for point in waiting if point.labels_due is not None), None)
    if first is None or first.labels_due is None:
        return ""
    return f"labels of {first.partition} due {first.labels_due:%Y-%m-%d}"


def verdict_cell(health: Health, links: Links) -> VerdictCell | None:
    judged = health.judged
    if judged is None:
        return None
    page = links.monitoring(health.problem, judged.partition)
    return VerdictCell(judged.verdict, judged.action.replace("_", " "), judged.partition, page)


def data_cell(health: Health, now: datetime) -> DataCell:
    tables = [_reach(table, health, now) for table in health.tables if table.name != "profiles"]
    quarantined = []
    if health.quarantined_rows:
        quarantined.append(f"{health.quarantined_rows:,} row{'s' * (health.quarantined_rows != 1)}")
    if health.held:
        quarantined.append(f"{len(health.held):,} partition{'s' * (len(health.held) != 1)}")
    sources = [SourceCell(source.name, reaches(source), source.is_behind) for source in health.sources]
    return DataCell(tables, sources, " and ".join(quarantined))


def _reach(table: Fresh, health: Health, now: datetime) -> str:
    if table.partition is None:
        return f"{table.name}: none"
    is_dated = table.until is not None and not health.lies_in_past
    aged = f", {ago(table.until, now)}" if is_dated and table.until is not None else ""
    return f"{table.name} {table.partition}{aged}"
