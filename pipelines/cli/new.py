"""`evergreen new`: a problem out of a table."""

from __future__ import annotations

import getpass
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.terminal import Output, escape, notices, print_text
from pipelines.config import Task
from pipelines.config.base import NAME_PATTERN
from pipelines.embedded import load_environment
from pipelines.errors import ConfigError
from pipelines.problem import load_problem
from pipelines.problem_folders import folder_of

if TYPE_CHECKING:
    from pipelines.ingest.look import Remark
    from pipelines.propose.draft import Draft, Wishes

console = Output(highlight=False, soft_wrap=True)


def new(
    name: Annotated[str, typer.Argument(help="name of the problem: its folder under include/problems", metavar="NAME")],
    place: Annotated[
        str,
        typer.Option(
            "--from",
            help="file, folder or glob (CSV, JSON Lines, Parquet, Avro, Delta), s3://, postgresql://, sqlite:///",
        ),
    ],
    target: Annotated[str, typer.Option(help="column that is to be predicted")],
    table: Annotated[str | None, typer.Option(help="table of the database")] = None,
    key: Annotated[str | None, typer.Option(help="column that names a row; default: found")] = None,
    time: Annotated[
        str | None, typer.Option(help="column that says when a row's event happens; default: found")
    ] = None,
    known: Annotated[
        str | None, typer.Option(help="column that says when the target became known; default: found")
    ] = None,
    every: Annotated[
        str | None, typer.Option(help="hour, day, week, month, quarter, or delivery; default: found")
    ] = None,
    task: Annotated[Task | None, typer.Option(help="binary, multiclass or regression; default: found")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="predict whether the target is as much or more, instead of how much")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="predict whether the target has this value; default: found, of two values")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="ask nothing: take what is found")] = False,
    force: Annotated[bool, typer.Option(help="write over the files of a problem that is there")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print what was chosen as JSON; asks nothing")] = False,
) -> None:
    """Look at a table and write a problem for it: problem.yaml, events.sql, labels.sql, with a word on each choice.

    Key, time, rhythm, task, types, columns to leave out and rules are found in the data, and its history is ingested
    for trial. In a terminal it asks about what it found, unless --yes.

    Example:
        evergreen new orders --from data/orders.csv --target returned
        evergreen new delays --from flights.parquet --target delay_minutes --threshold 15 --yes
        evergreen new churn --from 'postgresql://me:${PASSWORD}@db/shop' --table customers --target churned --json
    """
    from pipelines.propose.draft import Wishes, draft
    from pipelines.propose.files import SCHEMA, files_of
    from pipelines.propose.origin import origin, shown
    from pipelines.propose.rehearsal import rehearsed
    from pipelines.propose.table import read

    load_environment()
    folder = _folder(name, force)
    wishes = Wishes(target, key, time, known, every, threshold, positive, task)
    asks = not (yes or as_json) and _is_terminal()
    owner = getpass.getuser()
    _tell(as_json, f"reading {shown(place)}")
    with read(origin(place, table, folder), folder) as rows:
        drafted = draft(name, rows, wishes)
        if asks:
            drafted = draft(name, rows, _asked(drafted, wishes))
        _tell(as_json, f"{drafted.rows:,} rows read; ingesting their history for trial")
        drafted, remarks = rehearsed(drafted, owner)
    files = files_of(drafted, owner, (folder.parent / SCHEMA).exists())
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text)
    if as_json:
        print_text(json.dumps(_as_json(drafted, folder, remarks), indent=1, default=str) + "\n")
    else:
        _show(drafted, folder, remarks)


def _folder(name: str, force: bool) -> Path:
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(
            f"{name!r} cannot name a problem", where="NAME", cure="take a to z, 0 to 9 and _, beginning with a letter"
        )
    folder = folder_of(name)
    there = [file for file in ("problem.yaml", "events.sql", "labels.sql") if (folder / file).exists()]
    if there and not force:
        raise ConfigError(
            f"there is a problem {name!r} already, and nothing was changed",
            where=str(folder),
            cure="choose another name, or write over it with --force",
        )
    return folder


def _tell(as_json: bool, text: str) -> None:
    if not as_json:
        notices.print(f"[dim]{escape(text)}[/]")


