"""The command `evergreen cost`: what a problem's tasks have used, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.arguments import AsJson, ProblemName
from pipelines.cli.progress import working
from pipelines.cli.terminal import console, escape, print_json
from pipelines.embedded import load_environment
from pipelines.errors import EvergreenError
from pipelines.problem import Problem, load_problem

if TYPE_CHECKING:
    from pipelines.cli.results import Costs, CostSum, KilledTry
    from pipelines.usage import Try
    from pipelines.usage.costs import Sum

MIB = 2**20


def cost(
    problem_name: ProblemName,
    last: Annotated[int, typer.Option(min=1, help="how many partitions, runs and killed tries to show")] = 10,
    as_json: AsJson = False,
) -> None:
    """Say what a problem's tasks used, and what it cost: by DAG, partition and run, and of 1,000 predictions.

    Every try of a task is measured, killed ones too, with Airflow and without. Prices stand in prices.yaml, beside the
    problems' folders.

    Example:
        evergreen cost flight_delay
        evergreen cost flight_delay --last 52 --json
    """
    from pipelines.usage.table import tries

    load_environment()
    problem = load_problem(problem_name)
    with working(problem_name, quiet=as_json):
        _write_noted(problem)
        costs = _costs(problem, tries(problem), last)
    if as_json:
        print_json(costs)
    else:
        _show(costs)


def _write_noted(problem: Problem) -> None:
    """What is only noted on this machine becomes rows. Who may only read the store is told of it all the same."""
    from pipelines.usage.table import write_noted

    try:
        write_noted(problem)
    except EvergreenError:
        return


def _costs(problem: Problem, tries: Sequence[Try], last: int) -> Costs:
    from pipelines.cli.results import Costs
    from pipelines.usage.costs import by_partition, of_partition, of_predictions, summed
    from pipelines.usage.prices import load_prices

    prices = load_prices()
    partition, predictions = of_partition(tries, prices), of_predictions(tries, prices)
    killed = [attempt for attempt in tries if attempt.outcome == "killed"]
    return Costs(
        problem=problem.name,
        currency=prices.currency,
        prices=prices.model_dump(exclude={"currency"}),
        cost=sum(map(prices.of, tries)),
        partition=partition.cost if partition else None,
        thousand_predictions=predictions.partitions if predictions else None,
        thousand_predictions_all_in=predictions.all_in if predictions else None,
        dags=_sums(summed(tries, prices, lambda attempt: attempt.dag)),
        partitions=_sums(by_partition(tries, prices)[-last:]),
        runs=_sums(summed(tries, prices, lambda attempt: f"{attempt.dag} {attempt.run}")[-last:]),
        killed_tries=[_killed(attempt) for attempt in killed[-last:]],
    )


def _sums(totals: Sequence[Sum]) -> list[CostSum]:
    from pipelines.cli.results import CostSum

    return [CostSum(**total._asdict()) for total in totals]


def _killed(attempt: Try) -> KilledTry:
    from pipelines.cli.results import KilledTry

    return KilledTry(
        stage=attempt.stage,
        run=attempt.run,
        try_number=attempt.try_number,
        partition=attempt.partition,
        host=attempt.host,
        started=attempt.started_time,
        wall_s=attempt.wall_s,
        cpu_s=attempt.cpu_s,
        peak_bytes=attempt.peak_bytes,
        reason=attempt.reason or "",
    )


def _show(costs: Costs) -> None:
    if not costs.dags:
        console.print(f"{costs.problem}: no task has been measured yet")
        return
    for title, name, totals in (
        (costs.problem, "DAG", costs.dags),
        ("newest partitions, from ingest to page", "partition", costs.partitions),
        ("newest runs", "run", costs.runs),
    ):
        if totals:
            _print(title, name, totals, costs.currency)
    for attempt in costs.killed_tries:
        what = f"{attempt.stage}, try {attempt.try_number} of {attempt.run}: {attempt.reason}"
        known = f"after {attempt.wall_s:,.0f} s and {attempt.cpu_s:,.0f} CPU s, {attempt.peak_bytes / MIB:,.0f} MiB"
        when = f"{attempt.started:%Y-%m-%d %H:%M} UTC on {attempt.host}"
        console.print(f"[yellow]killed[/]  {escape(f'{what}, {known}; began {when}')}", soft_wrap=True)
    for what, each in (
        ("all that was measured", costs.cost),
        ("a partition, on average of the newest", costs.partition),
        ("1,000 predictions", costs.thousand_predictions),
        ("1,000 predictions, all in", costs.thousand_predictions_all_in),
    ):
        if each is not None:
            console.print(f"{what:<46} {each:>12,.4g} {escape(costs.currency)}")


def _print(title: str, name: str, totals: Sequence[CostSum], currency: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(name, overflow="fold")
    for column in ("tries", "failed", "killed", "wall s", "CPU s", "most MiB", "requests", currency):
        table.add_column(escape(column), justify="right", no_wrap=True)
    for total in totals:
        table.add_row(
            escape(total.name),
            f"{total.tries:,}",
            f"{total.failed:,}",
            f"{total.killed:,}",
            f"{total.wall_s:,.1f}",
            f"{total.cpu_s:,.1f}",
            f"{total.peak_bytes / MIB:,.0f}",
            f"{total.requests:,}",
            f"{total.cost:,.4g}",
        )
    console.print(table)
