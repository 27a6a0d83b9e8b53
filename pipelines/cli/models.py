"""The commands about models: `evergreen reproduce`, `curves`, `roll-back` and `fall-back`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli import completion
from pipelines.cli.arguments import AsJson, ProblemName, Reason
from pipelines.cli.exits import ExitCode
from pipelines.cli.progress import working
from pipelines.cli.terminal import console, escape, print_json
from pipelines.embedded import load_environment
from pipelines.errors import ConfigError
from pipelines.problem import Problem, load_problem

if TYPE_CHECKING:
    from pipelines.release.reproduce import Reproduced
    from pipelines.release.switch import Switch


def reproduce(
    version: Annotated[
        str,
        typer.Argument(
            help="problem and version, such as flight_delay@7",
            metavar="PROBLEM@VERSION",
            autocompletion=completion.versions,
        ),
    ],
    as_json: AsJson = False,
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
    with working(f"making {version} again", quiet=as_json) as work:
        made = make_again(problem_name, number, work.step)
    if as_json:
        from pipelines.cli.results import ReproducedVersion

        print_json(ReproducedVersion(problem=problem_name, version=number, **asdict(made)))
    else:
        _tell_made(version, problem_name, made)
    if not made.identical:
        raise typer.Exit(ExitCode.WRONG)


def _tell_made(version: str, problem_name: str, made: Reproduced) -> None:
    if made.identical:
        console.print(f"[green]identical[/]  {escape(version)}: {made.rows:,} predictions are equal to the last bit")
    else:
        console.print(
            f"[bold red]different[/]  {escape(version)}: {made.rows:,} predictions, which differ by up to "
            f"{made.max_difference:.3g}",
            soft_wrap=True,
        )
    if made.builds_on:
        console.print(
            f"  it goes on from version {made.builds_on}, taken as it is kept: see `evergreen reproduce "
            f"{escape(problem_name)}@{made.builds_on}`",
            soft_wrap=True,
        )
    for line in made.differences:
        console.print(f"  {escape(line)}", soft_wrap=True)
    if not made.differences:
        console.print("  data, config, code, packages and machine are those that it was made with")


def curves(
    problem_name: ProblemName,
    candidate: Annotated[
        str | None, typer.Option(help="default: the champion's", autocompletion=completion.candidates)
    ] = None,
    to: Annotated[Path | None, typer.Option(help="file for the page, too")] = None,
    as_json: AsJson = False,
) -> None:
    """Learning curves: what more rows would bring, and how old they may be. Fits a dozen models; logged to MLflow.

    Example:
        evergreen curves flight_delay --candidate xgboost --to curves.html
    """
    from pipelines import tracking
    from pipelines.cli.curves import curves as measured
    from pipelines.cli.results import CurvePoint, Curves
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
    with working(f"{problem_name}: learning curves of {candidate}", quiet=as_json) as work:
        table = measured(problem_name, candidate, work.step)
        page = curve_page(table, problem, candidate)
        run_id = tracking.log_files(
            problem, f"learning curves of {candidate}", tags={"curves": candidate}, files={"curves.html": page}
        )
    if to is not None:
        to.write_bytes(page)
    points = [CurvePoint.model_validate(row) for row in table.to_pylist()]
    metric = problem.training.select_by
    if as_json:
        print_json(Curves(problem=problem_name, candidate=candidate, metric=metric, run=run_id, points=points))
        return
    for point in points:
        size = f"{point.size:.0%} of the rows" if point.kind == "rows" else f"newest {point.size:g} partitions"
        value = "-" if point.value is None else f"{point.value:.4f}"
        console.print(f"{size:<24} {point.rows:>9,} rows   {metric} {value}")
    console.print(f"MLflow run {run_id}, curves.html")


def roll_back(problem_name: ProblemName, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let the version serve again that served before the champion, at once.

    Example:
        evergreen roll-back flight_delay --reason "the new version fails on cancelled flights"
    """
    from pipelines.health.kept import try_to_keep
    from pipelines.release import switch

    problem, partition = _now(problem_name, reason)
    with working(f"{problem_name}: rolling back", quiet=as_json):
        done = switch.roll_back(problem, partition, reason)
        try_to_keep(problem_name)
    _tell_switch(problem_name, done, f"version {done.version} serves again, in place of {done.replaced}", as_json)


def fall_back(problem_name: ProblemName, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let the best baseline serve, at once, until a challenger passes the gate.

    Example:
        evergreen fall-back flight_delay --reason "no version is right any more"
    """
    from pipelines.health.kept import try_to_keep
    from pipelines.release import switch

    problem, partition = _now(problem_name, reason)
    with working(f"{problem_name}: falling back", quiet=as_json):
        done = switch.fall_back(problem, partition, reason)
        try_to_keep(problem_name)
    text = f"version {done.version}, the baseline {done.candidate}, serves in place of {done.replaced}"
    _tell_switch(problem_name, done, text, as_json)


def _tell_switch(problem_name: str, done: Switch, text: str, as_json: bool) -> None:
    if not as_json:
        console.print(escape(text), soft_wrap=True)
        return
    from pipelines.cli.results import Switched

    print_json(Switched(problem=problem_name, **done._asdict()))


def _now(problem_name: str, reason: str) -> tuple[Problem, str]:
    """The problem, and its newest partition, that the decision is written down with."""
    from pipelines.asof.ingested import ingested

    if not reason:
        raise ConfigError("the ledger needs a reason", where="--reason", cure="say why in a few words: it is kept")
    load_environment()
    problem = load_problem(problem_name)
    newest = max(ingested(problem), default=problem.partitions.first_key)
    return problem, newest