def _is_terminal() -> bool:
    """Whether somebody sees the questions, and can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _asked(drafted: Draft, wishes: Wishes) -> Wishes:
    """What a person answers about the choices that matter most; Enter takes what was found."""
    from dataclasses import replace

    target, time, rhythm = drafted.target, drafted.time, drafted.rhythm
    notices.print(f"{escape(target.column)}: {target.task}, {escape(target.why)}")
    if target.task == "regression" and wishes.threshold is None:
        answer = _answer("predict whether it is at least some threshold? (empty: predict how much)")
        wishes = replace(wishes, threshold=_number(answer)) if answer else wishes
    if target.task == "binary" and wishes.threshold is None and wishes.positive is None:
        answer = _answer("predict another value? (empty: this one)")
        wishes = replace(wishes, positive=answer) if answer else wishes
    notices.print(f"key: {escape(drafted.key.name)}, {escape(drafted.key.why)}")
    if wishes.key is None and (answer := _answer("column that names a row? (empty: as found)")):
        wishes = replace(wishes, key=answer)
    found = f"{', '.join(time.columns)}, {time.why}" if time else "no column says when"
    notices.print(f"time: {escape(found)}")
    if wishes.time is None and (answer := _answer("column that says when? (empty: as found)")):
        wishes = replace(wishes, time=answer)
    notices.print(f"label: {escape(drafted.known.why.removeprefix('look: '))}")
    if wishes.known is None and (answer := _answer("column that says when it is known? (empty: as found)")):
        wishes = replace(wishes, known=answer)
    if rhythm is not None:
        notices.print(f"partitions: by {rhythm.every}, {escape(rhythm.why)}")
        if wishes.every is None and (answer := _answer("by hour, day, week, month or quarter? (empty: as found)")):
            wishes = replace(wishes, every=answer)
    return wishes


def _answer(question: str) -> str:
    answer: str = typer.prompt(f"  {question}", default="", show_default=False, err=True)
    return answer.strip()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no number", where="threshold", cure="give a number such as 15") from error


def _as_json(drafted: Draft, folder: Path, remarks: list[Remark]) -> dict[str, Any]:
    time, rhythm = drafted.time, drafted.rhythm
    return {
        "problem": drafted.name,
        "folder": str(folder),
        "rows": drafted.rows,
        "labelled": drafted.labelled,
        "task": drafted.target.task,
        "label": {"sql": drafted.target.expression, "why": drafted.target.why, "classes": list(drafted.target.classes)},
        "known": {"sql": drafted.known.expression, "why": drafted.known.why},
        "key": {"name": drafted.key.name, "columns": list(drafted.key.columns), "why": drafted.key.why},
        "time": {"columns": list(time.columns), "zone": drafted.zone[0], "why": time.why} if time else None,
        "every": rhythm.every if rhythm else "delivery",
        "first": rhythm.first if rhythm else None,
        "last": rhythm.last if rhythm else None,
        "features": [feature.name for feature in drafted.features if feature.is_learnt_from],
        "history": drafted.history,
        "left_out": drafted.left_out,
        "accepted": drafted.accepted,
        "ignored": drafted.ignored,
        "notes": list(drafted.table.origin.notes),
        "remarks": [{"level": remark.level, "text": remark.text} for remark in remarks],
    }


def _show(drafted: Draft, folder: Path, remarks: list[Remark]) -> None:
    """What was chosen, what to look at, and what to run next."""
    from rich.table import Table

    from pipelines.ingest.look import newest

    shown = Table(title=drafted.name, show_header=False, title_justify="left")
    rows = {
        "rows": f"{drafted.rows:,}, {drafted.labelled:,} with a label",
        "predicts": f"{drafted.target.column}: {drafted.target.task}, {drafted.target.why}",
        "known": drafted.known.why,
        "key": f"{drafted.key.name}: {drafted.key.why}",
        "time": f"{', '.join(drafted.time.columns)}, {drafted.zone[0]}: {drafted.time.why}"
        if drafted.time
        else "no column says when",
        "every": f"{drafted.rhythm.every}: {drafted.rhythm.why}" if drafted.rhythm else "delivery",
        "features": f"{sum(f.is_learnt_from for f in drafted.features)} columns, {len(drafted.history)} of history",
    }
    for title, text in rows.items():
        shown.add_row(title, escape(text))
    console.print(shown)
    if drafted.left_out:
        console.print("left out:")
        for column, reason in drafted.left_out.items():
            console.print(f"  {escape(column)}: {escape(reason)}")
    for note in drafted.table.origin.notes:
        console.print(f"[yellow]look[/]  {escape(note.removeprefix('look: '))}")
    for remark in remarks:
        if remark.level != "fact":
            console.print(f"[yellow]look[/]  {escape(remark.text)}")
    console.print(f"\nwritten to {escape(str(folder))}; lines with `look` are guesses: read them first. Then")
    console.print(f"  evergreen check {drafted.name}")
    first = drafted.rhythm
    last = first and (first.history_until or first.last or newest(load_problem(drafted.name), {}, datetime.now(UTC)))
    some = f" --first {first.first} --last {last}" if first and last else ""  # of deliveries all that have come
    console.print(f"  evergreen run ingest {drafted.name}{some}")
    console.print(f"  evergreen run train {drafted.name}")
    if first and first.history_until:
        console.print(f"or, through Airflow, all of it: evergreen demo {drafted.name}")
