"""The problems in the order in which a person is needed, and what for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from typing import NamedTuple

from pipelines.config import Action
from pipelines.health.document import Health, Point
from pipelines.health.freshness import in_words
from pipelines.health.in_flight import InFlight, Run
from pipelines.health.links import Links
from pipelines.html.wording import cut, figure

REASON_CHARACTERS = 240
GRACE = timedelta(hours=1)  # between a partition's time and its end in the tables


class Standing(IntEnum):
    """Whether a person is needed, the most urgent first."""

    WAITS = 0
    LOOK = 1
    UNDER_WAY = 2
    QUIET = 3
    EMPTY = 4

    @property
    def in_words(self) -> str:
        return ("waits for a person", "worth a look", "under way", "quiet", "nothing yet")[self]


class Note(NamedTuple):
    """A line about a problem. `href`: where to go about it; None: nowhere."""

    text: str
    href: str | None = None
    is_outside: bool = False
    """Whether that is Airflow's own UI, or MLflow's."""


class Row(NamedTuple):
    """A problem. `health`: None where nothing is kept of it yet."""

    problem: str
    standing: Standing
    waits: tuple[Note, ...]
    """Who is waited for, and what for."""
    looks: tuple[Note, ...]
    goes_on: tuple[Note, ...]
    health: Health | None


def rows(
    healths: Mapping[str, Health | None], in_flight: Mapping[str, InFlight], links: Links, now: datetime
) -> list[Row]:
    """One of each problem in `healths`, those that need a person first, of them those that need most."""
    made = [row(name, health, in_flight.get(name, InFlight()), links, now) for name, health in healths.items()]
    return sorted(made, key=lambda row: (row.standing, -len(row.waits), -len(row.looks), row.problem))


def row(name: str, health: Health | None, in_flight: InFlight, links: Links, now: datetime) -> Row:
    waits = tuple(_waits(name, health, in_flight, links))
    looks = tuple(_looks(name, health, in_flight, links, now))
    goes_on = tuple(_goes_on(name, health, in_flight, links))
    if waits:
        standing = Standing.WAITS
    elif looks:
        standing = Standing.LOOK
    elif goes_on:
        standing = Standing.UNDER_WAY
    else:
        standing = Standing.QUIET if health is not None and has_begun(health) else Standing.EMPTY
    return Row(name, standing, waits, looks, goes_on, health)


def _waits(name: str, health: Health | None, in_flight: InFlight, links: Links) -> Iterator[Note]:
    for question in (question for question in in_flight.questions if question.dag != "annotate"):
        asked = f" ({', '.join(question.users)})" if question.users else ""
        href = links.question(name, question.dag, question.run_id)
        yield Note(f"Approval{asked}: {cut(question.subject, REASON_CHARACTERS)}", href, is_outside=True)
    to_label = [question for question in in_flight.questions if question.dag == "annotate"]
    if to_label:
        href = links.question(name, "annotate", to_label[-1].run_id)
        yield Note(f"Labels of {_count(len(to_label), 'event')}", href, is_outside=True)
    for failed in in_flight.failed:
        yield Note(_failed(failed), links.run(name, failed.dag, failed.run_id), is_outside=True)
    if health is None:
        return
    if health.held:
        keys = [held.partition for held in health.held]
        reason = health.held[-1].reason.removeprefix(f"{keys[-1]}: ")  # what validation says begins with it
        newest = f"{keys[-1]}: {cut(reason, REASON_CHARACTERS)}"
        what = f"{_count(len(keys), 'partition')} in quarantine, to be mended or readmitted; {newest}"
        yield Note(what, f"{links.problem(name)}?kind=partition#at-ledger")
    if health.release and health.release.is_held:
        yield Note(f"The release of version {health.release.challenger} is held by hand, to be resumed or ended")
    if health.missed:
        yield Note(health.missed)


def _failed(run: Run) -> str:
    where = f" of {run.partition}" if run.partition else ""
    tasks = f" (task {', '.join(run.tasks)})" if run.tasks else ""
    return f"Failed run: {run.dag}{where}{tasks}"


def _looks(name: str, health: Health | None, in_flight: InFlight, links: Links, now: datetime) -> Iterator[Note]:
    if health is None or not has_begun(health):
        return
    if in_flight.paused:
        href = links.dag(name, in_flight.paused[0])
        yield Note(f"Paused, nothing starts them: {', '.join(in_flight.paused)}", href, is_outside=True)
    if beyond := beyond_gate(health):
        yield Note(f"{health.metric} {figure(beyond.realised)} of {beyond.partition}: the gate asks for {gate(health)}")
    judged = health.judged
    if judged and judged.action == Action.ALERT:
        what = f"{judged.verdict} at {judged.partition}: {cut(judged.reason, REASON_CHARACTERS)}"
        yield Note(what, links.monitoring(name, judged.partition))
    if health.failed_gate:
        failed = health.failed_gate
        href = links.page(name, f"evaluations/{failed.training}.html")
        yield Note(f"Gate failed at {failed.partition}: {cut(failed.reason, REASON_CHARACTERS)}", href)
    for source in filter(lambda source: source.is_behind, health.sources):
        yield Note(f"Source {source.name} {in_words(source, health)}", f"{links.problem(name)}#at-sources")
    if health.next_due and not health.lies_in_past and health.next_due + GRACE < now:
        yield Note(f"The next partition was due {ago(health.next_due, now)}")


def _goes_on(name: str, health: Health | None, in_flight: InFlight, links: Links) -> Iterator[Note]:
    for run in in_flight.running:
        yield Note(_on(run, "Running"), links.run(name, run.dag, run.run_id), is_outside=True)
    if in_flight.waiting:
        yield Note(f"In line: {', '.join(in_flight.waiting)}")
    if health is None:
        return
    if release := health.release:
        yield Note(f"Release of version {release.challenger}: {release.where}. Next: {release.next_step}")
    if health.waiting:
        yield Note(f"Versions in line for a release: {', '.join(health.waiting)}")


def _on(run: Run, word: str) -> str:
    what = "training" if run.dag == "train" else run.dag
    return f"{word}: {what}" + (f" of {run.partition}" if run.partition else "")


def has_begun(health: Health) -> bool:
    return health.champion is not None or health.newest("events") is not None


def beyond_gate(health: Health) -> Point | None:
    """The newest labelled partition, where its metric is not what the gate asks for."""
    newest = newest_realised(health)
    if newest is None or newest.realised is None or health.gate is None:
        return None
    is_beyond = newest.realised < health.gate if health.higher_is_better else newest.realised > health.gate
    return newest if is_beyond else None


def newest_realised(health: Health) -> Point | None:
    return next((point for point in reversed(health.points) if point.realised is not None), None)


def gate(health: Health) -> str:
    """What the gate asks of the metric, in words."""
    return f"at {'least' if health.higher_is_better else 'most'} {figure(health.gate)}"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago, or in how long, to the largest unit.

    >>> from datetime import UTC
    >>> now = datetime(2026, 1, 10, tzinfo=UTC)
    >>> ago(now - timedelta(seconds=20), now), ago(now - timedelta(hours=5), now), ago(now + timedelta(days=2), now)
    ('just now', '5 hours ago', 'in 2 days')
    """
    seconds = (now - moment).total_seconds()
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if count := int(abs(seconds) // length):
            return f"{_count(count, unit)} ago" if seconds > 0 else f"in {_count(count, unit)}"
    return "just now"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def summed_up(made: Sequence[Row]) -> str:
    """How many stand how, in a line.

    >>> summed_up([])
    'no problem'
    """
    counts = {standing: sum(row.standing is standing for row in made) for standing in Standing}
    words = [f"{standing.in_words}: {count}" for standing, count in counts.items() if count]
    return ", ".join(words) or "no problem"
