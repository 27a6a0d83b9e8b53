"""Declared columns against those that a source has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pipelines.config import Source, SourceType, did_you_mean
from pipelines.errors import DataError, SchemaError

DUCKDB_TYPES: dict[SourceType, str] = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "float": "DOUBLE",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMPTZ",
    "list<float>": "FLOAT[]",
}


def check_names(names: Sequence[str], where: str) -> None:
    """Raise DataError when SQL could not tell the columns apart, or could not name one."""
    twice = [name for name, count in Counter(name.lower() for name in names).items() if count > 1]
    if twice or not all(names):
        what = f"two columns are called {', '.join(map(repr, twice))}" if twice else "a column has no name"
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
    ignored = bool(source.columns) and source.extra_columns == "ignore"
    extra = [] if ignored else [column for column in actual if column not in expected]
    twice = [column for column in missing if column.lower() in {other.lower() for other in extra}]
    lines = [
        *(f"  - {column}{_of(expected[column])} is {declared} and missing" for column in missing),
        *(f"  + {column}{_of(actual[column])} is not {declared}" for column in extra),
        *(f"  ~ {line}" for line in retyped),
    ]
    if not lines:
        return
    hints = [f"{column!r}{hint}" for column in missing if (hint := did_you_mean(column, extra))]
    hints = [f"only capitals differ in {', '.join(twice)}"] if twice else hints
    cure = f"correct sources.{name}.columns in problem.yaml, or the source"
    if not source.columns:
        cure = f"make the files alike, or declare sources.{name}.columns in problem.yaml: they say what each file has"
    raise SchemaError(
        f"the columns of source {name!r} differ from those {declared}\n" + "\n".join(lines),
        where=where,
        cure="; ".join([cure, *hints]),
    )


def _of(kind: str) -> str:
    return f" ({kind})" if kind else ""
