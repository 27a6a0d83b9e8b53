"""The commands about releases: `evergreen release`, and `evergreen status --on`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.arguments import AsJson, ProblemName, Reason
from pipelines.cli.terminal import console, escape, print_json
from pipelines.config import day_or_hour
from pipelines.config.release import share_in_words
from pipelines.embedded import load_environment
from pipelines.errors import ConfigError, DataError
from pipelines.problem import Problem, load_problem

if TYPE_CHECKING:
    from pipelines.cli.results import ReleaseRow, Served
    from pipelines.ledger import Decision

SHOWN = 160  # characters of a reason


def release(
    problem_name: ProblemName,
    promote: Annotated[bool, typer.Option("--promote", help="let the challenger serve everything now")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="end the release; the champion goes on serving")] = False,
    hold: Annotated[bool, typer.Option("--hold", help="stay on this rung until it is resumed")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on, if it was held; ask again what was asked")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """How far a release has come, and on what evidence; or decide about it by hand, with a reason, on the ledger.

    Example:
        evergreen release flight_delay
        evergreen release flight_delay --abort --reason "the airline has asked us to wait"
    """
    from pipelines.health.kept import try_to_keep

    wanted = [name for name, is_wanted in _by_hand(promote, abort, hold, resume).items() if is_wanted]
    if len(wanted) > 1:
        raise ConfigError(f"--{' and --'.join(wanted)} do not go together", where="evergreen release", cure="give one")
    load_environment()
    problem = load_problem(problem_name)
    if wanted:
        _decide(problem, wanted[0], reason)
        try_to_keep(problem_name)
    _show(problem, as_json)


def _by_hand(promote: bool, abort: bool, hold: bool, resume: bool) -> dict[str, bool]:
    return {"promote": promote, "abort": abort, "hold": hold, "resume": resume}


def _decide(problem: Problem, what: str, reason: str) -> None:
    from pipelines import tracking
    from pipelines.asof.ingested import ingested
    from pipelines.release import ladder, steps

    if not reason:
        raise ConfigError("the ledger needs a reason", where="--reason", cure="say why in a few words: it is kept")
    rollout = ladder.read(problem).current
    if rollout is None:
        raise DataError(
            "no release is under way",
            where=f"problem {problem.name}",
            cure=f"one begins when a version passes its gate ({problem.name}.train), where `release.path` has steps",
        )
    serves = str(tracking.serving(problem).version)
    partition = max([rollout.began, *ingested(problem)])
    if serves not in (rollout.champion, rollout.challenger):
        steps.end(problem, rollout, "overtaken", partition, f"version {serves} serves by now")
        raise DataError(
            f"release {rollout.name} has ended: version {serves} serves",
            where=f"registered model {problem.name}, alias champion",
            cure="nothing is left to decide",
        )
    match what:
        case "promote":
            steps.promote(problem, rollout, partition, reason, steps.BY_HAND)
        case "abort":
            steps.end(problem, rollout, "aborted", partition, reason, approved_by=steps.BY_HAND)
        case "hold":
            steps.hold(problem, rollout, partition, reason)
        case _:
            steps.resume(problem, rollout, partition, reason)


def _show(problem: Problem, as_json: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from pipelines.cli.results import ReleaseRow, Releases
    from pipelines.release import ladder

    releases = ladder.read(problem)
    rows = [_row(row) for rollout in releases.rollouts for row in rollout.rows]
    if as_json:
        current = releases.current
        print_json(Releases(current=current.name if current else None, rows=rows))
        return
    for rollout in releases.rollouts[-1:]:
        state = rollout.here.in_words if rollout.state == "under way" else rollout.state
        held = ", held" if rollout.is_held else ""
        asked = f", asked since {rollout.question.partition}" if rollout.question else ""
        console.print(
            f"version {rollout.challenger} against version {rollout.champion}: [bold]{state}[/]{held}{asked}\n"
            f"  {' → '.join(rung.in_words for rung in rollout.settings.rungs)}\n  {escape(rollout.reason)}"
        )
    if releases.waiting:
        console.print(f"waiting: {', '.join(f'version {contender.version}' for contender in releases.waiting)}")
    if not rows:
        console.print("no release has begun yet")
        return
    table = Table(title=f"{problem.name}: releases", title_justify="left", box=SIMPLE_HEAD)
    for name in ReleaseRow.model_fields:
        table.add_column(name)
    for row in rows:
        table.add_row(*(escape(_cut(value)) for _, value in row))
    console.print(table)


def _row(row: Decision) -> ReleaseRow:
    """A row of the ledger, as the command shows it."""
    from pipelines.cli.results import ReleaseRow

    evidence = row["evidence"]
    return ReleaseRow(
        release=evidence["release"],
        partition=row["partition"],
        action=row["action"],
        verdict=row["verdict"],
        by=evidence.get("user") or evidence.get("approved_by") or "",
        reason=row["reason"],
    )


def _cut(text: str) -> str:
    """What fits into a table; the ledger, and `--json`, have all of it."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def served_on(problem: Problem, day: str) -> Served:
    """Which versions served the partition of a day, at which shares, why, and who approved."""
    from pipelines import deliveries, summary
    from pipelines.cli.results import Served, ServedVersion

    try:
        parts = problem.partitions
        key = deliveries.named(problem, day) if parts.by_delivery else parts.last_of(day_or_hour(day))
    except ValueError as error:
        raise ConfigError(f"{day!r} is no date", where="--on", cure="give a day such as 2013-05-20") from error
    versions = [ServedVersion(**asdict(version)) for version in summary.served(problem, key)]
    return Served(problem=problem.name, partition=key, versions=versions)


def show_served(problem: Problem, served: Served) -> None:
    """What `served_on` gave, as a table."""
    from rich.table import Table

    every, key = problem.partitions.every, served.partition
    if not served.versions:
        console.print(f"{problem.name}: nothing was scored for the {every} of {key}")
        return
    table = Table(title=f"{problem.name}, {every} of {key}", title_justify="left")
    for name in ("version", "as", "rows", "share", "serves since", "approved by", "why"):
        table.add_column(name)
    for version in served.versions:
        table.add_row(
            version.version,
            version.variant,
            f"{version.rows:,}",
            "" if version.share is None else share_in_words(version.share),
            version.since,
            version.approved_by,
            escape(_cut(version.reason)),
        )
    console.print(table)
