"""What a problem.yaml leaves out, written out: columns and their types, when they are known, features, models, gate.

Nothing is read but the file itself: types come from the `columns` that its sources declare.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
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
    settings, file = dict(raw), _File(raw)
    if isinstance(raw.get("columns", {}), dict) and (file.table is not None or "columns" in raw):
        settings["columns"] = file.columns
    if file.features.get("columns") == "all":
        settings["features"] = {**file.features, "columns": file.features_of_all}
    if isinstance(raw.get("training", {}), dict):
        settings["training"] = file.training
    if isinstance(raw.get("gate", {}), dict):
        settings["gate"] = file.gate
    if file.by_delivery:
        dataset = raw.get("dataset", {})
        split = dataset.get("split", {}) if isinstance(dataset, dict) else None
        if isinstance(split, dict):
            settings["dataset"] = {**dataset, "split": {"drawn": {}, **split}}
    return settings


def shorthand_faults(raw: dict[str, Any]) -> list[str]:
    """What keeps settings from being written out, a line each: field, value, cure."""
    file = _File(raw)
    faults = list(_table_faults(file))
    if file.table is not None:
        faults += [*_label_faults(file, file.table), *_column_faults(file, file.table)]
    return [*faults, *_feature_faults(file)]


class _File:
    """A problem.yaml as somebody wrote it, and what follows from that."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.key, self.time, self.available = (raw.get(name) for name in ("key", "time", "available"))
        self.label = raw.get("label")
        partitions = _mapping(raw.get("partitions"))
        self.by_delivery = partitions.get("every") == "delivery"
        self.delivery_column = partitions.get("column")
        self.sources = _mapping(raw.get("sources"))
        self.declared = _mapping(raw.get("columns"))
        self.features = _mapping(raw.get("features"))
        self.task: Task = raw["task"] if raw.get("task") in get_args(Task) else "binary"
        self._training = _mapping(raw.get("training"))
        self._gate = _mapping(raw.get("gate"))

    @cached_property
    def table(self) -> _PlainTable | None:
        """None where events.sql says what the events are, or where there is not one source with columns."""
        if not self.is_plain or len(self.sources) != 1:
            return None
        ((source, declared),) = self.sources.items()
        types = _texts(_mapping(declared).get("columns"))
        return _PlainTable(str(source), types) if types else None

    @property
    def is_plain(self) -> bool:
        """Whether the events are the rows of a source: `time` says so, and of deliveries, which have none, `label`."""
        return isinstance(self.time, str) or (self.by_delivery and self.label is not None)

    @property
    def no_features(self) -> list[str]:
        """Columns of the source that say which event a row is, or where it belongs."""
        return [name for name in (self.key, self.time, self.delivery_column) if isinstance(name, str)]

    @cached_property
    def label_texts(self) -> list[tuple[str, str]]:
        """SQL of the label, each with the field that has it."""
        if isinstance(self.label, str):
            return [("label", self.label)]
        return [(f"label.{name}", text) for name, text in _texts(self.label).items()]

    @cached_property
    def made_into_label(self) -> list[str]:
        """The columns that the label's value and its time of being known are made of."""
        types = self.table.types if self.table else {}
        names = [name for _, text in self.label_texts for name in mentioned(text, types)]
        return [name for name in names if name not in self.no_features]

    @cached_property
    def unfit(self) -> list[str]:
        """Columns of the source that cannot be columns of events under their names."""
        settled = [*self.no_features, *self.made_into_label, *self.declared]
        names = [name for name in (self.table.types if self.table else ()) if name not in settled]
        return [name for name in names if not re.fullmatch(NAME_PATTERN, name) or name in RESERVED_COLUMNS]

    @cached_property
    def columns(self) -> dict[Any, Any]:
        """Columns with their types, and with when they are known where the file says it of all."""
        default = {"available": self.available} if self.available in get_args(Available) else {}
        columns = {}
        for name in self._names():
            rules = self.declared.get(name, {})
            if isinstance(rules, dict):
                said = {setting: value for setting, value in rules.items() if (setting, value) != ("available", None)}
                rules = {**self._declared_type(name), **default, **said}
            columns[name] = rules
        return columns

    def _names(self) -> list[str]:
        """Of a plain table all columns of the source, in its order, but those that are something else already."""
        if self.table is None:
            return list(self.declared)
        left_out = [*self.no_features, *self.made_into_label, *self.unfit]
        taken = [name for name in self.table.types if name in self.declared or name not in left_out]
        return taken + [name for name in self.declared if name not in self.table.types]

    def _declared_type(self, column: str) -> dict[str, str]:
        """The type that all sources declare that have a column of this name; nothing where they do not agree."""
        declared = [_texts(_mapping(source).get("columns")) for source in self.sources.values()]
        types = {columns[column] for columns in declared if column in columns}
        if len(types) != 1:
            return {}
        (declared_type,) = types
        return {"type": "embedding" if declared_type == "list<float>" else declared_type}

    @cached_property
    def excluded(self) -> list[str]:
        names = self.features.get("exclude")
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    @cached_property
    def features_of_all(self) -> list[str]:
        """The columns that `features.columns: all` stands for."""
        return [
            name
            for name, rules in self.columns.items()
            if _mapping(rules).get("type") != "timestamp"
            and _mapping(rules).get("available") != "later"
            and name not in self.excluded
        ]

    @property
    def training(self) -> dict[str, Any]:
        candidates = self._training.get("candidates", CANDIDATES[self.task])
        models = {name: _mapping(candidate).get("model") for name, candidate in _mapping(candidates).items()}
        baselines = [name for name, model in models.items() if model in BASELINES]
        defaults = {"candidates": candidates, "select_by": LOSS_OF[self.task]}
        return defaults | ({"baselines": baselines} if baselines else {}) | self._training

    @property
    def gate(self) -> dict[str, Any]:
        """Whoever sets one of the thresholds sets all: of a gate that has lost one, nobody would know."""
        slices = self._gate.get("slices", {})
        if isinstance(slices, dict):
            slices = {"metric": LOSS_OF[self.task], **slices}
        thresholds = GATES[self.task] if not set(self._gate) & set(GATES[self.task]) else {}
        return {**thresholds, **self._gate, "slices": slices}


