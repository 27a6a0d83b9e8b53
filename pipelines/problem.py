"""The config of one prediction problem: `include/problems/<name>/problem.yaml`, read into frozen models.

Light on purpose (pydantic and yaml only): DAG files import it every time they are parsed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints, ValidationError, model_validator

from pipelines.config import (
    DELIVERED,
    LOSSES_OF,
    METRICS_OF,
    NOT_SHARED_OBJECTIVES,
    NOUNS,
    RESERVED_COLUMNS,
    RESERVED_KEYS,
    Alerts,
    Available,
    Candidate,
    Column,
    Config,
    Costs,
    Dataset,
    Evaluation,
    Features,
    Gate,
    Labels,
    Monitoring,
    Name,
    Partitions,
    Preprocessing,
    Release,
    Replay,
    Scheduling,
    Scoring,
    Source,
    Task,
    Training,
    Validation,
    VectorKind,
    WrittenLabel,
    did_you_mean,
    events_query,
    is_none,
    is_vector,
    labels_query,
    may_be_left_out,
    shorthand_faults,
    written_out,
)
from pipelines.errors import ConfigError
from pipelines.problem_folders import folder_of, place_faults, problem_names

Query = Literal["events", "labels"]
# Where columns cannot be taken from a source, that is said, and not what is missing for want of them.
FOLLOWS_FROM_SHORTHAND = re.compile(r"columns(\.\w+\.type)?: missing|features\.columns: List should have at least 1")
SETTING_OF: dict[Query, Literal["time", "label"]] = {"events": "time", "labels": "label"}
"""What stands in place of a query's file."""
ROOT = Path(__file__).resolve().parent.parent
TAG_CHARACTERS, OWNER_CHARACTERS = 100, 2000  # as long as Airflow's database takes them
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=TAG_CHARACTERS)]
NAMES_LISTED = 20  # problems that are there, where one of another name was asked for


class NotByWorkers(NamedTuple):
    """A setting with which several workers cannot fit a model."""

    setting: str
    """Where it stands, and what it is."""
    reason: str
    instead: str
    """What to do about it, with as many workers."""


