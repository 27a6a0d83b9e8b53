"""Declared columns against those that a source has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pipelines.config import Source, SourceType, did_you_mean
from pipelines.errors import DataError, SchemaError
from pipelines.ingest.sources.limits import MOST_GUESSED

DUCKDB_TYPES: dict[SourceType, str] = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "float": "DOUBLE",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMPTZ",
    "list<float>": "FLOAT[]",
}


SHOWN_COLUMNS = 20  # in an error, of each kind
SHOWN_CHARACTERS = 100  # of a name


def check_count(names: Sequence[str], source: Source, where: str) -> None:
    """Raise DataError where there are more columns than types are guessed of."""
    if not source.columns and len(names) > MOST_GUESSED:
        raise DataError(
            f"{len(names):,} columns, and types are guessed of at most {MOST_GUESSED:,}",
            where=where,
            cure="declare those that are needed as the source's columns, with extra_columns: ignore",
        )


def check_names(names: Sequence[str], where: str) -> None:
    """Raise DataError when SQL could not tell the columns apart, or could not name one."""
    twice = [name for name, count in Counter(name.lower() for name in names).items() if count > 1]
    if twice or not all(names):
        shown = ", ".join(repr(_short(name)) for name in twice[:SHOWN_COLUMNS])
        what = f"two columns are called {shown}" if twice else "a column has no name"
        raise DataError(
            what, where=where, cure="name the columns apart (SQL tells no capitals), or declare those that are needed"
        )


def check_columns(
    name: str,
    source: Source,
    expected: Mapping[str, str],
    actual: Mapping[str, str],
    where: str,
    *,
    retyped: Iterable[str] = (),
    may_lack: bool = False,
) -> None:
    """Raise one SchemaError that tells all differences of a file's (or a table's) columns.

    `expected` and `found` map names to types ("" where a format knows none); `retyped` are lines about columns that
    are there and of another type. Without declared columns `expected` is what the source's first file has.
    """
    declared = "declared" if source.columns else "in the first file"
    missing = [] if may_lack else [column for column in expected if column not in actual]
    retyped = list(retyped)
    ignored = bool(source.columns) and source.extra_columns == "ignore"
    extra = [] if ignored else [column for column in actual if column not in expected]
    if not (missing or extra or retyped):
        return
    small = {other.lower() for other in extra}
    twice = [column for column in missing if column.lower() in small]
    lines = [
        *_some(f"  - {_short(column)}{_of(expected[column])} is {declared} and missing" for column in missing),
        *_some(f"  + {_short(column)}{_of(actual[column])} is not {declared}" for column in extra),
        *_some(f"  ~ {line}" for line in retyped),
    ]
    near = [column for column in extra[:MOST_GUESSED] if _short(column) == column]
    hints = [f"{column!r}{hint}" for column in missing[:SHOWN_COLUMNS] if (hint := did_you_mean(_short(column), near))]
    hints = [f"only capitals differ in {', '.join(twice[:SHOWN_COLUMNS])}"] if twice else hints
    cure = f"correct sources.{name}.columns in problem.yaml, or the source"
    if not source.columns:
        cure = f"make the files alike, or declare sources.{name}.columns in problem.yaml: they say what each file has"
    raise SchemaError(
        f"the columns of source {name!r} differ from those {declared}\n" + "\n".join(lines),
        where=where,
        cure="; ".join([cure, *hints]),
    )


def _short(name: str) -> str:
    return name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}..."


def _some(lines: Iterable[str]) -> list[str]:
    """The first lines, and how many more there are."""
    every_line = list(lines)
    more = [f"  and {len(every_line) - SHOWN_COLUMNS:,} more"] if len(every_line) > SHOWN_COLUMNS else []
    return every_line[:SHOWN_COLUMNS] + more


def _of(kind: str) -> str:
    return f" ({kind})" if kind else ""
