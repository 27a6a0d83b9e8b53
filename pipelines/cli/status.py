"""The command `evergreen status`: what serves, or what served a day."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli import completion
from pipelines.cli.arguments import AsJson
from pipelines.cli.progress import working
from pipelines.cli.terminal import console, escape, print_json
from pipelines.embedded import load_environment
from pipelines.problem import Problem, load_problem, problem_names

if TYPE_CHECKING:
    from pipelines.summary import Status


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
    """What serves, since when, how fresh its data is, and what monitoring said last.

    Example:
        evergreen status flight_delay
        evergreen status flight_delay --on 2013-05-20
    """
    from pipelines import summary
    from pipelines.cli import releases
    from pipelines.cli.results import Served, State

    load_environment()
    states: list[State | Served] = []
    for name in [problem_name] if problem_name else problem_names():
        problem = load_problem(name)
        if on is not None:
            with working(name, quiet=as_json):
                served = releases.served_on(problem, on)
            states.append(served)
            if not as_json:
                releases.show_served(problem, served)
            continue
        with working(name, quiet=as_json):
            state = summary.status(problem)
        states.append(State(problem=name, **asdict(state)))
        if not as_json:
            _show(problem, state)
    if as_json:
        print_json(states)


def _show(problem: Problem, state: Status) -> None:
    from rich.table import Table

    from pipelines import deliveries

    name = problem.name
    table = Table(title=name, show_header=False, title_justify="left")
    if state.version is None:
        table.add_row("serves", f"nothing yet: run {name}.ingest, then {name}.train")
    else:
        assert state.since is not None
        table.add_row("serves", f"version {state.version}, since {state.since:%Y-%m-%d %H:%M} UTC")
        table.add_row(
            "trained on",
            f"what was known at the end of {escape(deliveries.shown(problem, state.trained_on or ''))}",
        )
    if state.release:
        table.add_row("release", f"{state.release}; evergreen release {name}")
    for kind, newest in state.newest.items():
        table.add_row(f"newest {kind}", escape(deliveries.shown(problem, newest)) if newest else "none yet")
    if state.missed:
        table.add_row("missed", escape(state.missed))
    table.add_row("last verdict", f"{state.verdict}: {state.reason}" if state.verdict else "none yet")
    console.print(table)
