"""A version that serves in a replay: the same past as the monitor DAG finds in the store, told by recipes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import groupby
from typing import TypedDict

import numpy as np
import pyarrow as pa
from pydantic import JsonValue, TypeAdapter

from pipelines import store
from pipelines.config import Action, Policy, Way
from pipelines.metrics.scored import scored, shown
from pipelines.monitoring.decide.readings import Reading
from pipelines.monitoring.estimate.realised import Realised
from pipelines.monitoring.served import (
    NO_BASELINE,
    NO_MORE,
    NONE_BEFORE,
    Alternatives,
    Lesson,
    Scores,
    ServedVersion,
    Value,
)
from pipelines.policies.history import History, Recipe
from pipelines.policies.trial import Trial
from pipelines.problem import Problem
from pipelines.profiles.profile import KEPT_PARTITIONS, SCORE, Profiles, Reference, profile, reference


class Kept(TypedDict):
    """What was measured, and the CPU seconds that it took."""

    value: JsonValue
    cpu_s: float


class Watch:
    """What monitoring would have seen: each thing is measured once, in this replay or an earlier one.

    It is kept in memory, and in the store once `save` is called.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.uri = f"{history.uri}/measured.json"
        self.kept: dict[str, Kept] = store.find_json(self.uri) or {}
        self.reference = lru_cache(None)(self._reference)
        self.profile = lru_cache(None)(self._profile)

    def save(self) -> None:
        store.write_json(self.uri, self.kept)

    def measured(self, name: str, kind: type[Value], measure: Callable[[], Value]) -> tuple[Value, float]:
        """What `measure` gives, and the CPU seconds that it took when it was done."""
        adapter = TypeAdapter(kind)
        if name not in self.kept:
            start = time.process_time()
            value = adapter.dump_python(measure(), mode="json")
            self.kept[name] = {"value": value, "cpu_s": time.process_time() - start}
        kept = self.kept[name]
        return adapter.validate_python(kept["value"]), kept["cpu_s"]

    def _reference(self, recipe: Recipe) -> Reference:
        return self.measured(f"reference {recipe.name}", Reference, lambda: self._referred(recipe))[0]

    def _referred(self, recipe: Recipe) -> Reference:
        """Of the tested model, as the stage `evaluate` makes it: what the chain of trainings has learnt from, and the
        partitions of all their splits."""
        history, plans = self.history, [self.history.plan(each) for each in chain(recipe)]
        learnt = pa.concat_tables([history.split_rows(each, "train") for each in chain(recipe)])
        made_from = np.concatenate(
            [history.places[key] for key in sorted({key for plan in plans for key in plan.keys})]
        )
        rows = self._scored(recipe, np.sort(made_from), is_tested=True)
        tested = history.truth(recipe, plans[-1].test, recipe.as_of, is_tested=True)[0]
        problem = history.problem
        features, labels = learnt.select(problem.feature_names), learnt["label"].to_numpy()
        return reference(features, labels, tested, problem.monitoring.bins, rows, problem.vector_features)

    def _profile(self, recipe: Recipe, partition: str) -> Profiles:
        rows = self._scored(recipe, self.history.places[partition])
        return profile(rows.to_batches(), self.reference(recipe), [])[0]

    def _scored(self, recipe: Recipe, places: np.ndarray, is_tested: bool = False) -> pa.Table:
        fitted = self.history.fitted(recipe, is_tested)
        scores = fitted.scores[places]
        labels = np.zeros(len(places), np.int64)
        of_any = scored(self.history.problem, labels, scores, threshold=fitted.threshold)
        values = pa.array(shown(of_any.scores, of_any.decisions), pa.float64())
        return self.history.take(places).append_column(SCORE, values)


def chain(recipe: Recipe) -> list[Recipe]:
    """The trainings behind a model, from scratch first; those that only calibrated a base taught nothing."""
    before = [each for each in chain(recipe.base) if each.how != "recalibrate"] if recipe.base else []
    return [*before, recipe]


@dataclass
class State:
    """What a replay has come to: the model that serves, and what was done so far."""

    champion: Recipe
    featured: set[str] = field(default_factory=set)
    """Partitions in a training set."""
    previous: Recipe | None = None
    """What served before; None: nothing that could serve again."""
    scored: dict[str, Recipe] = field(default_factory=dict)
    """By partition, what scored it."""
    asked: list[str] = field(default_factory=list)
    """Partitions that asked for a training."""
    held: list[str] = field(default_factory=list)
    """Partitions in quarantine."""
    trial: Trial | None = None
    """The release that is under way."""
    waits: Recipe | None = None
    """What has passed its gate since, and comes next."""
    readings: list[Reading] = field(default_factory=list)
    watching_s: float = 0.0