class Problem(Config):
    """One prediction problem, whole."""

    model_config = ConfigDict(json_schema_extra=may_be_left_out("columns", "training", "gate"))

    description: str = Field(description="what is asked, in a sentence")
    owner: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=OWNER_CHARACTERS)] = Field(
        description="who answers for the problem; the owner of its DAGs, and a tag of theirs",
    )
    task: Task = Field("binary", description="what is predicted: a label of 0 and 1, a class of several, a number")
    tags: list[Tag] = Field([], description=f"for Airflow's list of DAGs, of {TAG_CHARACTERS} characters at most")
    key: Name = Field(description="column of events and labels that names an event")
    time: str | None = Field(
        None,
        exclude_if=is_none,
        description="where one source is one row per event: its column that says when. The events are its rows then, "
        "in place of events.sql",
    )
    label: WrittenLabel = Field(
        None,
        exclude_if=is_none,
        description="with `time`, or of deliveries: what is to be predicted, in place of labels.sql (of deliveries, of "
        "events.sql too)",
    )
    partitions: Partitions
    sources: dict[Name, Source] = Field(min_length=1, description="tables that events and labels are selected from")
    available: Available | None = Field(
        None, exclude=True, description="when values are known, of each column that does not say itself"
    )
    columns: dict[Name, Column] = Field(
        min_length=1,
        description="of events. With `time` the source's columns need not be named, but for what is to be said of them",
    )
    validation: Validation = Validation()
    labels: Labels = Labels()
    dataset: Dataset = Dataset()
    features: Features
    training: Training
    costs: Costs = Costs()
    evaluation: Evaluation = Evaluation()
    gate: Gate
    scoring: Scoring = Scoring()
    monitoring: Monitoring = Monitoring()
    release: Release = Release()
    alerts: Alerts = Alerts()
    scheduling: Scheduling = Scheduling()
    replay: Replay | None = Field(None, description="only for problems whose data lies in the past")

    _folder: Path = PrivateAttr(Path())
    _queries: dict[Query, str | None] | None = PrivateAttr(
        None
    )  # of a config that was pinned; else those of the folder

    @model_validator(mode="after")
    def _sections_agree(self) -> Problem:
        """What no section can see by itself. Everything that is wrong is told at once, a line each."""
        faults = [*self._name_faults(), *self._task_faults(), *self._feature_faults(), *self._release_faults()]
        faults += self._engine_faults()
        faults += self._delivery_faults() if self.partitions.by_delivery else self._faults_in_time()
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _name_faults(self) -> Iterator[str]:
        for name in (self.key, *self.columns):
            if name in RESERVED_COLUMNS:
                yield f"columns: {name!r} is a name that Evergreen gives itself; rename it in events.sql"
        if self.key in RESERVED_KEYS:
            yield f"key: {self.key!r} is a name that Evergreen gives itself; rename it in events.sql"
        for name in {"events", "labels"} & set(self.sources):
            yield f"sources: {name!r} is a table of Evergreen's own; choose another name"
        if self.key in self.columns:
            yield f"columns: {self.key!r} is the key and is declared by `key` already"
        made = [*self.features.history, *self.features.crosses]
        for name, part in self.features.datetime.items():
            made += [f"{name}_sin", f"{name}_cos"] if part.cyclical else [name]
        for name in made:
            if name in self.columns or name in RESERVED_COLUMNS or made.count(name) > 1:
                what = "a column" if name in self.columns else "the name of something else"
                yield f"features: {name!r} is {what} already; choose another name"
        for place, name in self._columns_used():
            if name not in self.columns:
                yield f"{place}: column {name!r} is not declared under columns{did_you_mean(name, self.columns)}"
        for place, name in self._values_used():
            if name in self.columns and self.columns[name].type == "timestamp":
                yield (
                    f"{place}: {name!r} is a timestamp; take a part of it (features.datetime), or let events.sql give "
                    "a number (an hour, an age)"
                )
        for place, name in self._groups_used():
            if name in self.columns and is_vector(column_type := self.columns[name].type):
                noun = NOUNS[column_type]
                yield f"{place}: {name!r} is {noun}, of which no two rows need have the same: it forms no groups"
        for feature, history in self.features.history.items():
            if history.of != "label" and history.of not in self.columns:
                continue
            kind = self.label_type if history.of == "label" else self.columns[history.of].type
            is_no_number = kind in ("string", "timestamp") or is_vector(kind)
            if history.function in ("mean", "sum", "std", "min", "max", "last") and is_no_number:
                yield (
                    f"features.history.{feature}: {history.function} needs numbers, and {history.of!r} is {kind}; use "
                    "count or distinct"
                )
        for name, part in self.features.datetime.items():
            if part.of in self.columns and self.columns[part.of].type != "timestamp":
                yield f"features.datetime.{name}.of: {part.of!r} is {self.columns[part.of].type}, no timestamp"
        if self.labels.self_training and self.labels.self_training.candidate not in self.training.candidates:
            yield (
                f"labels.self_training.candidate: {self.labels.self_training.candidate!r} is not one of the candidates"
                f"{did_you_mean(self.labels.self_training.candidate, self.training.candidates)}"
            )
        if self.replay:
            parts, history_until, until = self.partitions, self.replay.history_until, self.replay.until
            for name, day in (("history_until", history_until), ("until", until)):
                if fault := parts.fault_of(day):
                    yield f"replay.{name}: {fault}"
            first, last = parts.last_of(history_until), parts.last_of(until)
            if not parts.first_key <= first < last <= (parts.last_key or last):
                yield "replay: wanted partitions.first <= history_until < until <= partitions.last"

    def _task_faults(self) -> Iterator[str]:
        task, training, labels, costs = self.task, self.training, self.labels, self.costs
        if (task == "multiclass") != bool(labels.classes) or len(labels.classes) == 1:
            yield f"labels.classes: name all of them for the task multiclass, and none for {task}"
        metrics = [("training.select_by", training.select_by), ("training.search.metric", training.search.metric)]
        metrics += [("gate.slices.metric", self.gate.slices.metric)] if self.gate.slices else []
        for section in ("limits", "gain_over_baselines", "gain_over_champion"):
            metrics += [(f"gate.{section}", metric) for metric in getattr(self.gate, section)]
        for place, metric in metrics:
            if metric is not None and metric not in METRICS_OF[task]:
                known = ", ".join(sorted(METRICS_OF[task]))
                yield f"{place}: {metric!r} is no metric of the task {task}; known: {known}"
        has_costs = bool(costs.matrix or costs.over or costs.under)
        if (costs.matrix and task == "regression") or ((costs.over or costs.under) and task != "regression"):
            yield f"costs: matrix is for classes, over and under are for regression; the task is {task}"
        classes = set(self.classes)
        for name in {*costs.matrix, *(decided for row in costs.matrix.values() for decided in row)} - classes:
            yield f"costs.matrix: {name!r} is no class{did_you_mean(name, classes)}"
        asks_for_costs = [
            ("metric cost", any(metric == "cost" for _, metric in metrics)),
            ("training.threshold.by: cost", training.threshold.by == "cost"),
        ]
        only_binary = [
            ("labels.weak", labels.weak),
            ("labels.hand", labels.hand),
            ("labels.self_training", labels.self_training),
            ("labels.after_maturity: negative", labels.after_maturity == "negative"),
            ("training.threshold.by", training.threshold.by != "fixed"),
        ]
        only_classes = [
            ("dataset.resampling", self.dataset.resampling.method != "none"),
            ("evaluation.fairness", self.evaluation.fairness),
            ("gate.max_calibration_error", self.gate.max_calibration_error),
        ]
        for name in training.candidates:
            candidate, place = training.of(name), f"training.candidates.{name}"
            imbalance = candidate.imbalance.method if candidate.imbalance else "none"
            asks_for_costs.append((f"{place}.imbalance: cost_matrix", imbalance == "cost_matrix"))
            only_classes += [
                (f"{place}.imbalance", imbalance != "none" and not candidate.is_baseline),
                (f"{place}: logistic", candidate.model == "logistic"),
            ]
            calibration = candidate.calibration
            only_classes.append((f"{place}.calibration", calibration is not None and calibration.method != "none"))
            if task != "regression" and candidate.model == "linear":
                yield f"{place}: linear is for the task regression; use logistic"
            fits_itself = not candidate.is_baseline and not candidate.of
            if imbalance == "focal" and fits_itself and (candidate.model != "xgboost" or task != "binary"):
                yield f"{place}.imbalance: focal is for xgboost, on a binary problem; give it another"
        for place, is_there in asks_for_costs:
            if is_there and not has_costs:
                yield f"{place} needs costs, and there are none"
        for place, is_there in (
            *(only_binary if task != "binary" else ()),
            *(only_classes if task == "regression" else ()),
        ):
            if is_there:
                yield f"{place} does not go with the task {task}"
        if self.gate.max_unfairness and self.evaluation.fairness is None:
            yield "gate.max_unfairness needs evaluation.fairness: which groups?"

    def _engine_faults(self) -> Iterator[str]:
        """What several workers cannot do, where the engine has them whatever the number of rows."""
        training = self.training
        shared = [name for name in training.candidates if training.has_workers(name, is_large=False)]
        if not shared or training.engine is None:
            return
        why = f"does not go with training.engine.kind: {training.engine.kind}"
        if training.device == "cuda":
            yield f"training.device: cuda {why}, as several workers learn on CPUs; set device: auto, or kind: local"
        for name in shared:
            for setting in self.needs_all_rows(name):
                yield f"{setting}: needs all rows at once and {why}, whose workers have some each; set kind: local"
            for part in self.not_by_workers(name):
                yield f"{part.setting} {why}{part.reason}; {part.instead}, or set kind: local"

    def not_by_workers(self, name: str) -> Iterator[NotByWorkers]:
        """What several workers cannot do of the parameters that a candidate of xgboost has or searches."""
        candidate, place = self.training.candidates[name], f"training.candidates.{name}"
        tried = {parameter: [value] for parameter, value in candidate.parameters.items()}
        where = dict.fromkeys(tried, f"{place}.parameters") | dict.fromkeys(candidate.search, f"{place}.search")
        tried |= {parameter: values.tried for parameter, values in candidate.search.items()}
        if any(value != 1 for value in tried.get("num_parallel_tree", [])):
            yield NotByWorkers(f"{where['num_parallel_tree']}.num_parallel_tree", "", "leave it out")
        for objective in set(NOT_SHARED_OBJECTIVES) & {*map(str, tried.get("objective", []))}:
            reason = ", as its leaves have quantiles, of which each worker knows its own rows'"
            yield NotByWorkers(f"{where['objective']}.objective: {objective}", reason, "choose another")

    def needs_all_rows(self, name: str) -> list[str]:
        """What a candidate has with which it learns from all its training rows at once, and neither from disk nor by
        several workers: its model, or settings, each by where it stands. Of a baseline nothing."""
        candidate, own = self.training.of(name), self.training.candidates[name]
        if candidate.is_baseline:
            return []
        place = {
            setting: f"training.candidates.{name}.{setting}" if getattr(own, setting) else f"training.{setting}"
            for setting in ("selection", "calibration", "preprocessing")
        }
        needs = {
            f"model {candidate.model}": candidate.model != "xgboost",
            place["selection"]: candidate.selection is not None and candidate.selection.method != "none",
            place["calibration"]: candidate.calibration is not None and candidate.calibration.method != "none",
            f"{place['preprocessing']}.encoding: target": "target" in self._encodings(candidate),
            "dataset.resampling": self.dataset.resampling.method != "none",
            "dataset.augmentation": self.dataset.augmentation.method != "none",
        }
        return [what for what, is_needed in needs.items() if is_needed]

    def _encodings(self, candidate: Candidate) -> set[str]:
        """Of its categories."""
        preprocessing = candidate.preprocessing or Preprocessing()
        own = {name: prepared.encoding for name, prepared in preprocessing.columns.items()}
        return {own.get(name) or preprocessing.encoding for name in self.categorical_features}

    def _feature_faults(self) -> Iterator[str]:
        features, used = self.feature_names, [("evaluation.slices.by", name) for name in self.evaluation.slices.by]
        for name, behaviour in self.evaluation.behaviours.items():
            used += [(f"evaluation.behaviours.{name}.columns", column) for column in behaviour.columns]
        for name, candidate in self.training.candidates.items():
            prepared = candidate.preprocessing.columns if candidate.preprocessing else {}
            used += [(f"training.candidates.{name}.preprocessing.columns", column) for column in prepared]
            kept = candidate.selection.always if candidate.selection else []
            used += [(f"training.candidates.{name}.selection.always", column) for column in kept]
        shared = self.training
        used += [("training.selection.always", column) for column in shared.selection.always]
        prepared = shared.preprocessing.columns if shared.preprocessing else {}
        used += [("training.preprocessing.columns", column) for column in prepared]
        for place, name in used:
            if name not in features:
                yield f"{place}: {name!r} is not a feature{did_you_mean(name, features)}"
        yield from self._gap_faults()
        method, vectors = self.dataset.resampling.method, self.vector_features
        if vectors and method in ("smote", "tomek"):
            yield (
                f"dataset.resampling.method: {method} goes by how far rows are apart, which {', '.join(vectors)} does "
                "not say; take oversample or undersample"
            )
        if "embedding" in vectors.values() and self.dataset.augmentation.method == "mixup":
            yield "dataset.augmentation.method: mixup does not know how to mix embeddings; take perturb"
        for name, behaviour in self.evaluation.behaviours.items():
            for column in {*behaviour.columns} & {*vectors}:
                is_set = behaviour.set is not None and vectors[column] == "text"
                if not behaviour.shuffle and not is_set:
                    ways = "set or shuffle" if vectors[column] == "text" else "shuffle"
                    yield (
                        f"evaluation.behaviours.{name}: {column!r} is {NOUNS[vectors[column]]}, and add, multiply and "
                        f"noise are for numbers; take {ways} for it"
                    )
        for name in self.evaluation.fairness.groups if self.evaluation.fairness else []:
            if name not in features and name not in self.columns:
                close = did_you_mean(name, [*features, *self.columns])
                yield f"evaluation.fairness.groups: {name!r} is neither a feature nor a column{close}"

    def _gap_faults(self) -> Iterator[str]:
        """A linear model takes neither gaps nor category codes, and either may come when it scores."""
        for name in self.training.candidates:
            candidate = self.training.of(name)
            if candidate.model not in ("logistic", "linear") or candidate.preprocessing is None:
                continue
            for feature in self.feature_names:
                if feature in self.vector_features:  # has no gaps, once it is prepared
                    continue
                own = candidate.preprocessing.columns.get(feature)
                is_category = feature in self.categorical_features
                missing = own.missing if own and own.missing else candidate.preprocessing.missing
                encoding = own.encoding if own and own.encoding else candidate.preprocessing.encoding
                if (encoding if is_category else missing.method) == "native":
                    setting, cure = ("encoding", "one_hot") if is_category else ("missing.method", "median")
                    yield (
                        f"training.candidates.{name}: {candidate.model} cannot take {feature} as it is: {setting} is "
                        f"native; set preprocessing.{setting}: {cure}, or leave preprocessing out: it then has what it "
                        "needs"
                    )
                    break

    def _faults_in_time(self) -> Iterator[str]:
        if self.dataset.split.drawn:
            yield (
                "dataset.split.drawn: goes with deliveries (partitions.every: delivery). What has a time is split by "
                "it: a random split of data that moves reports what no future will show"
            )

    def _delivery_faults(self) -> Iterator[str]:
        """What asks for a time that rows of deliveries do not have."""
        no_time = "deliveries have no time"
        if self.time is not None:
            yield (
                f"time: {no_time}, only an order. If {self.time!r} says when a row happens, cut by it "
                "(partitions.every: day, with first); if not, leave `time` out"
            )
        if self.label and self.label.known is not None:
            yield f"label.known: {no_time}: a label is known from the delivery on that brings it; leave it out"
        if self.features.history:
            yield (
                f"features.history: {', '.join(self.features.history)}: {no_time}, so nothing says which rows lay "
                "before another; leave them out, or cut by a time (partitions.every: day)"
            )
        for name, part in self.features.datetime.items():
            if part.of in ("event_time", "cutoff_time"):
                yield f"features.datetime.{name}.of: {no_time}: take it of a column that is a timestamp"
        if self.labels.delay_days or self.labels.maturity_days:
            yield (
                f"labels: delay_days and maturity_days count days, and {no_time}: a label is there once a delivery has "
                "brought it. Leave them out"
            )
        if self.labels.after_maturity == "negative":
            yield (
                "labels.after_maturity: negative: no time passes after which a label would have come; let the label "
                "be 0 where it is missing (label: coalesce(..., 0))"
            )
        for name, source in self.sources.items():
            if source.kind == "topic":
                yield f"sources.{name}.topic: messages come one by one, and not as deliveries; cut by a time"
            if source.time_column:
                how = "a delivered source is read delivery by delivery, the others are read whole"
                yield f"sources.{name}.time_column: {no_time}: {how}; leave it out"
        settings: list[tuple[str, object, object, str]] = [
            ("validation.max_age_days", self.validation.max_age_days, None, "leave it out"),
            ("gate.max_age_days", self.gate.max_age_days, None, "leave it out"),
            (
                "dataset.sampling.half_life_days",
                self.dataset.sampling.half_life_days,
                None,
                "take dataset.window_partitions",
            ),
            (
                "dataset.split.validation_partitions",
                self.dataset.split.validation_partitions,
                1,
                "take drawn.validation",
            ),
            ("dataset.split.test_partitions", self.dataset.split.test_partitions, 2, "take drawn.test"),
            ("replay", self.replay, None, "leave it out: deliveries are ingested one after another as they come"),
        ]
        for place, value, default, cure in settings:
            if value != default:
                yield f"{place}: {no_time}; {cure}"
        delivered = self.partitions.source
        if delivered is not None and delivered not in self.sources:
            yield f"partitions.source: there is no source {delivered!r}{did_you_mean(delivered, self.sources)}"
        if delivered is None and len(self.sources) > 1:
            names = ", ".join(self.sources)
            yield f"partitions.source: which of {names} is delivered? The others are read whole each time"
        for name, source in self.sources.items():
            if name in (delivered, *([] if delivered else self.sources)) and DELIVERED in source.columns:
                yield f"sources.{name}.columns: {DELIVERED!r} is a name that Evergreen gives itself; rename it"

    @property
    def delivered(self) -> str:
        """The source that is delivered, of a problem of deliveries."""
        return self.partitions.source or next(iter(self.sources))

    def _release_faults(self) -> Iterator[str]:
        release, known = self.release, LOSSES_OF[self.task]
        loss = release.loss(self.task)
        if loss not in known:
            yield f"release.metric: {loss!r} does not go with the task {self.task}; known: {', '.join(sorted(known))}"
        if loss == "cost" and not (self.costs.matrix or self.costs.over or self.costs.under):
            yield "release.metric: cost needs costs, and there are none"
        if self.task == "regression" and release.by_steps and release.margin is None and release.require != "gain":
            yield f"release.margin: by how much {loss} may be worse depends on the label's unit: name it"
        if release.unit != "key" and release.unit not in self.columns:
            yield (
                f"release.unit: {release.unit!r} is neither key nor a column"
                f"{did_you_mean(release.unit, ['key', *self.columns])}"
            )

    def _values_used(self) -> list[tuple[str, str]]:
        """Places of the config that name a column whose value is a feature or forms a group."""
        features, dataset = self.features, self.dataset
        used = [("features.columns", name) for name in features.columns]
        for feature, history in features.history.items():
            used += [(f"features.history.{feature}.by", name) for name in history.by]
            used += [(f"features.history.{feature}.of", history.of)] if history.of != "label" else []
        for feature, cross in features.crosses.items():
            used += [(f"features.crosses.{feature}.of", name) for name in cross.of]
        used += [("dataset.sampling.by", name) for name in dataset.sampling.by if name != "label"]
        used += [("dataset.sampling.weight_column", name) for name in [dataset.sampling.weight_column] if name]
        used += [("dataset.split.group_by", name) for name in [dataset.split.group_by] if name]
        return used + [("dataset.leaks.entities", name) for name in dataset.leaks.entities]

    def _groups_used(self) -> list[tuple[str, str]]:
        """Places of the config that name a column whose equal values make rows a group, or a slice."""
        used = [
            (place, name)
            for place, name in self._values_used()
            if place != "features.columns" and not place.endswith(".of")
        ]
        used += [
            (f"features.crosses.{cross}.of", name) for cross, of in self.features.crosses.items() for name in of.of
        ]
        used += [("evaluation.slices.by", name) for name in self.evaluation.slices.by]
        used += [
            ("evaluation.fairness.groups", name)
            for name in (self.evaluation.fairness.groups if self.evaluation.fairness else [])
        ]
        return [*used, ("release.unit", self.release.unit)]

    def _columns_used(self) -> list[tuple[str, str]]:
        """All places of the config that name a column."""
        used = self._values_used()
        for name, part in self.features.datetime.items():
            used += [(f"features.datetime.{name}.of", part.of)] if part.of not in ("event_time", "cutoff_time") else []
        return used + [("labels.hand.show", name) for name in (self.labels.hand.show if self.labels.hand else [])]

    @property
    def name(self) -> str:
        return self._folder.name

    @property
    def folder(self) -> Path:
        return self._folder

    def sql(self, name: Query) -> str:
        """The text of the problem's `<name>.sql`, or what stands in its place."""
        if self._queries is not None and (text := self._queries[name]) is not None:
            return text
        if (text := self._made_query(name)) is not None:
            return text
        path = self._folder / f"{name}.sql"
        try:
            return path.read_text()
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be read: {error.strerror}",
                where=str(path),
                cure=f"write the query that gives the {name}, one row each; or, where one source is one row per "
                f"event, say `{self.setting_of(name)}` in problem.yaml",
            ) from error

    def setting_of(self, name: Query) -> Literal["time", "label"]:
        """The setting that may stand in place of a query's file."""
        return "label" if self.partitions.by_delivery else SETTING_OF[name]

    def place(self, name: Query) -> str:
        """Where somebody looks who wants to change a query: its file, or the setting that it is made of."""
        if self._made_query(name) is not None:
            return f"{self._folder / 'problem.yaml'}, {self.setting_of(name)}"
        return str(self._folder / f"{name}.sql")

    def _made_query(self, name: Query) -> str | None:
        """The query that `time` and `label` stand for; None where a file has it. Of deliveries it is `label` alone."""
        time = DELIVERED if self.partitions.by_delivery and self.label else self.time
        if time is None:
            return None
        ((source, declared),) = self.sources.items()
        if name == "events":
            return events_query(source, self.key, time, self.columns)
        return labels_query(source, self.key, time, self.label, declared.columns) if self.label else None

    @property
    def queries(self) -> tuple[Query, ...]:
        """events, and labels unless they come only by hand and by functions and nothing says what others are."""
        if self._queries is not None:
            return tuple(self._queries)
        has_labels = self.label or (self._folder / "labels.sql").exists() or "natural" in self.labels.use
        return ("events", "labels") if has_labels else ("events",)

    def present(self, newest: str, now: datetime) -> datetime:
        """What time it is for the problem, `newest` being its newest ingested partition.

        Where data keeps coming that is `now`; a problem whose data lies in the past lives at the end of its newest
        partition, so that a replay learns of things as it would have then. So does one of deliveries, whose moments are
        no times of the world.
        """
        end = self.partitions.end(newest)
        lives_there = self.partitions.by_delivery or self.partitions.is_past(now)
        return end if lives_there else max(end, now)

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their scores; none of a regression."""
        return {"binary": ["0", "1"], "multiclass": self.labels.classes, "regression": []}[self.task]

    @property
    def label_type(self) -> str:
        """Type name of a label in the tables: a class of several is kept by its name."""
        return {"binary": "int8", "multiclass": "string", "regression": "float"}[self.task]

    @property
    def feature_names(self) -> list[str]:
        """The model's features, in its order: columns, history, crosses, parts of times."""
        parts = [
            derived
            for name, part in self.features.datetime.items()
            for derived in ((f"{name}_sin", f"{name}_cos") if part.cyclical else (name,))
        ]
        return [*self.features.columns, *self.features.history, *self.features.crosses, *parts]

    @property
    def categorical_features(self) -> list[str]:
        kinds = {name: self.columns[name].type for name in self.features.columns if name in self.columns}
        columns = [name for name, kind in kinds.items() if kind in ("string", "boolean")]
        return [*columns, *self.features.crosses]

    @property
    def vector_features(self) -> dict[str, VectorKind]:
        """Features that a model sees as vectors, and their kinds."""
        kinds = {name: self.columns[name].type for name in self.features.columns if name in self.columns}
        return {name: kind for name, kind in kinds.items() if is_vector(kind)}

    @cached_property
    def feature_set(self) -> str:
        """Version of the feature definitions: a hash, so that equal definitions have equal versions.

        Words about a feature (its description, unit and owner) are no part of what it is.
        """
        words = {"unit", "description", "owner"}
        features = self.features
        defined = {
            "columns": {name: self.columns[name].type for name in features.columns},
            "used": {name: self.columns[name].type for place, name in self._columns_used() if "features." in place},
            "history": {name: declared.model_dump(exclude=words) for name, declared in features.history.items()},
            "crosses": {name: declared.model_dump(exclude=words) for name, declared in features.crosses.items()},
            "datetime": {name: declared.model_dump(exclude=words) for name, declared in features.datetime.items()},
            "timezone": self.partitions.timezone if features.datetime else None,
        }
        return _digest(defined)

    @cached_property
    def config_hash(self) -> str:
        """What a model is made by; who is told of it, when tasks run and how it comes to serve is no part of that."""
        return _digest(self.model_dump(mode="json", exclude={"alerts", "release", "scheduling"}))

    def resolved(self) -> ResolvedProblem:
        """All that a run goes by: every setting with its default, in the order of the file, and the queries' text."""
        settings = self.model_dump(mode="json", exclude={"alerts", "scheduling"})
        texts = {name: self._text(name) for name in self.queries}
        return {"settings": settings, "queries": texts}

    def _text(self, name: Query) -> str | None:
        if self._queries is not None:
            return self._queries[name]
        is_there = self._made_query(name) is not None or (self._folder / f"{name}.sql").is_file()
        return self.sql(name) if is_there else None


