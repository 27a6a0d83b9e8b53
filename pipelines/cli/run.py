"""The command `evergreen run`: a DAG's stages, or one of them, without Airflow."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli import completion, terminal
from pipelines.cli.arguments import AsJson, ProblemName
from pipelines.cli.progress import Work, working
from pipelines.cli.terminal import escape
from pipelines.embedded import load_environment
from pipelines.errors import ConfigError, EvergreenError

if TYPE_CHECKING:
    from pipelines.cli.outcome import Stages


def run(
    stage: Annotated[
        str,
        typer.Argument(
            help="a DAG (ingest, train, annotate, score, monitor, release) or a stage, such as ingest.validate",
            metavar="STAGE",
            autocompletion=completion.stages,
        ),
    ],
    problem_name: ProblemName,
    partition: Annotated[
        str,
        typer.Option(
            help="partition key, such as 2013-04-01; of an hour 2013-04-01T05Z; a delivery, by d00003 or by its name",
            autocompletion=completion.partitions,
        ),
    ] = "",
    first: Annotated[
        str, typer.Option(help="first partition of a range (ingest)", autocompletion=completion.partitions)
    ] = "",
    last: Annotated[
        str, typer.Option(help="last partition of a range (ingest)", autocompletion=completion.partitions)
    ] = "",
    candidate: Annotated[
        str, typer.Option(help="name of a candidate (train.train)", autocompletion=completion.candidates)
    ] = "",
    restate: Annotated[bool, typer.Option(help="forget what was known of the partitions before (ingest)")] = False,
    how: Annotated[str, typer.Option(help="scratch, continue or recalibrate (train)")] = "",
    window_from: Annotated[
        str, typer.Option(help="first partition to learn from (train)", autocompletion=completion.partitions)
    ] = "",
    input: Annotated[
        Path | None,
        typer.Option(help="JSON that the stage before printed; - reads standard input", allow_dash=True),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a DAG's stages, or one of them, here and now without Airflow: a line per stage, and what it came to.

    Lines and summary are on standard error. Standard output has the result as JSON, for the next stage's --input: in a
    pipe and in a file always, in a terminal with --json, which leaves out all else. Of a list that the stage before
    printed a stage takes each element, one after another, and prints the list of what it gave; train.check,
    train.evaluate and score.publish take it whole.

    EVERGREEN_STORE_URI says where tables are kept, MLFLOW_TRACKING_URI where runs and models are (ingest needs none);
    `evergreen up` sets both for other terminals.

    Example:
        evergreen run train flight_delay --partition 2013-03-25
        evergreen run ingest.extract flight_delay --first 2013-04-01 --last 2013-04-01 > extracted.json
        evergreen run ingest.validate flight_delay --input extracted.json
        evergreen run train.sample flight_delay --input labelled.json > shares.json
        evergreen run train.featurize flight_delay --input shares.json > featurized.json
        evergreen run train.check flight_delay --input featurized.json
    """
    from pipelines import local_run
    from pipelines.cli.outcome import Stages
    from pipelines.handoffs.base import to_json

    load_environment()
    options: dict[str, str | bool | None] = {
        "partition": partition,
        "first": first or partition,
        "last": last or partition,
        "candidate": candidate,
        "restate": restate,
        "how": how,
        "window_from": window_from,
    }
    handed_on = _read_json(input)
    stages = Stages(stage, problem_name)
    try:
        with (
            working(problem_name, quiet=as_json, tells_steps=False) as work,
            _logged(work),
            local_run.observed(stages.shown_by(work)),
        ):
            result = local_run.run(stage, problem_name, options, handed_on)
    except EvergreenError as error:
        if not as_json:
            _summarise(stages, error)
        raise
    if not as_json:
        _summarise(stages, None)
    if as_json or not terminal.output().isatty():
        terminal.print_json(to_json(result))


def _summarise(stages: Stages, error: EvergreenError | None) -> None:
    """What it came to, in a few lines."""
    rows = stages.summary(error)
    if rows:
        terminal.notices.print()
    for title, text in rows:
        terminal.notices.print(f"[bold]{title:<10}[/] {escape(text)}")


@contextmanager
def _logged(work: Work) -> Iterator[None]:
    """What stages log becomes lines beside the result."""
    shown = _Shown(work)
    log = logging.getLogger("pipelines")
    log.addHandler(shown)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(shown)
        log.propagate = True


class _Shown(logging.Handler):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def emit(self, record: logging.LogRecord) -> None:
        self._work.line(record.getMessage(), is_warning=record.levelno >= logging.WARNING)


def _read_json(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return json.loads(sys.stdin.read() if str(path) == "-" else path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no readable JSON: {error}", where=str(path), cure="give the file that the stage before printed"
        ) from error
