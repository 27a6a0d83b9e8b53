"""The commands about data: `evergreen quarantine list|show|release|partitions|hold|readmit` and `evergreen rebuild`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipelines.embedded import load_environment
from pipelines.errors import ConfigError
from pipelines.problem import load_problem

console = Console(highlight=False, soft_wrap=True)
quarantine = typer.Typer(
    no_args_is_help=True,
    help="Rows and partitions that were set aside: look at them, mend them, let them in.\n\n"
    "Example:\n    evergreen quarantine list flight_delay",
)

ProblemName = Annotated[str, typer.Argument(help="name of a folder under include/problems", metavar="PROBLEM")]
Partition = Annotated[
    str, typer.Argument(help="partition key, such as 2013-04-01; a delivery by its name too", metavar="KEY")
]
Reason = Annotated[str, typer.Option(help="why, for the ledger")]
RowId = Annotated[str, typer.Argument(help="id of the row, as `list` shows it", metavar="ID")]


@quarantine.command("list")
def list_rows(
    problem_name: ProblemName,
    partition: Annotated[str | None, typer.Option(help="partition key; default: all of them")] = None,
    limit: Annotated[int, typer.Option(min=1, help="rows to show")] = 50,
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
    waiting = rows.listing(problem, partition and deliveries.key_of(problem, partition))
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
def show(problem_name: ProblemName, row_id: RowId) -> None:
    """One row, whole, as JSON: as it came, from where, and what is wrong with it.

    Example:
        evergreen quarantine show flight_delay ROW_ID
    """
    from pipelines import quarantine as rows

    load_environment()
    row = rows.find(load_problem(problem_name), row_id)
    print(json.dumps({**row, "row": json.loads(row["row"])}, indent=1, ensure_ascii=False))


@quarantine.command()
def release(
    problem_name: ProblemName,
    row_id: RowId,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="COLUMN=VALUE", help="a value to mend; may be repeated")
    ] = None,
    reason: Reason = "",
) -> None:
    """Mend a row and let it in: it is held against all rules again, published, and the ledger says so.

    Example:
        evergreen quarantine release flight_delay ROW_ID --set distance=1400 --reason "typed wrongly"
    """
    from pipelines import quarantine as rows

    _require(reason, "a release")
    changes = {}
    for assignment in set_ or []:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r} is no COLUMN=VALUE", where="--set", cure="such as --set litres=1.5")
        changes[name.strip()] = value
    load_environment()
    done = rows.release(load_problem(problem_name), row_id, changes, reason)
    console.print(f"released: {escape(row_id)} is in {done['query']}, partition {done['partition']}")


@quarantine.command()
def partitions(problem_name: ProblemName) -> None:
    """The partitions that are held: no training set has rows of them.

    Example:
        evergreen quarantine partitions flight_delay
    """
    from rich.table import Table

    from pipelines import quarantine as kept

    load_environment()
    rows = kept.holds(load_problem(problem_name))
    table = Table(
        "partition", "since", "verdict", "reason", title=f"{problem_name}: {len(rows)} partitions in quarantine"
    )
    for row in rows:
        since = f"{row['decided_time']:%Y-%m-%d %H:%M}"
        table.add_row(row["partition"], since, escape(row["verdict"]), escape(row["reason"]))
    console.print(table)


@quarantine.command()
def hold(problem_name: ProblemName, key: Partition, reason: Reason = "") -> None:
    """Keep a partition out of every training set from now on; it is scored all the same.

    Example:
        evergreen quarantine hold flight_delay 2013-04-01 --reason "a dead sensor"
    """
    from pipelines import deliveries
    from pipelines import quarantine as kept

    _require(reason, "a quarantine")
    load_environment()
    problem = load_problem(problem_name)
    key = deliveries.key_of(problem, key)
    is_new = kept.hold(problem, key, reason, {"by": "hand"})
    console.print(f"held: {key}" if is_new else f"{key} was held before")


@quarantine.command()
def readmit(problem_name: ProblemName, key: Partition, reason: Reason = "") -> None:
    """Let a held partition be learnt from again.

    Example:
        evergreen quarantine readmit flight_delay 2013-04-01 --reason "the sensor was right"
    """
    from pipelines import deliveries
    from pipelines import quarantine as kept

    _require(reason, "a readmission")
    load_environment()
    problem = load_problem(problem_name)
    key = deliveries.key_of(problem, key)
    was_held = kept.readmit(problem, key, reason, {"by": "hand"})
    console.print(f"readmitted: {key}" if was_held else f"{key} was not held")


def _require(reason: str, what: str) -> None:
    if not reason:
        raise ConfigError(f"{what} needs a reason", where="--reason", cure="say why in a few words: it is kept")


def rebuild(
    problem_name: ProblemName,
    partition: Annotated[str, typer.Option(help="partition key, such as 2013-04-01")],
    as_of: Annotated[
        str,
        typer.Option(
            help="moment, such as 2013-05-01 or 2013-05-01T12:00+00:00; naive: UTC; or the newest delivery by then"
        ),
    ],
    to: Annotated[Path | None, typer.Option(help="folder to write the rows to, as Parquet")] = None,
) -> None:
    """A partition as it was known at a moment of the past: rows and content hashes of its events, labels, features.

    Example:
        evergreen rebuild flight_delay --partition 2013-04-01 --as-of 2013-05-01 --to rebuilt
    """
    import pyarrow.parquet as pq

    from pipelines import deliveries, store
    from pipelines.dataset.rebuild import content_hash
    from pipelines.dataset.rebuild import rebuild as rebuild_partition

    load_environment()
    problem = load_problem(problem_name)
    key = deliveries.key_of(problem, partition)
    by_delivery = problem.partitions.by_delivery
    moment = problem.partitions.end(deliveries.named(problem, as_of)) if by_delivery else _moment(as_of)
    tables = rebuild_partition(problem, key, moment, store.dataset(problem, "events"), store.dataset(problem, "labels"))
    for name, rows in tables.items():
        console.print(f"{name:<9} {rows.num_rows:>9,} rows  sha256 {content_hash(rows)}")
        if to is not None:
            to.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows, to / f"{name}.parquet")


def _moment(text: str) -> datetime:
    from datetime import UTC

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no moment", where="--as-of", cure="give one such as 2013-05-01T12:00+00:00"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
