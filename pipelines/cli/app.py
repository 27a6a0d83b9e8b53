"""`evergreen`: what a person runs by hand. Every error is a message, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer.exceptions import TyperException

from pipelines.cli import check, cost, data, maintain, metrics, models, monitoring, new, releases, run, status
from pipelines.cli.arguments import ProblemName
from pipelines.cli.exits import ExitCode, exit_code
from pipelines.cli.terminal import Commands, console, escape, notice_json, notices, print_json, wants_json
from pipelines.embedded import Embedded, default_home, load_environment, stop_running
from pipelines.errors import ConfigError, EvergreenError, NothingToDo
from pipelines.problem import Problem, load_problem

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.cli.replay import Finished
    from pipelines.embedded.stack import Stack

app = Commands(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Keep a model right after the day it was trained.\n\nExample:\n    evergreen demo",
)


def main() -> None:
    """The console script: run a command; whatever goes wrong is said in a few lines, or as JSON with --json."""
    code = ExitCode.DONE
    # As for tasks: threads that spin while they wait for work slow down what runs beside them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(standalone_mode=False) or ExitCode.DONE
    except NothingToDo as reason:
        _tell_nothing(reason)
    except EvergreenError as error:
        code = exit_code(error)
        _tell_error(error)
    except TyperException as error:  # a command, an argument, an option that there is not
        code = ExitCode.USAGE
        _tell_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except Exception as error:
        code = ExitCode.WRONG
        _tell_fault(error)
    if code == ExitCode.INTERRUPTED:
        _tell_interrupted()
    sys.exit(code)


def _tell_nothing(reason: NothingToDo) -> None:
    if wants_json():
        from pipelines.cli.results import Nothing

        print_json(Nothing.of(reason))
    else:
        notices.print(f"[yellow]{reason.heading}:[/] {escape(str(reason))}")


def _tell_error(error: EvergreenError) -> None:
    if wants_json():
        from pipelines.cli.results import Failure

        notice_json(Failure.of(error))
    else:
        notices.print(f"[bold red]error:[/] {escape(str(error))}")


def _tell_usage(error: TyperException) -> None:
    from typer.rich_utils import rich_format_error

    if not wants_json():
        rich_format_error(error)  # type: ignore[arg-type]
        return
    from pipelines.cli.results import Failure

    context = getattr(error, "ctx", None)
    command = context.command_path if context else "evergreen"
    notice_json(
        Failure(error="UsageError", what=error.format_message(), where=command, next=f"`{command} --help` says what is")
    )


def _tell_fault(error: Exception) -> None:
    what = f"a fault of Evergreen itself, not of your data: {error!r}"
    if wants_json():
        from pipelines.cli.results import Failure

        notice_json(Failure(error="Fault", what=what, where="", next="report it with what is said without --json"))
        return
    notices.print_exception(max_frames=8)
    notices.print(f"[bold red]error:[/] {escape(what)}")
    notices.print("  next:  report it with the lines above")


def _tell_interrupted() -> None:
    if wants_json():
        from pipelines.cli.results import Failure

        notice_json(Failure(error="Interrupted", what="stopped by Ctrl-C", where="", next="run it again"))
    else:
        notices.print("stopped")


@app.command()
def up() -> None:
    """Start the embedded services (Airflow, MLflow, object store) and keep them up until Ctrl-C.

    Example:
        evergreen up
    """
    with _services() as embedded:
        _print_addresses(embedded, embedded.home / "secrets.json")
        _wait(embedded, "Ctrl-C stops everything.")


@app.command()
def stack(
    hosts: Annotated[int, typer.Option(min=1, max=50, help="hosts with a Celery worker")] = 2,
) -> None:
    """Run the services of docker-compose.yaml without Docker, on this system's PostgreSQL and Redis, until Ctrl-C.

    As root each service has a host of its own: a network namespace. What is missing is installed with apt then.

    Example:
        evergreen stack --hosts 3
    """
    from pipelines.embedded.stack import Stack

    with Stack(workers=hosts) as services:
        services.start(lambda line: console.print(f"[dim]{escape(line)}[/]"))
        _print_addresses(services, services.secrets_file)
        console.print(f"In another terminal: [bold]EVERGREEN_HOME={escape(str(services.home))} evergreen replay ...[/]")
        _wait(services, "Ctrl-C stops everything.")


@app.command()
def down() -> None:
    """Stop the embedded services, and those of `evergreen stack`, whichever terminal started them.

    Example:
        evergreen down
    """
    ended = [stop_running(home) for home in (default_home(), default_home() / "stack")]
    console.print("stopped" if any(ended) else "nothing was running")


@app.command()
def demo(
    problem_name: ProblemName = "flight_delay",
    until: Annotated[
        str | None, typer.Option(help="last partition to play; default: replay.until of problem.yaml")
    ] = None,
    stay: Annotated[bool, typer.Option(help="stay up after the summary, until Ctrl-C")] = True,
) -> None:
    """Start the embedded services and run the whole loop on real data, partition by partition.

    A second demo goes on from what is there.

    Example:
        evergreen demo
        evergreen demo flight_delay --until 2013-04-22 --no-stay
    """
    problem = load_problem(problem_name)
    with _services() as embedded:
        _play(problem, until)
        _print_summary(problem)
        _print_addresses(embedded, embedded.home / "secrets.json")
        _print_places(problem)
        if stay:
            _wait(embedded, "The services stay up; Ctrl-C stops everything.")


@app.command()
def replay(
    problem_name: ProblemName,
    until: Annotated[str | None, typer.Option(help="day up to which to play, such as 2013-12-31")] = None,
) -> None:
    """Play more of a problem's past through the running services, partition by partition.

    Needs the services: `evergreen up` in another terminal, or your own by EVERGREEN_AIRFLOW_URL.

    Example:
        evergreen replay flight_delay --until 2013-12-31
    """
    load_environment()
    problem = load_problem(problem_name)
    _play(problem, until)
    _print_summary(problem)
    _print_places(problem)


# What lies in the other modules comes after what starts and runs things, in this order in `--help` too.
app.command()(status.status)
app.command()(check.check)
app.command()(run.run)
app.command()(new.new)
app.add_typer(data.quarantine, name="quarantine")
app.command()(data.rebuild)
app.command()(models.reproduce)
app.command()(models.curves)
app.command("roll-back")(models.roll_back)
app.command("fall-back")(models.fall_back)
app.command()(releases.release)
app.command()(monitoring.decide)
app.command()(cost.cost)
app.command()(metrics.metrics)
app.command()(maintain.doctor)
app.command()(maintain.vacuum)
app.command()(maintain.backup)
app.command()(maintain.restore)


def _play(problem: Problem, until: str | None) -> None:
    """History, first model, then every partition up to `until`, with a progress bar and a line per stage."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from pipelines.cli import replay
    from pipelines.cli.airflow_client import AirflowClient
    from pipelines.config import day_or_hour

    if problem.replay is None:
        raise ConfigError(
            f"{problem.name} has no past to play",
            where=str(problem.folder / "problem.yaml"),
            cure="add `replay:` with history_until and until",
        )
    parts = problem.partitions
    try:
        last = parts.last_of(day_or_hour(until) if until else problem.replay.until)
    except ValueError as error:
        raise ConfigError(f"{until!r} is no date", where="--until", cure="give a day such as 2013-12-31") from error
    if parts.last_key and last > parts.last_key:
        raise ConfigError(
            f"{until} lies after the last partition, {parts.last}",
            where="--until",
            cure=f"give {parts.last} or earlier",
        )
    keys = parts.between(parts.shift(parts.last_of(problem.replay.history_until), 1), last)
    client = AirflowClient()
    replay.prepare(client, problem)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("history and first model", total=len(keys) + 1)
        tell = _teller(progress.console)
        replay.start(client, problem, tell)
        progress.advance(bar)
        progress.update(bar, description=problem.name)
        replay.play(client, problem, keys, tell, lambda _: progress.advance(bar))


