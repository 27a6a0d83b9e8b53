"""DuckDB over Arrow: the heavy lifting, streamed."""

from __future__ import annotations

import atexit
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config.plain_table import quote as quote
from pipelines.errors import ConfigError
from pipelines.temporary import Held, hold

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.config import Partitions

    Tables = Mapping[str, pa.Table | pa.RecordBatchReader | ds.Dataset]
    """What a query sees, by name."""

# Of all queries at once, beside the Arrow buffers that they read; beyond it DuckDB spills. EVERGREEN_DUCKDB_MEMORY
# changes it.
MEMORY_LIMIT = "750MB"
SETTINGS = ("memory_limit", "threads", "disabled_optimizers")  # of a private database


class _Instance:
    """A database, and the folder to which it spills."""

    def __init__(self, memory_limit: str, disabled_optimizers: str) -> None:
        self.spill = hold("temporary")
        settings = {
            "autoinstall_known_extensions": False,
            "temp_directory": str(self.spill.folder),
            "memory_limit": memory_limit,
            "disabled_optimizers": disabled_optimizers,
        }
        try:
            self.database = duckdb.connect(config=settings)
        except BaseException:
            self.spill.remove()
            raise

    def close(self) -> None:
        self.database.close()
        self.spill.remove()


class _Instances:
    """The databases of this process, by their settings: to make one takes as long as ten small queries do.

    A process that was forked from this one makes its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[tuple[int, str, str], _Instance] = {}
        self._idle: dict[tuple[int, str], _Instance] = {}
        self._left: list[Held] = []
        atexit.register(self._close)

    def cursor(self, memory_limit: str, disabled_optimizers: str) -> duckdb.DuckDBPyConnection:
        key = (os.getpid(), memory_limit, disabled_optimizers)
        with self._lock:
            if key not in self._shared:
                self._shared[key] = _Instance(memory_limit, disabled_optimizers)
            return self._shared[key].database.cursor()

    @contextmanager
    def private(self, memory_limit: str, *, is_new: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """One that nobody else uses meanwhile. The next one gets it, with SETTINGS as they were, unless it failed."""
        key = (os.getpid(), memory_limit)
        instance = None
        if not is_new:
            with self._lock:
                instance = self._idle.pop(key, None)
        instance = instance or _Instance(memory_limit, "")
        is_whole = False
        try:
            with instance.database.cursor() as cursor:
                yield cursor
                if not is_new:
                    cursor.execute(f"SET memory_limit = {literal(memory_limit)}")
                    cursor.execute("; ".join(f"RESET {name}" for name in SETTINGS if name != "memory_limit"))
                    is_whole = True
        finally:
            with self._lock:
                is_kept = is_whole and self._idle.setdefault(key, instance) is instance
            if not is_kept:
                instance.close()

    def forget(self) -> None:
        """After an error that leaves a shared database unusable; others may still be in theirs."""
        with self._lock:
            self._left += [instance.spill for instance in self._shared.values()]
            self._shared.clear()

    def _close(self) -> None:
        for instance in (*self._shared.values(), *self._idle.values()):
            if instance.spill.process == os.getpid():
                instance.close()
        for spill in self._left:
            if spill.process == os.getpid():
                spill.remove()


_instances = _Instances()


Parameter = str | int | float | bool | date | datetime | Sequence[str] | None


@contextmanager
def connection(
    tables: Tables,
    time_zone: str = "UTC",
    *,
    is_private: bool = False,
    is_new: bool = False,
    joins_as_written: bool = False,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that sees `tables` (Arrow tables, readers or datasets) by name; what is made in it has to be
    TEMP, and is gone at the end.

    Args:
        time_zone: the one in which it takes times without a zone, and shows others.
        is_private: nobody else uses it: for what holds for a whole database, such as SETTINGS, which may be changed,
            and functions, which are removed again.
        is_new: a private one that nobody has used before, nor will: for SQL that is not ours.
        joins_as_written: a join may not be turned round: the rows of the first table stream past the others, in their
            order.

    Raises:
        ConfigError: EVERGREEN_DUCKDB_MEMORY is no amount of memory.
    """
    limit = os.environ.get("EVERGREEN_DUCKDB_MEMORY") or MEMORY_LIMIT
    optimizers = "join_order,build_side_probe_side" if joins_as_written else ""
    with ExitStack() as stack:
        try:
            if is_private:
                database = stack.enter_context(_instances.private(limit, is_new=is_new))
            else:
                database = stack.enter_context(_instances.cursor(limit, optimizers))
        except duckdb.Error as error:
            raise ConfigError(
                f"{limit!r} is no amount of memory", where="EVERGREEN_DUCKDB_MEMORY", cure="give one such as 4GB"
            ) from error
        database.execute(f"SET TimeZone = {literal(time_zone)}")
        for name, table in tables.items():
            database.register(name, table)
        try:
            yield database
        except (duckdb.FatalException, duckdb.InternalException):
            _instances.forget()
            raise