def _table_faults(file: _File) -> Iterator[str]:
    if not file.is_plain:
        if file.label is not None:
            yield (
                "label: goes with `time`, the column that says when an event happens; or write labels.sql. If nothing "
                "in the data says when, let partitions be {every: delivery}"
            )
        return
    if len(file.sources) > 1:
        names, setting = ", ".join(map(str, file.sources)), "label" if file.time is None else "time"
        yield (
            f"{setting}: events are the rows of one source, and there are {len(file.sources)} ({names}); leave out "
            f"{'`label`' if file.time is None else '`time` and `label`'}, and write events.sql and labels.sql"
        )
    elif file.sources and file.table is None:
        (source,) = file.sources
        example = "age: float" if file.time is None else f"{file.time}: timestamp"
        yield (
            f"sources.{source}.columns: missing: declare them, such as {{{file.key}: string, {example}}}; "
            "events have these columns, of these types"
        )


def _label_faults(file: _File, table: _PlainTable) -> Iterator[str]:
    """What is wrong with the key, the time and the label, which are columns of the source."""
    named = (("key", file.key), ("time", file.time), ("partitions.column", file.delivery_column))
    for setting, name in named:
        if isinstance(name, str) and name not in table.types:
            yield f"{setting}: source {table.source!r} has no column {name!r}{did_you_mean(name, table.types)}"
    kind = table.types.get(str(file.time), "timestamp")
    if kind != "timestamp":
        yield f"time: {file.time!r} is {kind}; declare it as a timestamp under sources.{table.source}.columns"
    for field, text in file.label_texts:
        if not mentioned(text, table.types):
            yield f"{field}: {text!r} names no column of source {table.source!r}{did_you_mean(text, table.types)}"


def _column_faults(file: _File, table: _PlainTable) -> Iterator[str]:
    if file.unfit:
        yield (
            f"sources.{table.source}.columns: {', '.join(map(repr, file.unfit))} cannot be the name of a column of "
            "events (a to z, 0 to 9 and _, and none that Evergreen gives itself); write events.sql, which can give "
            "another, or leave it out and set extra_columns: ignore"
        )
    for name, rules in file.declared.items():
        if name not in table.types and name != file.key:
            close = did_you_mean(str(name), table.types)
            yield f"columns.{name}: source {table.source!r} has no such column{close}"
        says_nothing = isinstance(rules, dict) and rules.get("available") is None
        if name in file.made_into_label and says_nothing and file.available is not None:
            yield (
                f"columns.{name}.available: the label is made of {name!r}; say `cutoff` if its value is there when the "
                "prediction is due, else `later`"
            )


def _feature_faults(file: _File) -> Iterator[str]:
    if file.features.get("columns") != "all":
        if file.excluded:
            yield "features.exclude: goes with `columns: all`; a list of columns leaves out the others by itself"
        return
    if not file.columns:
        return
    for name in file.excluded:
        if name not in file.columns:
            yield f"features.exclude: there is no column {name!r}{did_you_mean(name, file.columns)}"
    if not file.features_of_all:
        yield "features.columns: all: none is left; each column is a timestamp, known only later, or excluded"
    silent = [str(name) for name in file.features_of_all if _mapping(file.columns[name]).get("available") is None]
    if silent and file.available is None:
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