def _teller(to: Console) -> Callable[[Finished], None]:
    marks = {"success": "[green]✓[/]", "skipped": "[dim]-[/]", "failed": "[red]✗[/]", "upstream_failed": "[dim]·[/]"}

    def tell(done: Finished) -> None:
        mark = marks.get(done.state, done.state)
        line = f"{mark} {done.partition:<10} {done.stage:<20} {done.seconds:5.1f} s  [dim]{escape(done.facts)}[/]"
        to.print(line, overflow="ellipsis", no_wrap=True)

    return tell


def _print_summary(problem: Problem) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from pipelines import deliveries, summary

    table = Table(title=f"{problem.name}, by {problem.partitions.every}", title_justify="left", box=SIMPLE_HEAD)
    for name in ("partition", "rows in", "quarantined", "scored", summary.headline(problem).upper()):
        table.add_column(name, justify="left" if name == "partition" else "right", no_wrap=True)
    for name in ("verdict", "action", "champion"):
        table.add_column(name)
    for row in summary.partitions(problem):
        action = f"{row.action} → {row.outcome}" if row.action and row.outcome else row.action or row.outcome
        action = "; ".join(part for part in (action, row.release) if part)
        style = "bold" if row.action == "retrain" else None
        table.add_row(
            escape(deliveries.shown(problem, row.partition)),
            f"{row.rows:,}",
            f"{row.quarantined:,}",
            f"{row.scored:,}" if row.scored else "",
            "" if row.quality is None else f"{row.quality:,.3f}",
            row.verdict,
            action,
            f"v{row.champion}" if row.champion else "",
            style=style,
        )
    console.print(table)


def _print_places(problem: Problem) -> None:
    """Where to look on, what monitoring said last among it."""
    from pipelines.cli.places import print_places
    from pipelines.health.kept import kept_or_derived

    judged = kept_or_derived(problem).judged
    print_places(problem, judged.partition if judged else None)


@contextmanager
def _services() -> Iterator[Embedded]:
    embedded = Embedded()
    with embedded:
        embedded.start(lambda line: console.print(f"[dim]{escape(line)}[/]"))
        os.environ.update(embedded.environment())
        yield embedded


def _wait(services: Embedded | Stack, word: str) -> None:
    """Stay up until Ctrl-C, which is how this is meant to end."""
    console.print(f"\n{word}")
    try:
        services.wait()
    except KeyboardInterrupt:
        console.print("stopping")


def _print_addresses(services: Embedded | Stack, secrets: Path) -> None:
    """Where the services are; their passwords at the first start alone, since a terminal's text lies about."""
    names = {"airflow": "Airflow", "mlflow": "MLflow", "store": "Object store"}
    for name, place in services.urls().items():
        password = f"password [bold]{place.password}[/]" if services.is_new else f"password in {escape(str(secrets))}"
        login = f"  user [bold]{place.user}[/]  {password}" if place.user else ""
        console.print(f"{names[name]:<13} [bold cyan]{place.url}[/]{login}", soft_wrap=True)


if __name__ == "__main__":
    main()
