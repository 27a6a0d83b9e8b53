"""The commands about data: `evergreen quarantine list|show|release|partitions|hold|readmit` and `evergreen rebuild`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import completion
from pipelines.cli.arguments import AsJson, ProblemName, Reason
from pipelines.cli.progress import working
from pipelines.cli.terminal import Commands, console, escape, print_json
from pipelines.embedded import load_environment
from pipelines.errors import ConfigError
from pipelines.problem import load_problem

quarantine = Commands(
    no_args_is_help=True,
    help="Rows and partitions that were set aside: look at them, mend them, let them in.\n\n"
    "Example:\n    evergreen quarantine list flight_delay",
)

Partition = Annotated[
    str,
    typer.Argument(
        help="partition key, such as 2013-04-01; a delivery by its name too",
        metavar="KEY",
        autocompletion=completion.partitions,
    ),
]
RowId = Annotated[str, typer.Argument(help="id of the row, as `list` shows it", metavar="ID")]


@quarantine.command("list")
def list_rows(
    problem_name: ProblemName,
    partition: Annotated[
        str | None, typer.Option(help="partition key; default: all of them", autocompletion=completion.partitions)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="rows to show")] = 50,
    as_json: AsJson = False,
) -> None:
    """The rows that wait, each with every rule that it broke.

    Example:
        evergreen quarantine list flight_delay --partition 2013-04-01
    """
    from rich.table import Table

    from pipelines import deliveries
    from pipelines import quarantine as rows

    load_environment()
    problem = load_problem(problem_name)
    with working(f"{problem_name}: rows in quarantine", quiet=as_json):
        waiting = rows.listing(problem, partition and deliveries.key_of(problem, partition))
    if as_json:
        from pipelines.cli.results import Quarantined, Waiting

        shown = [Waiting.model_validate(row) for row in waiting[:limit]]
        print_json(Quarantined(problem=problem_name, total=len(waiting), rows=shown))
        return
    table = Table(
        "id", "partition", "source", "rules", "row", title=f"{problem_name}: {len(waiting)} rows in quarantine"
    )
    for row in waiting[:limit]:
        table.add_row(
            *(escape(str(v)) for v in (row["id"], row["partition"], row["source"], "; ".join(row["rules"]))),
            escape(row["row"]),
        )
    console.print(table)
    if len(waiting) > limit:
        console.print(f"{len(waiting) - limit} more: --limit {len(waiting)} shows them all")


@quarantine.command()
def show(problem_name: ProblemName, row_id: RowId, as_json: AsJson = False) -> None:
    """One row, whole, always as JSON: as it came, from where, and what is wrong with it.

    Example:
        evergreen quarantine show flight_delay ROW_ID
    """
    from pipelines import quarantine as rows
    from pipelines.cli.results import WaitingWhole

    load_environment()
    row = rows.find(load_problem(problem_name), row_id)
    print_json(WaitingWhole.model_validate({**row, "row": json.loads(row["row"])}))


@quarantine.command()
def release(
    problem_name: ProblemName,
    row_id: RowId,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="COLUMN=VALUE", help="a value to mend; may be repeated")
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Mend a row and let it in: it is held against all rules again, published, and the ledger says so.

    Example:
        evergreen quarantine release flight_delay ROW_ID --set distance=1400 --reason "typed wrongly"
    """
    from pipelines import quarantine as rows
    from pipelines.health.kept import try_to_keep

    _require(reason, "a release")
    changes = {}
    for assignment in set_ or []:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r} is no COLUMN=VALUE", where="--set", cure="such as --set litres=1.5")
        changes[name.strip()] = value
    load_environment()
    with working(f"{problem_name}: releasing {row_id}", quiet=as_json):
        done = rows.release(load_problem(problem_name), row_id, changes, reason)
        try_to_keep(problem_name)
    if as_json:
        from pipelines.cli.results import ReleasedRow

        print_json(ReleasedRow(id=done["id"], query=done["query"], partition=done["partition"]))
        return
    console.print(f"released: {escape(row_id)} is in {done['query']}, partition {done['partition']}", soft_wrap=True)


@quarantine.command()
def partitions(problem_name: ProblemName, as_json: AsJson = False) -> None:
    """The partitions that are held: no training set has rows of them.

    Example:
        evergreen quarantine partitions flight_delay
    """
    from rich.table import Table

    from pipelines import quarantine as kept

    load_environment()
    rows = kept.holds(load_problem(problem_name))
    if as_json:
        from pipelines.cli.results import Hold, Holds

        holds = [
            Hold(partition=row["partition"], since=row["decided_time"], verdict=row["verdict"], reason=row["reason"])
            for row in rows
        ]
        print_json(Holds(problem=problem_name, partitions=holds))
        return
    table = Table(
        "partition", "since", "verdict", "reason", title=f"{problem_name}: {len(rows)} partitions in quarantine"
    )
    for row in rows:
        since = f"{row['decided_time']:%Y-%m-%d %H:%M}"
        table.add_row(row["partition"], since, escape(row["verdict"]), escape(row["reason"]))
    console.print(table)