class ResolvedProblem(TypedDict):
    """A problem as its runs take it, without its folder; who is told of them is no part of it."""

    settings: dict[str, Any]
    queries: dict[Query, str | None]
    """None: there was no file; who needs it says so."""


def resolve(kept: ResolvedProblem, name: str) -> Problem:
    """The problem that `Problem.resolved` gave, whatever its folder holds by now."""
    problem = parse_problem(kept["settings"], folder_of(name))
    problem._queries = dict(kept["queries"])
    return problem


def _parsed(text: str) -> Any:
    """What YAML says, by libyaml: seven times as fast as PyYAML's own parser, which tells better what is wrong."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # either is safe
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506
    except yaml.YAMLError:
        return yaml.safe_load(text)


def load_problem(name: str) -> Problem:
    """Read and check a problem.

    Raises:
        ConfigError: the file is missing or wrong; the message names file, field, value and cure.
    """
    folder = folder_of(name)
    path = folder / "problem.yaml"
    problem = parse_problem(_settings_of(name), folder)
    for query in SETTING_OF:
        setting = problem.setting_of(query)
        if getattr(problem, setting) is not None and (folder / f"{query}.sql").exists():
            raise ConfigError(
                f"{setting}: {query}.sql is there too, and only one can say what the {query} are",
                where=str(path),
                cure=f"remove {query}.sql, or `{setting}` from problem.yaml",
            )
    for place, package in problem.alerts.missing_packages():
        raise ConfigError(
            f"{place} needs the package {package}, which is not installed",
            where=str(path),
            cure=f"add {package} to the environment of every Airflow component, or use a webhook",
        )
    return problem


def undeclared_table(name: str) -> Problem | None:
    """A problem with the source of this one and next to nothing else, to look at the source by.

    None unless what is wrong is that `time` asks for the columns of the source, and it declares none.
    """
    column = {"column": {"type": "string"}}
    try:
        raw = _settings_of(name)
        kept = {setting: raw[setting] for setting in ("description", "owner", "key", "partitions", "sources")}
        alone = parse_problem(kept | {"columns": column, "features": {"columns": list(column)}}, folder_of(name))
    except (ConfigError, KeyError):
        return None
    is_undeclared = len(alone.sources) == 1 and not any(source.columns for source in alone.sources.values())
    is_plain = raw.get("time") is not None or (alone.partitions.by_delivery and raw.get("label") is not None)
    return alone if is_undeclared and is_plain else None


def _settings_of(name: str) -> dict[str, Any]:
    """What the problem's file says, as it stands there."""
    path = folder_of(name) / "problem.yaml"
    try:
        raw = _parsed(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no problem {name!r}",
            where=str(path),
            cure=_names_known(name),
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path.name} cannot be read: {error}", where=str(path), cure="make it a readable UTF-8 file"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(
            f"not valid YAML: {getattr(error, 'problem', error)}",
            where=f"{path}{place}",
            cure="check the indentation and the quotes there",
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError(
            f"expected settings, found {type(raw).__name__}",
            where=str(path),
            cure="start from include/problems/flight_delay/problem.yaml",
        )
    return raw


