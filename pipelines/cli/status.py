"""The command `evergreen status`: what serves, or what served a day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli import completion
from pipelines.cli.arguments import AsJson
from pipelines.cli.places import print_places
from pipelines.cli.progress import working
from pipelines.cli.terminal import console, escape, notices, print_json
from pipelines.embedded import load_environment
from pipelines.problem import Problem, load_problem
from pipelines.problem_folders import place_faults, problem_names

if TYPE_CHECKING:
    from pipelines.cli.results import State
    from pipelines.health.document import Health


def status(
    problem_name: Annotated[
        str | None,
        typer.Argument(help="default: all of them", metavar="[PROBLEM]", autocompletion=completion.problems),
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="a day, such as 2013-05-20: which version served its partition, and why")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What serves, since when, how fresh its data is, and what monitoring said last; Health in Airflow shows it too.

    Example:
        evergreen status flight_delay
        evergreen status flight_delay --on 2013-05-20
    """
    from pipelines.cli import releases
    from pipelines.cli.results import Served
    from pipelines.health.kept import kept_or_derived

    load_environment()
    names, faults = ([problem_name], []) if problem_name else (problem_names(), place_faults())
    if faults and not names:
        raise faults[0]
    for fault in faults:
        notices.print(f"[yellow]{escape(f'{fault.where}: {fault.what}')}[/]")
    states: list[State | Served] = []
    for name in names:
        problem = load_problem(name)
        if on is not None:
            with working(name, quiet=as_json):
                served = releases.served_on(problem, on)
            states.append(served)
            if not as_json:
                releases.show_served(problem, served)
            continue
        with working(name, quiet=as_json):
            health = kept_or_derived(problem)
            failed = None if health.champion else _failed_training(problem, health)
        states.append(_state(health, failed))
        if not as_json:
            _show(problem, health, failed)
    if as_json:
        print_json(states)


def _failed_training(problem: Problem, health: Health) -> str | None:
    """How the last training failed, and where to look; None: it did not, or there was none."""
    from pipelines.errors import GateFailed
    from pipelines.paths import evaluation_uri
    from pipelines.usage.table import tries
    from pipelines.usage.trainings import failed_training

    attempt = failed_training(tries(problem))
    if attempt is None:
        return None
    if attempt.reason == GateFailed.__name__ and health.failed_gate:
        page = evaluation_uri(problem, health.failed_gate.training, "html")
        return f"the gate refused the last training: {health.failed_gate.reason}; look at {page}"
    stage = f"{attempt.stage} {attempt.part}" if attempt.part else attempt.stage
    log = f"the task's log in Airflow, run {attempt.run} of {problem.name}.train"
    look = "what `evergreen run` said" if attempt.is_local else log
    return (
        f"the last training failed in {stage} at {attempt.ended:%Y-%m-%d %H:%M} UTC ({attempt.reason}); look at "
        f"{look}, or train again: evergreen run train {problem.name}"
    )


def _state(health: Health, failed: str | None) -> State:
    from pipelines.cli.results import SourceState, State
    from pipelines.health.freshness import in_words

    champion, judged = health.champion, health.judged
    return State(
        problem=health.problem,
        version=champion.version if champion else None,
        failed_training=failed,
        since=champion.since if champion else None,
        trained_on=champion.trained_on if champion else None,
        release=health.release.in_words if health.release else None,
        newest={table.name: table.partition for table in health.tables},
        sources=[
            SourceState(
                source=source.name,
                newest=source.newest,
                columns=source.columns,
                arrived=source.arrived,
                behind=in_words(source, health) if source.is_behind else None,
            )
            for source in health.sources
        ],
        missed=health.missed,
        verdict=judged.verdict if judged else None,
        reason=judged.reason if judged else None,
        cost_a_partition=health.cost.per_partition if health.cost else None,
        currency=health.cost.unit if health.cost else None,
    )


def _show(problem: Problem, health: Health, failed: str | None) -> None:
    from rich.table import Table

    from pipelines import deliveries
    from pipelines.health.freshness import in_words, reaches, shown
    from pipelines.html.wording import figure

    name, champion, judged = problem.name, health.champion, health.judged
    table = Table(title=name, show_header=False, title_justify="left")
    if champion is None:
        table.add_row("serves", escape(f"nothing yet: {failed or f'run {name}.ingest, then {name}.train'}"))
    else:
        table.add_row("serves", f"version {champion.version}, since {champion.since:%Y-%m-%d %H:%M} UTC")
        known = escape(deliveries.shown(problem, champion.trained_on or ""))
        table.add_row("trained on", f"what was known at the end of {known}")
    if health.release:
        table.add_row("release", f"{health.release.in_words}; evergreen release {name}")
    for fresh in health.tables:
        newest = escape(deliveries.shown(problem, fresh.partition)) if fresh.partition else "none yet"
        table.add_row(f"newest {fresh.name}", newest)
    for source in health.sources:
        words = f"behind: {in_words(source, health)}" if source.is_behind else reaches(source)
        if source.arrived:
            words += f" (file or message of {shown(source.arrived)})"
        table.add_row(f"source {escape(source.name)}", escape(words))
    if health.missed:
        table.add_row("missed", escape(health.missed))
    table.add_row("last verdict", escape(f"{judged.verdict}: {judged.reason}") if judged else "none yet")
    if health.cost:
        each = f"{figure(health.cost.per_partition)} {health.cost.unit}"
        table.add_row("cost a partition", f"{escape(each)}; evergreen cost {name}")
    console.print(table)
    print_places(problem, judged.partition if judged else None)
