"""Where a person looks on: Health, the runs of a problem side by side, and what monitoring said last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipelines.problem import Problem
from pipelines.surroundings import airflow_address, evidence_page


class Place(NamedTuple):
    """A page, by its address."""

    name: str
    address: str


def places(problem: Problem, monitored: str | None) -> Iterator[Place]:
    """The pages about a problem that are there.

    Args:
        problem: that they are about.
        monitored: partition that monitoring looked at last; None: it has not looked at any.
    """
    from pipelines.tracking.pages import comparison

    if airflow := airflow_address():
        yield Place("Health", f"{airflow}/plugin/health")
    if runs := comparison(problem.name):
        yield Place("Comparison", runs)
    if monitored and (page := evidence_page(problem.name, f"reports/{monitored}/monitoring.html")):
        yield Place("Monitoring", page)


def print_places(problem: Problem, monitored: str | None) -> None:
    """A line for each page, whole, to be clicked."""
    from pipelines.cli.terminal import console, escape

    for place in places(problem, monitored):
        console.print(f"{place.name:<13} [bold cyan]{escape(place.address)}[/]", soft_wrap=True)