def _names_known(name: str) -> str:
    """What somebody may have meant who wrote `name`."""
    names = problem_names()
    listed = ", ".join(names[:NAMES_LISTED]) or "none"
    more = f" and {len(names) - NAMES_LISTED} more" if len(names) > NAMES_LISTED else ""
    faults = "".join(f"; {fault.where}: {fault.what}" for fault in place_faults())
    return f"known problems: {listed}{more}{did_you_mean(name, names)}{faults}"


def parse_problem(raw: dict[str, Any], folder: Path) -> Problem:
    """Check settings that were read already (a file's, or those kept with a model).

    Raises:
        ConfigError: with one line for each wrong field.
    """
    settings, faults = written_out(raw), shorthand_faults(raw)
    try:
        problem = Problem.model_validate(settings)
    except ValidationError as error:
        lines = _explain(settings, error)
        faults += [line for line in lines if not (faults and FOLLOWS_FROM_SHORTHAND.match(line))]
    if faults:
        raise ConfigError(
            f"{len(faults)} wrong setting{'s' * (len(faults) != 1)}\n  " + "\n  ".join(faults),
            where=str(folder / "problem.yaml"),
            cure="mend the fields above; `evergreen check` looks again",
        )
    problem._folder = folder
    return problem


def _explain(settings: dict[str, Any], error: ValidationError) -> list[str]:
    """A line for each fault. What sections say of each other comes along though a key beside it is unknown."""
    lines = list(_lines(error))
    unknown = [fault["loc"] for fault in error.errors() if fault["type"] == "extra_forbidden"]
    if unknown and len(unknown) == error.error_count():
        try:
            Problem.model_validate(_without(settings, unknown))
        except ValidationError as more:
            lines += _lines(more)
    return lines