def query(
    sql: str,
    tables: Tables,
    parameters: Mapping[str, Parameter] | None = None,
    *,
    joins_as_written: bool = False,
) -> pa.Table:
    """The result as one Arrow table: for results that fit in memory. `joins_as_written`: see `connection`."""
    with connection(tables, joins_as_written=joins_as_written) as database:
        return database.sql(sql, params=dict(parameters or {})).to_arrow_table()


def stream(
    sql: str,
    tables: Tables,
    parameters: Mapping[str, Parameter] | None = None,
    batch_rows: int = 65_536,
    *,
    joins_as_written: bool = False,
) -> Iterator[pa.RecordBatch]:
    """The result batch by batch: bounded memory, whatever its size. `joins_as_written`: see `connection`."""
    with connection(tables, joins_as_written=joins_as_written) as database:
        yield from database.sql(sql, params=dict(parameters or {})).to_arrow_reader(batch_rows)


def partition_of(partitions: Partitions, time: str) -> str:
    """SQL for the key of the partition in which the moment `time`, an SQL expression, lies."""
    if partitions.every == "hour":
        past = partitions.minutes_past
        hour = f"date_trunc('hour', ({time} AT TIME ZONE 'UTC') - INTERVAL {past} MINUTE)"
        return f"strftime({hour}, '%Y-%m-%dT%H{f'{past:02}' if past else ''}Z')"
    if partitions.by_delivery:
        return f"printf('d%05d', (epoch_us({time}) // 3600000000)::BIGINT)"
    local = f"({time} AT TIME ZONE {literal(partitions.timezone)})"
    return f"strftime(date_trunc('{partitions.every}', {local}), '%Y-%m-%d')"


def thinned(key: str, rows: Mapping[str, int], most: int) -> str:
    """SQL condition that keeps about `most` rows of each partition, or all if there are fewer; `rows` counts them.

    By a hash of the column `key`: the same ones in every run. Partitions are named in lists, of which DuckDB makes
    hash tables: one that is compared with a row after the other costs the square of the past.

    >>> print(thinned("id", {"2024-01-01": 90, "2024-01-02": 250, "2024-01-03": 80}, 100))
    (partition IN ('2024-01-01', '2024-01-03') OR hash("id") % 3 = 0 AND partition IN ('2024-01-02'))
    """
    by_step: dict[int, list[str]] = {}
    for partition, count in rows.items():
        by_step.setdefault(-(-count // most), []).append(literal(partition))
    terms = [
        (f"hash({quote(key)}) % {step} = 0 AND " if step > 1 else "") + f"partition IN ({', '.join(keys)})"
        for step, keys in sorted(by_step.items())
    ]
    return f"({' OR '.join(terms)})" if terms else "false"


def is_among(column: str, values: Iterable[str]) -> pc.Expression:
    """Arrow filter: rows whose `column`, of texts, is one of `values`; of no values, no rows.

    The one way to ask this of a Python list: Arrow takes an empty one for a list of nulls, and refuses to compare
    texts with them. The least and the greatest of them are told besides: by these files are passed over, by a list
    they are not.

    >>> pa.table({"id": ["a", "b"]}).filter(is_among("id", [])).num_rows
    0
    """
    among = sorted(values)
    is_one = pc.field(column).isin(pa.array(among, pa.string()))
    if not among:
        return is_one
    return is_one & (pc.field(column) >= pc.scalar(among[0])) & (pc.field(column) <= pc.scalar(among[-1]))


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn DuckDB's complaint about somebody's SQL into a ConfigError that names the file, also while rows stream."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        # As an Arrow stream passes the complaint on, it is an OSError.
        if isinstance(error, OSError) and not re.match(r"[A-Z][\w ]* Error: ", str(error)):
            raise
        what = str(error).split("\n\n")[0]
        hint = re.search(r"Did you mean.*|Candidate bindings.*", str(error))
        cure = hint.group() if hint else "correct the query"
        if "Out of Memory" in what:
            cure = "give DuckDB more (EVERGREEN_DUCKDB_MEMORY) or the temporary folder more room, or simplify it"
            cure += "; keys and texts of a megabyte are better left out"
        raise ConfigError(what.strip().replace("\n", "; "), where=where, cure=cure) from error


def literal(text: str) -> str:
    """A string for SQL.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"