@quarantine.command()
def hold(problem_name: ProblemName, key: Partition, reason: Reason = "", as_json: AsJson = False) -> None:
    """Keep a partition out of every training set from now on; it is scored all the same.

    Example:
        evergreen quarantine hold flight_delay 2013-04-01 --reason "a dead sensor"
    """
    from pipelines import deliveries
    from pipelines import quarantine as kept
    from pipelines.health.kept import try_to_keep

    _require(reason, "a quarantine")
    load_environment()
    problem = load_problem(problem_name)
    key = deliveries.key_of(problem, key)
    is_new = kept.hold(problem, key, reason, {"by": "hand"})
    try_to_keep(problem_name)
    _tell_turned(problem_name, key, is_new, f"held: {key}" if is_new else f"{key} was held before", as_json)


@quarantine.command()
def readmit(problem_name: ProblemName, key: Partition, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let a held partition be learnt from again.

    Example:
        evergreen quarantine readmit flight_delay 2013-04-01 --reason "the sensor was right"
    """
    from pipelines import deliveries
    from pipelines import quarantine as kept
    from pipelines.health.kept import try_to_keep

    _require(reason, "a readmission")
    load_environment()
    problem = load_problem(problem_name)
    key = deliveries.key_of(problem, key)
    was_held = kept.readmit(problem, key, reason, {"by": "hand"})
    try_to_keep(problem_name)
    _tell_turned(problem_name, key, was_held, f"readmitted: {key}" if was_held else f"{key} was not held", as_json)


def _tell_turned(problem_name: str, key: str, is_changed: bool, text: str, as_json: bool) -> None:
    if not as_json:
        console.print(text)
        return
    from pipelines.cli.results import Turned

    print_json(Turned(problem=problem_name, partition=key, changed=is_changed))


def _require(reason: str, what: str) -> None:
    if not reason:
        raise ConfigError(f"{what} needs a reason", where="--reason", cure="say why in a few words: it is kept")


def rebuild(
    problem_name: ProblemName,
    partition: Annotated[
        str, typer.Option(help="partition key, such as 2013-04-01", autocompletion=completion.partitions)
    ],
    as_of: Annotated[
        str,
        typer.Option(
            help="moment, such as 2013-05-01 or 2013-05-01T12:00+00:00; naive: UTC; or the newest delivery by then"
        ),
    ],
    to: Annotated[Path | None, typer.Option(help="folder to write the rows to, as Parquet")] = None,
    as_json: AsJson = False,
) -> None:
    """A partition as it was known at a moment of the past: rows and content hashes of its events, labels, features.

    Example:
        evergreen rebuild flight_delay --partition 2013-04-01 --as-of 2013-05-01 --to rebuilt
    """
    import pyarrow.parquet as pq

    from pipelines import deliveries, store
    from pipelines.cli.results import Rebuilt, RebuiltTable
    from pipelines.dataset.rebuild import content_hash
    from pipelines.dataset.rebuild import rebuild as rebuild_partition

    load_environment()
    problem = load_problem(problem_name)
    key = deliveries.key_of(problem, partition)
    by_delivery = problem.partitions.by_delivery
    moment = problem.partitions.end(deliveries.named(problem, as_of)) if by_delivery else _moment(as_of)
    rebuilt = []
    with working(f"{problem_name}: rebuilding {partition}", quiet=as_json):
        tables = rebuild_partition(
            problem, key, moment, store.dataset(problem, "events"), store.dataset(problem, "labels")
        )
        for name, rows in tables.items():
            file = None if to is None else to / f"{name}.parquet"
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(rows, file)
            content = content_hash(rows)
            written = None if file is None else str(file)
            rebuilt.append(RebuiltTable(table=name, rows=rows.num_rows, sha256=content, file=written))
    if as_json:
        print_json(Rebuilt(problem=problem_name, partition=key, as_of=moment, tables=rebuilt))
        return
    for table in rebuilt:
        console.print(f"{table.table:<9} {table.rows:>9,} rows  sha256 {table.sha256}")


def _moment(text: str) -> datetime:
    from datetime import UTC

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no moment", where="--as-of", cure="give one such as 2013-05-01T12:00+00:00"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