class PlayedVersion(ServedVersion):
    """A model that serves in a replay, as it was known at the end of a partition."""

    def __init__(self, watch: Watch, problem: Problem, state: State, recipe: Recipe, partition: str) -> None:
        self.watch, self.state, self.recipe = watch, state, recipe
        self.history = watch.history
        self.version, self.problem = recipe.name, problem
        self.labels_in = self.history.labels_in(partition)

    @property
    def trained_problem(self) -> Problem:
        return self.problem

    @property
    def candidate(self) -> str:
        return self.recipe.baseline or self.history.candidate

    @property
    def as_of(self) -> str:
        return self.recipe.as_of

    @property
    def trained_until(self) -> str:
        return self.history.trained_until(self.recipe)

    @cached_property
    def lessons(self) -> list[Lesson]:
        return self.history.lessons(self.recipe)

    @cached_property
    def learnt(self) -> frozenset[str]:
        return self.history.learnt(self.recipe)

    @property
    def held(self) -> frozenset[str]:
        return frozenset(self.state.held)

    @property
    def ingested(self) -> list[str]:
        return [key for key in self.history.partitions if key <= self.partition]

    @property
    def featured(self) -> list[str]:
        return sorted(self.state.featured.union(self.state.scored))

    @property
    def predicted(self) -> list[str]:
        return sorted(self.state.scored)

    @property
    def reference(self) -> Reference:
        return self.watch.reference(self.recipe)

    def profiles(self) -> dict[str, Profiles]:
        profiles: dict[str, Profiles] = dict(self.reference.partitions)
        for key in self.predicted[-KEPT_PARTITIONS:]:
            if key not in profiles and self.state.scored[key] == self.recipe:
                profiles[key] = self.watch.profile(self.recipe, key)
        return dict(sorted(profiles.items()))

    def scorers(self, keys: Sequence[str]) -> list[tuple[ServedVersion, list[str]]]:
        return [
            (PlayedVersion(self.watch, self.problem, self.state, recipe, self.partition), list(neighbours))
            for recipe, neighbours in groupby(sorted(keys), key=lambda key: self.state.scored[key])
        ]

    def realised(self, keys: Sequence[str]) -> list[Realised]:
        return [Realised(key, self.history.truth(self.recipe, [key], self.partition)[0], {}) for key in sorted(keys)]

    def labelled_counts(self) -> dict[str, int]:
        return self.history.counts(self.partition)

    def learnable_rows(self, keys: Sequence[str]) -> pa.Table:
        return self.history.learnable_rows(keys, self.partition)

    def alternatives(self, newest: str) -> Alternatives | str:
        if self.state.champion != self.recipe:
            return NO_MORE
        ways: dict[Way, tuple[Recipe | None, str]] = {
            Action.ROLL_BACK: (self.state.previous, NONE_BEFORE),
            Action.FALL_BACK: (self.history.baseline(self.recipe), NO_BASELINE),
        }
        others: dict[Way, Scores] = {}
        unmeasured: dict[Way, str] = {}
        for way, (recipe, why_not) in ways.items():
            if recipe is None:
                unmeasured[way] = why_not
            else:
                others[way] = self.history.fitted(recipe).of
        keep = self.history.fitted(self.recipe, is_tested=newest in self.learnt)
        return Alternatives(keep.of, others, unmeasured)

    def measured_once(self, what: str, kind: type[Value], measure: Callable[[], Value]) -> Value:
        policy, previous = self.problem.monitoring.policy, self.state.previous
        own = [key for key, recipe in self.state.scored.items() if recipe == self.recipe]
        depends_on = [
            sorted(self.held),
            self.featured,
            own,
            previous.name if previous else None,
            self.state.champion == self.recipe,
            sorted(policy.worth.items()),
            (policy.false_alarm_rate, policy.trailing_partitions, policy.min_labels),
        ]
        digest = hashlib.sha256(repr(depends_on).encode()).hexdigest()[:12]
        value, cpu_s = self.watch.measured(f"{what}: {self.version} {self.partition} {digest}", kind, measure)
        self.state.watching_s += cpu_s
        return value


def with_policy(problem: Problem, policy: Policy) -> Problem:
    """The problem, monitored by another policy."""
    monitoring = problem.monitoring.model_copy(update={"policy": policy})
    return problem.model_copy(update={"monitoring": monitoring})
