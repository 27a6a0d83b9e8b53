"""A source database that goes away: a real PostgreSQL, from which ingest reads while it is struck."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from benchmarks import postgres
from benchmarks.chaos import together, world
from benchmarks.chaos.stages import read_rows
from benchmarks.chaos.together import Outcome, in_words, side
from benchmarks.postgres import Postgres

NAME = "from_database"
READER, VARIABLE = "reader", "POTS_DATABASE"
# The time column has the database give the rows of a window alone.
SOURCE = f"""database: "${{{VARIABLE}}}"
    table: pots
    time_column: fired_at"""
ROW_S = 0.01  # that the database takes for a row, so that it can be struck while it answers
TABLES = (
    f"CREATE ROLE {READER} LOGIN PASSWORD '{READER}'",
    f"""CREATE VIEW pots AS SELECT stored.* FROM stored,
    LATERAL (SELECT pg_sleep({ROW_S}) WHERE stored.pot IS NOT NULL) AS pause""",
    f"GRANT SELECT ON pots TO {READER}",
)
AFTER_S = (-1.0, 2.0)  # the run has begun; less than none: before it begins
AWAY_S = (0.5, 8.0)
PAUSE_S = 5.0  # between tries


@contextmanager
def stopped(server: Postgres) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@contextmanager
def frozen(server: Postgres) -> Iterator[None]:
    server.signal(signal.SIGSTOP)
    yield
    server.signal(signal.SIGCONT)


@contextmanager
def ended(server: Postgres) -> Iterator[None]:
    server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{READER}'")
    yield


@contextmanager
def locked(server: Postgres) -> Iterator[None]:
    with adbc.connect(server.plain_uri) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE stored IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


@contextmanager
def refused(server: Postgres) -> Iterator[None]:
    server.execute(f"ALTER ROLE {READER} PASSWORD 'changed'")
    yield
    server.execute(f"ALTER ROLE {READER} PASSWORD '{READER}'")


STRIKES: dict[str, Callable[[Postgres], AbstractContextManager[None]]] = {
    "stopped at once, and started again": stopped,
    "takes requests and answers none, then goes on": frozen,
    "ends the connection": ended,
    "the table is locked for a while": locked,
    "another password": refused,
}


def play(keep: Path, tell: Callable[[str], None], times: int = 3) -> list[Outcome]:
    """Each strike so many times, each about the ingest of another day."""
    problems, name = keep / "problems", f"{NAME}_{int(time.time())}"
    world.write_problem(problems, name, SOURCE)
    rows = read_rows(problems, name)
    days = list(rows)
    ends: dict[str, Counter[str]] = {what: Counter() for what in STRIKES}
    broken: dict[str, list[str]] = {what: [] for what in STRIKES}
    draws = random.Random(times)  # noqa: S311 - moments, no secret
    with postgres.running() as server:
        _fill(server, problems / name / "pots.csv")
        os.environ[VARIABLE] = f"postgresql://{READER}:{READER}@127.0.0.1:{server.port}/postgres"
        for number, what in enumerate([*STRIKES] * times):
            end, answer = _struck(keep, name, days[number], STRIKES[what](server), draws)
            ends[what].update([in_words(end, answer)])
            if end != "done":  # a person sees to it, and has it run again
                ((end, answer),) = together.ended(
                    [together.started_run(keep, name, side("ingest", *[days[number]] * 2))]
                )
                ends[what].update([f"{in_words(end, answer)}, run again"])
            broken[what] += together.looked(keep, name, rows, days[: number + 1], [])
            tell(f"source database, {what}: {dict(ends[what])} {broken[what]}")
    return [
        Outcome(
            what=what,
            times=times,
            ended=", ".join(f"{count} {end}" for end, count in ends[what].items()),
            broken="; ".join(broken[what]),
        )
        for what in STRIKES
    ]


def _struck(
    keep: Path, name: str, day: str, strike: AbstractContextManager[None], draws: random.Random
) -> tuple[str, object]:
    """How an ingest ended during which, or before which, the database was struck."""
    with ExitStack() as until_over:
        after = draws.uniform(*AFTER_S)
        if after < 0:
            until_over.enter_context(strike)
        run = together.started_run(keep, name, side("ingest", day, day), pause_s=PAUSE_S)
        if after >= 0:
            time.sleep(after)
            until_over.enter_context(strike)
        time.sleep(draws.uniform(*AWAY_S))
    ((end, answer),) = together.ended([run])
    return end, answer


def _fill(server: Postgres, file: Path) -> None:
    rows = pyarrow.csv.read_csv(file)
    rows = rows.filter(pc.not_equal(rows["heat"], "very"))  # a column of a database has numbers alone
    rows = rows.set_column(rows.column_names.index("heat"), "heat", rows["heat"].cast(pa.float64()))
    with adbc.connect(server.plain_uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("stored", rows)
        connection.commit()
    server.execute(*TABLES)
