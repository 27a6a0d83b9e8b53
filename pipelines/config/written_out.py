"""What a problem.yaml leaves out, written out: columns and their types, when they are known, features, models, gate.

Nothing is read but the file itself: types come from the `columns` that its sources declare.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from pipelines.config.base import LOSS_OF, NAME_PATTERN, RESERVED_COLUMNS, Available, Task, did_you_mean
from pipelines.config.plain_table import mentioned
from pipelines.config.training import BASELINES

_CLASSIFIERS = {"prior": {"model": "prior"}, "logistic": {"model": "logistic"}, "xgboost": {"model": "xgboost"}}
CANDIDATES: dict[Task, dict[str, Any]] = {
    "binary": _CLASSIFIERS,
    "multiclass": _CLASSIFIERS,
    "regression": {"prior": {"model": "prior"}, "linear": {"model": "linear"}, "xgboost": {"model": "xgboost"}},
}
"""The models that compete where a problem names none."""
_BETTER_THAN_CHANCE = {
    "limits": {"auc": {"min": 0.5}},
    "gain_over_baselines": {"auc": 0.0},
    "gain_over_champion": {"auc": -0.02},
}
GATES: dict[Task, dict[str, Any]] = {
    "binary": _BETTER_THAN_CHANCE,
    "multiclass": _BETTER_THAN_CHANCE,
    "regression": {
        "limits": {"r2": {"min": 0.0}},
        "gain_over_baselines": {"r2": 0.0},
        "gain_over_champion": {"r2": -0.02},
    },
}
"""What a challenger has to reach where a problem does not say."""


class _PlainTable(NamedTuple):
    """The one source of a problem whose events are its rows."""

    source: str
    types: dict[str, str]
    """Of its declared columns."""


def written_out(raw: dict[str, Any]) -> dict[str, Any]:
    """Settings in which every column has a type and says when it is known, and every section is there.

    What is of a wrong shape stays as it is, for the models to say so. Written out settings stay as they are: what a
    run keeps of its config is read the same way.
    """
    settings = dict(raw)
    if _plain_table(raw) is not None or isinstance(raw.get("columns"), dict):
        settings["columns"] = _columns(raw)
    if isinstance(raw.get("features"), dict):
        settings["features"] = _features(raw["features"], settings.get("columns"))
    task: Task = raw["task"] if raw.get("task") in get_args(Task) else "binary"
    if isinstance(training := raw.get("training", {}), dict):
        settings["training"] = _training(training, task)
    if isinstance(gate := raw.get("gate", {}), dict):
        settings["gate"] = _gate(gate, task)
    return settings


def shorthand_faults(raw: dict[str, Any]) -> Iterator[str]:
    """What keeps settings from being written out, a line each: field, value, cure."""
    yield from _table_faults(raw)
    if (table := _plain_table(raw)) is not None:
        yield from _label_faults(raw, table)
        yield from _column_faults(raw, table)
    yield from _feature_faults(raw)


def _plain_table(raw: dict[str, Any]) -> _PlainTable | None:
    """None where events.sql says what the events are, or where there is not one source with columns."""
    sources = raw.get("sources")
    if not isinstance(raw.get("time"), str) or not isinstance(sources, dict) or len(sources) != 1:
        return None
    ((source, declared),) = sources.items()
    types = _texts(declared.get("columns")) if isinstance(declared, dict) else {}
    return _PlainTable(str(source), types) if types else None


def _columns(raw: dict[str, Any]) -> Any:
    """Columns with their types, and with when they are known where the file says it of all."""
    declared, table = raw.get("columns", {}), _plain_table(raw)
    if not isinstance(declared, dict):
        return declared
    names = list(declared) if table is None else _names(raw, table)
    default = {"available": raw["available"]} if raw.get("available") in get_args(Available) else {}
    columns = {}
    for name in names:
        rules = declared.get(name, {})
        if isinstance(rules, dict):
            said = {setting: value for setting, value in rules.items() if (setting, value) != ("available", None)}
            rules = {**_declared_type(raw, name), **default, **said}
        columns[name] = rules
    return columns


def _names(raw: dict[str, Any], table: _PlainTable) -> list[str]:
    """The columns of events: all of the source's in its order, but those that are something else already."""
    declared = _mapping(raw.get("columns"))
    left_out = [raw.get("key"), raw.get("time"), *_made_into_label(raw, table), *_unfit(raw, table)]
    taken = [name for name in table.types if name in declared or name not in left_out]
    return taken + [name for name in declared if name not in table.types]


def _made_into_label(raw: dict[str, Any], table: _PlainTable) -> list[str]:
    """The columns that the label's value and its time of being known are made of."""
    names = [name for _, text in _label_texts(raw) for name in mentioned(text, table.types)]
    return [name for name in names if name not in (raw.get("key"), raw.get("time"))]


def _label_texts(raw: dict[str, Any]) -> list[tuple[str, str]]:
    """SQL of the label, each with the field that has it."""
    label = raw.get("label")
    if isinstance(label, str):
        return [("label", label)]
    return [(f"label.{name}", text) for name, text in _texts(label).items()]


def _unfit(raw: dict[str, Any], table: _PlainTable) -> list[str]:
    """Columns of the source that cannot be columns of events under their names."""
    settled = [raw.get("key"), raw.get("time"), *_made_into_label(raw, table), *_mapping(raw.get("columns"))]
    names = [name for name in table.types if name not in settled]
    return [name for name in names if not re.fullmatch(NAME_PATTERN, name) or name in RESERVED_COLUMNS]


