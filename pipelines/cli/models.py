"""The commands about models: `evergreen reproduce`, `curves`, `roll-back` and `fall-back`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipelines.embedded import load_environment
from pipelines.errors import ConfigError
from pipelines.problem import Problem, load_problem

console = Console(highlight=False, soft_wrap=True)


def reproduce(
    version: Annotated[
        str, typer.Argument(help="problem and version, such as flight_delay@7", metavar="PROBLEM@VERSION")
    ],
) -> None:
    """Make a version again from its lineage and compare predictions on its gate's rows; exits with 1 if they differ.

    Example:
        evergreen reproduce flight_delay@1
    """
    from pipelines.release.reproduce import reproduce as make_again

    problem_name, at, number = version.partition("@")
    if not (at and number.isdigit()):
        raise ConfigError(
            f"{version!r} names no version", where="evergreen reproduce", cure="give one such as flight_delay@7"
        )
    load_environment()
    made = make_again(problem_name, number)
    if made.identical:
        console.print(f"[green]identical[/]  {escape(version)}: {made.rows:,} predictions are equal to the last bit")
    else:
        console.print(
            f"[bold red]different[/]  {escape(version)}: {made.rows:,} predictions, which differ by up to "
            f"{made.max_difference:.3g}"
        )
    if made.builds_on:
        console.print(
            f"  it goes on from version {made.builds_on}, taken as it is kept: see `evergreen reproduce "
            f"{escape(problem_name)}@{made.builds_on}`"
        )
    for line in made.differences:
        console.print(f"  {escape(line)}")
    if not made.differences:
        console.print("  data, config, code, packages and machine are those that it was made with")
    if not made.identical:
        raise typer.Exit(1)


def curves(
    problem_name: Annotated[str, typer.Argument(help="name of a folder under include/problems", metavar="PROBLEM")],
    candidate: Annotated[str | None, typer.Option(help="default: the champion's")] = None,
    to: Annotated[Path | None, typer.Option(help="file for the page, too")] = None,
) -> None:
    """Learning curves: what more rows would bring, and how old they may be. Fits a dozen models; logged to MLflow.

    Example:
        evergreen curves flight_delay --candidate xgboost --to curves.html
    """
    from pipelines import tracking
    from pipelines.cli.curves import curves as measured
    from pipelines.training.curves import curve_page

    load_environment()
    problem = load_problem(problem_name)
    if candidate is None:
        champion = tracking.champion(problem)
        if champion is None:
            raise ConfigError("no champion serves yet", where="--candidate", cure="name one of training.candidates")
        candidate = str(champion.tags["candidate"])
    if candidate not in problem.training.candidates:
        known = ", ".join(problem.training.candidates)
        raise ConfigError(f"{candidate!r} is not a candidate", where="--candidate", cure=f"one of {known}")
    table = measured(problem_name, candidate)
    page = curve_page(table, problem, candidate)
    run_id = tracking.log_files(
        problem, f"learning curves of {candidate}", tags={"curves": candidate}, files={"curves.html": page}
    )
    if to is not None:
        to.write_bytes(page)
    for row in table.to_pylist():
        size = f"{row['size']:.0%} of the rows" if row["kind"] == "rows" else f"newest {row['size']:g} partitions"
        value = "-" if row["value"] is None else f"{row['value']:.4f}"
        console.print(f"{size:<24} {row['rows']:>9,} rows   {problem.training.select_by} {value}")
    console.print(f"MLflow run {run_id}, curves.html")


ProblemName = Annotated[str, typer.Argument(help="name of a folder under include/problems", metavar="PROBLEM")]
Reason = Annotated[str, typer.Option(help="why, for the ledger")]


def roll_back(problem_name: ProblemName, reason: Reason = "") -> None:
    """Let the version serve again that served before the champion, at once.

    Example:
        evergreen roll-back flight_delay --reason "the new version fails on cancelled flights"
    """
    from pipelines.release import switch

    problem, partition = _now(problem_name, reason)
    done = switch.roll_back(problem, partition, reason)
    console.print(f"version {done.version} serves again, in place of {done.replaced}")


def fall_back(problem_name: ProblemName, reason: Reason = "") -> None:
    """Let the best baseline serve, at once, until a challenger passes the gate.

    Example:
        evergreen fall-back flight_delay --reason "no version is right any more"
    """
    from pipelines.release import switch

    problem, partition = _now(problem_name, reason)
    done = switch.fall_back(problem, partition, reason)
    name = escape(str(done.candidate))
    console.print(f"version {done.version}, the baseline {name}, serves in place of {done.replaced}")


def _now(problem_name: str, reason: str) -> tuple[Problem, str]:
    """The problem, and its newest partition, that the decision is written down with."""
    from pipelines.asof.ingested import ingested

    if not reason:
        raise ConfigError("the ledger needs a reason", where="--reason", cure="say why in a few words: it is kept")
    load_environment()
    problem = load_problem(problem_name)
    newest = max(ingested(problem), default=problem.partitions.first_key)
    return problem, newest
