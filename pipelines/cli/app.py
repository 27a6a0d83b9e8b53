"""`evergreen`: what a person runs by hand. Every error is a message, never a traceback."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from pipelines.cli import data, models, monitoring, new, releases
from pipelines.embedded import Embedded, default_home, load_environment, stop_running
from pipelines.errors import ConfigError, EvergreenError, NothingToDo
from pipelines.handoffs.base import to_json
from pipelines.problem import Problem, load_problem, problem_names, undeclared_table

if TYPE_CHECKING:
    from pipelines.cli.replay import Finished

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Keep a model right after the day it was trained.\n\nExample:\n    evergreen demo",
)
WIDE = 160  # columns, where nobody looks at a terminal
console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

ProblemName = Annotated[str, typer.Argument(help="name of a folder under include/problems", metavar="PROBLEM")]


def main() -> None:
    """The console script: run a command; whatever goes wrong is said in a few lines, and exits with 1."""
    try:
        app()
    except NothingToDo as reason:
        console.print(f"[yellow]{reason.heading}:[/] {escape(str(reason))}")
    except EvergreenError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("stopped")
        sys.exit(130)
    except Exception as error:
        errors.print_exception(max_frames=8)
        errors.print(f"[bold red]error:[/] a fault of Evergreen itself, not of your data: {escape(repr(error))}")
        errors.print("  next:  report it with the lines above")
        sys.exit(1)


@app.command()
def up() -> None:
    """Start the embedded services (Airflow, MLflow, object store) and keep them up until Ctrl-C.

    Example:
        evergreen up
    """
    with _services() as embedded:
        _print_addresses(embedded)
        _wait(embedded, "Ctrl-C stops everything.")


@app.command()
def down() -> None:
    """Stop the embedded services, whichever terminal started them.

    Example:
        evergreen down
    """
    ended = stop_running(default_home())
    console.print("stopped" if ended else "nothing was running")


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
        _print_addresses(embedded)
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


@app.command()
def status(
    problem_name: Annotated[str | None, typer.Argument(help="default: all of them", metavar="[PROBLEM]")] = None,
    on: Annotated[
        str | None, typer.Option(help="a day, such as 2013-05-20: which version served its partition, and why")
    ] = None,
) -> None:
    """What serves, since when, how fresh its data is, and what monitoring said last.

    Example:
        evergreen status flight_delay
        evergreen status flight_delay --on 2013-05-20
    """
    from rich.table import Table

    from pipelines import deliveries, summary

    load_environment()
    for name in [problem_name] if problem_name else problem_names():
        problem = load_problem(name)
        if on is not None:
            releases.show_served(problem, on)
            continue
        state = summary.status(problem)
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


@app.command()
def check(
    problems: Annotated[list[str] | None, typer.Argument(metavar="[PROBLEM]...", help="default: all of them")] = None,
    quick: Annotated[bool, typer.Option(help="look at config, SQL and headers alone: read no rows")] = False,
) -> None:
    """Validate each problem.yaml, its SQL and what its sources hold: keys, gaps, labels. Exits with 1 if any is wrong.

    Rows are read as an ingest of the whole history would read them, and nothing is kept.

    Example:
        evergreen check flight_delay
        evergreen check --quick
    """
    names = problems or problem_names()
    if not names:
        raise ConfigError("there are no problems", where="include/problems", cure="add a folder with a problem.yaml")
    sound = [_is_sound(name, quick) for name in names]  # one problem that is wrong hides no other
    if not all(sound):
        raise typer.Exit(1)


def _is_sound(name: str, quick: bool) -> bool:
    """Print what there is to say of a problem, and whether it can be run."""
    from datetime import UTC, datetime

    from pipelines.ingest.look import Remark, check_sources, come_so_far, declaration, look, newest

    remarks: list[Remark] = []
    now = datetime.now(UTC)
    try:
        problem = load_problem(name)
        faults = check_sources(problem)
        if not (faults or quick):
            come = come_so_far(problem)
            last = newest(problem, come, now)
            remarks = look(problem, last, come) if last else []
    except EvergreenError as error:
        faults = [error]
        if not quick and (table := undeclared_table(name)):
            remarks = declaration(table, now)
    except Exception as error:  # of ours, and no reason to look at no other problem
        errors.print_exception(max_frames=8)
        console.print(
            f"[bold red]wrong[/]  {name}: a fault of Evergreen itself, not of your data: {escape(repr(error))}"
        )
        return False
    for fault in faults:
        console.print(f"[bold red]wrong[/]  {name}: {escape(str(fault))}")
    is_sound = not faults and all(remark.level != "wrong" for remark in remarks)
    if is_sound:
        console.print(
            f"[green]ok[/]     {name}: {len(problem.feature_names)} features, "
            f"{len(problem.training.candidates)} candidates, feature set {problem.feature_set}"
        )
    marks = {"wrong": f"[bold red]wrong[/]  {name}: ", "odd": "[yellow]look[/]   ", "fact": "       "}
    for remark in remarks:
        console.print(f"{marks[remark.level]}{escape(remark.text)}", soft_wrap=True)
    return is_sound


@app.command()
def run(
    stage: Annotated[
        str,
        typer.Argument(
            help="a DAG (ingest, train, annotate, score, monitor, release) or a stage, such as ingest.validate"
        ),
    ],
    problem_name: ProblemName,
    partition: Annotated[
        str,
        typer.Option(
            help="partition key, such as 2013-04-01; of an hour 2013-04-01T05Z; a delivery, by d00003 or by its name"
        ),
    ] = "",
    first: Annotated[str, typer.Option(help="first partition of a range (ingest)")] = "",
    last: Annotated[str, typer.Option(help="last partition of a range (ingest)")] = "",
    candidate: Annotated[str, typer.Option(help="name of a candidate (train.train)")] = "",
    restate: Annotated[bool, typer.Option(help="forget what was known of the partitions before (ingest)")] = False,
    how: Annotated[str, typer.Option(help="scratch, continue or recalibrate (train)")] = "",
    window_from: Annotated[str, typer.Option(help="first partition to learn from (train)")] = "",
    input: Annotated[
        Path | None, typer.Option(help="JSON that the stage before printed; - reads standard input", allow_dash=True)
    ] = None,
) -> None:
    """Run a DAG's stages, or one of them, here and now without Airflow; prints the result as JSON, progress beside it.

    EVERGREEN_STORE_URI says where tables are kept, MLFLOW_TRACKING_URI where runs and models are (ingest needs none);
    `evergreen up` sets both for other terminals.

    Example:
        evergreen run train flight_delay --partition 2013-03-25
        evergreen run ingest.extract flight_delay --first 2013-04-01 --last 2013-04-01 > extracted.json
        evergreen run ingest.validate flight_delay --input extracted.json
    """
    from pipelines import local_run

    load_environment()
    _show_progress()
    options: dict[str, str | bool | None] = {
        "partition": partition,
        "first": first or partition,
        "last": last or partition,
        "candidate": candidate,
        "restate": restate,
        "how": how,
        "window_from": window_from,
    }
    print(json.dumps(to_json(local_run.run(stage, problem_name, options, _read_json(input))), indent=1))


# What lies in the other modules comes after what starts and runs things, in this order in `--help` too.
app.command()(new.new)
app.add_typer(data.quarantine, name="quarantine")
app.command()(data.rebuild)
app.command()(models.reproduce)
app.command()(models.curves)
app.command("roll-back")(models.roll_back)
app.command("fall-back")(models.fall_back)
app.command()(releases.release)
app.command()(monitoring.decide)


def _show_progress() -> None:
    """What stages log goes to standard error: standard output has the result alone."""
    import logging

    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("pipelines")
    log.addHandler(shown)
    log.setLevel(logging.INFO)
    log.propagate = False


def _read_json(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return json.loads(sys.stdin.read() if str(path) == "-" else path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no readable JSON: {error}", where=str(path), cure="give the file that the stage before printed"
        ) from error


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
        for key in keys:
            progress.update(bar, description=f"{problem.name} {key}")
            replay.play(client, problem, key, tell)
            progress.advance(bar)


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


@contextmanager
def _services() -> Iterator[Embedded]:
    embedded = Embedded()
    with embedded:
        embedded.start(lambda line: console.print(f"[dim]{escape(line)}[/]"))
        os.environ.update(embedded.environment())
        yield embedded


def _wait(embedded: Embedded, word: str) -> None:
    """Stay up until Ctrl-C, which is how this is meant to end."""
    console.print(f"\n{word}")
    try:
        embedded.wait()
    except KeyboardInterrupt:
        console.print("stopping")


def _print_addresses(embedded: Embedded) -> None:
    names = {"airflow": "Airflow", "mlflow": "MLflow", "store": "Object store"}
    for name, place in embedded.urls().items():
        login = f"  user [bold]{place.user}[/]  password [bold]{place.password}[/]" if place.user else ""
        console.print(f"{names[name]:<13} [bold cyan]{place.url}[/]{login}", soft_wrap=True)


if __name__ == "__main__":
    main()
