"""Where a person looks on: Health, the runs of a problem side by side, and what monitoring said last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from pipelines.health.links import Links
from pipelines.problem import Problem


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

    # What people reach Airflow by may be another address than what a container does.
    airflow = os.environ.get("AIRFLOW__API__BASE_URL") or os.environ.get("EVERGREEN_AIRFLOW_URL", "")
    airflow = airflow.rstrip("/")
    if airflow:
        yield Place("Health", f"{airflow}/plugin/health")
    if runs := comparison(problem):
        yield Place("Comparison", runs)
    if airflow and monitored:
        yield Place("Monitoring", Links(f"{airflow}/evergreen/", None).monitoring(problem.name, monitored))


def print_places(problem: Problem, monitored: str | None) -> None:
    """A line for each page, whole, to be clicked."""
    from pipelines.cli.terminal import console, escape

    for place in places(problem, monitored):
        console.print(f"{place.name:<13} [bold cyan]{escape(place.address)}[/]", soft_wrap=True)