def _lines(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        field = ".".join(str(part) for part in fault["loc"])
        value = fault["input"]
        # An address may hold a password, and this text is shown in Airflow's list of import errors.
        is_shown = not isinstance(value, (dict, BaseModel)) and "://" not in str(value) and ".security." not in field
        shown = f" (value: {value!r})" if is_shown else ""
        message = fault["msg"].removeprefix("Value error, ")
        match fault["type"]:
            case "extra_forbidden":
                known = _fields_at(fault["loc"][:-1])
                message = f"unknown key{did_you_mean(str(fault['loc'][-1]), known)}"
                if known:
                    message += f"; known: {', '.join(known)}"
            case "model_type" if section := _section_at(fault["loc"]):
                setting = _setting_that_takes(section, value)
                message = (
                    f"a section with settings of its own; write {fault['loc'][-1]}: {{{setting}: {value}}}"
                    if setting
                    else f"a section with settings of its own; known: {', '.join(section.model_fields)}"
                )
            case "missing":
                message, shown = "missing: add it", ""
                if re.fullmatch(r"columns\.\w+\.type", field):
                    message = "missing: add it, or declare a column of this name under `columns` of its source"
        if field:
            yield f"{field}: {message}{shown}"
        else:  # of the whole file: each line names its own place
            yield from message.splitlines()


def _without(raw: dict[str, Any], places: list[tuple[int | str, ...]]) -> dict[str, Any]:
    """A copy of the settings that lacks the keys at `places`."""
    rest = copy.deepcopy(raw)
    for *path, key in places:
        section: Any = rest
        for part in path:
            section = section[part]
        section.pop(key, None)
    return rest


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Names that are allowed at a place of the config; empty where any name is."""
    section = _section_at(location)
    return list(section.model_fields) if section else []


def _section_at(location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The section that stands at a place of the config; None where a value does."""
    annotation: Any = Problem
    for part in location:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            if field is None:
                return None
            annotation = field.annotation
        elif not get_args(annotation):
            return None
        else:  # dict[Name, X] or list[X]: X
            annotation = get_args(annotation)[-1]
        options = [a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
        annotation = options[0] if options and not hasattr(annotation, "__origin__") else annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _setting_that_takes(section: type[BaseModel], value: Any) -> str | None:
    """The setting of a section that has `value` among its choices: what was meant by it alone."""
    fields = section.model_fields.items()
    return next((name for name, field in fields if value in _choices(field.annotation)), None)


def _choices(annotation: Any) -> list[Any]:
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return list(arguments)
    return [choice for argument in arguments for choice in _choices(argument)]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