def _declared_type(raw: dict[str, Any], column: str) -> dict[str, str]:
    """The type that all sources declare that have a column of this name; nothing where they do not agree."""
    declared = [_texts(source.get("columns")) for source in _mapping(raw.get("sources")).values() if _mapping(source)]
    types = {columns[column] for columns in declared if column in columns}
    return {"type": types.pop()} if len(types) == 1 else {}


def _features(features: dict[str, Any], columns: Any) -> dict[str, Any]:
    if features.get("columns") != "all":
        return features
    excluded = _excluded(features)
    chosen = [
        name
        for name, rules in _mapping(columns).items()
        if _mapping(rules).get("type") != "timestamp"
        and _mapping(rules).get("available") != "later"
        and name not in excluded
    ]
    return {**features, "columns": chosen}


def _excluded(features: dict[str, Any]) -> list[str]:
    names = features.get("exclude")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _training(training: dict[str, Any], task: Task) -> dict[str, Any]:
    candidates = training.get("candidates", CANDIDATES[task])
    models = {name: _mapping(candidate).get("model") for name, candidate in _mapping(candidates).items()}
    baselines = [name for name, model in models.items() if model in BASELINES]
    defaults = {"candidates": candidates, "select_by": LOSS_OF[task]}
    return defaults | ({"baselines": baselines} if baselines else {}) | training


def _gate(gate: dict[str, Any], task: Task) -> dict[str, Any]:
    slices = gate.get("slices", {})
    if isinstance(slices, dict):
        slices = {"metric": LOSS_OF[task], **slices}
    return {**GATES[task], **gate, "slices": slices}


def _table_faults(raw: dict[str, Any]) -> Iterator[str]:
    time, key, sources = raw.get("time"), raw.get("key"), _mapping(raw.get("sources"))
    if time is None:
        if raw.get("label") is not None:
            yield "label: goes with `time`, the column that says when an event happens; or write labels.sql"
        return
    if len(sources) > 1:
        names = ", ".join(map(str, sources))
        yield (
            f"time: events are the rows of one source, and there are {len(sources)} ({names}); leave out `time` and "
            "`label`, and write events.sql and labels.sql"
        )
    elif sources and _plain_table(raw) is None:
        (source,) = sources
        yield (
            f"sources.{source}.columns: missing: declare them, such as {{{key}: string, {time}: timestamp}}; events "
            "have these columns, of these types"
        )


def _label_faults(raw: dict[str, Any], table: _PlainTable) -> Iterator[str]:
    """What is wrong with the key, the time and the label, which are columns of the source."""
    for setting in ("key", "time"):
        name = raw.get(setting)
        if isinstance(name, str) and name not in table.types:
            yield f"{setting}: source {table.source!r} has no column {name!r}{did_you_mean(name, table.types)}"
    time = raw["time"]
    if table.types.get(time, "timestamp") != "timestamp":
        yield f"time: {time!r} is {table.types[time]}; declare it as a timestamp under sources.{table.source}.columns"
    for field, text in _label_texts(raw):
        if not mentioned(text, table.types):
            yield f"{field}: {text!r} names no column of source {table.source!r}{did_you_mean(text, table.types)}"


def _column_faults(raw: dict[str, Any], table: _PlainTable) -> Iterator[str]:
    if unfit := _unfit(raw, table):
        yield (
            f"sources.{table.source}.columns: {', '.join(map(repr, unfit))} cannot be the name of a column of events "
            "(a to z, 0 to 9 and _, and none that Evergreen gives itself); write events.sql, which can give another, "
            "or leave it out and set extra_columns: ignore"
        )
    made_into_label = _made_into_label(raw, table)
    for name, rules in _mapping(raw.get("columns")).items():
        if name not in table.types and name != raw.get("key"):
            close = did_you_mean(str(name), table.types)
            yield f"columns.{name}: source {table.source!r} has no such column{close}"
        says_nothing = isinstance(rules, dict) and rules.get("available") is None
        if name in made_into_label and says_nothing and raw.get("available") is not None:
            yield (
                f"columns.{name}.available: the label is made of {name!r}; say `cutoff` if its value is there when the "
                "prediction is due, else `later`"
            )


def _feature_faults(raw: dict[str, Any]) -> Iterator[str]:
    features = _mapping(raw.get("features"))
    excluded, columns = _excluded(features), _mapping(_columns(raw))
    if features.get("columns") != "all":
        if excluded:
            yield "features.exclude: goes with `columns: all`; a list of columns leaves out the others by itself"
        return
    for name in excluded:
        if columns and name not in columns:
            yield f"features.exclude: there is no column {name!r}{did_you_mean(name, columns)}"
    chosen = _features(features, columns)["columns"]
    if columns and not chosen:
        yield "features.columns: all: none is left; each column is a timestamp, known only later, or excluded"
    silent = [str(name) for name in chosen if _mapping(columns[name]).get("available") is None]
    if silent and raw.get("available") is None:
        yield (
            f"features.columns: all: nothing says when {', '.join(silent)} is known; say `available: cutoff` at the "
            "top of the file if all values are there when the prediction is due, or say of each column `cutoff` or "
            "`later`"
        )


def _mapping(value: Any) -> dict[Any, Any]:
    """A mapping; of anything else, of which pydantic complains, an empty one."""
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> dict[str, str]:
    """What of a mapping is text."""
    pairs = _mapping(value).items()
    return {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}
