"""The command `evergreen metrics`: how problems stand, for a Prometheus."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli import completion, terminal
from pipelines.embedded import load_environment
from pipelines.errors import ConfigError
from pipelines.problem import load_problem
from pipelines.problem_folders import problem_names


def metrics(
    problems: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROBLEM]...", help="default: all of them", autocompletion=completion.problems),
    ] = None,
) -> None:
    """Print how problems stand in Prometheus's text format: freshness, verdicts, champion, quarantine, tasks, cost.

    For a node exporter's textfile collector, or where there is no Airflow. Airflow's server has the same and more at
    /evergreen/metrics, for who has a token. Nothing is written.

    Example:
        evergreen metrics
        evergreen metrics flight_delay > /var/lib/node_exporter/evergreen.prom
    """
    from pipelines.health.exposition import exposition
    from pipelines.health.kept import derived

    load_environment()
    healths, broken = {}, None
    for name in problems or problem_names():
        try:
            healths[name] = derived(load_problem(name))
        except ConfigError as error:  # one that is wrong hides no other
            broken = error
    terminal.print_text(exposition(healths))
    if broken:
        raise broken
