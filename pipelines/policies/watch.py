"""What monitoring would have seen in the past: the same profiles, distances, diagnoses and readings, of any model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pipelines import store
from pipelines.config import Action, Policy, Way
from pipelines.errors import EvergreenError
from pipelines.features.schema import feature_units
from pipelines.metrics.scored import scored, shown
from pipelines.monitoring.decide.readings import CALIBRATING, Reading, as_scored, fresher, reading, recalibrated
from pipelines.monitoring.detect.detect import detect, performance
from pipelines.monitoring.detect.detection import Drift, LabelledPartition
from pipelines.monitoring.diagnose.diagnose import diagnose
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.policies.past import Past, Recipe, column
from pipelines.problem import Problem
from pipelines.profiles.pooled import windows
from pipelines.profiles.profile import KEPT_PARTITIONS, SCORE, Reference, profile, reference


class Watch:
    """Looks at the past as the monitor DAG does; `cpu_s` is what that took, also when it was done in an earlier replay.

    What was found is kept in memory, and in the store once `save` is called.
    """

    def __init__(self, past: Past) -> None:
        self.past, self.problem = past, past.problem
        self.uri = f"{past.uri}/seen.json"
        self.seen: dict[str, Any] = store.find_json(self.uri) or {}
        self.reference = lru_cache(None)(self._reference)
        self.profile = lru_cache(None)(self._profile)

    def save(self) -> None:
        store.write_json(self.uri, self.seen)

    def detected(
        self, champion: Recipe, since: str, partition: str, policy: Policy, held: Sequence[str] = ()
    ) -> tuple[Drift, float]:
        """What `detect` finds in a partition that the champion scored, as it serves from `since` on; CPU seconds.

        What is usual is not told by partitions in quarantine, `held`.
        """
        rule = (policy.false_alarm_rate, policy.trailing_partitions, policy.min_labels)
        name = f"detected {champion.name} {since} {partition} {rule}{_without(held)}"
        if name not in self.seen:
            start, known = time.process_time(), self.reference(champion)
            aside = {*known.partitions, *held}
            keys = [key for key in self.past.partitions if since <= key < partition and key not in aside]
            trailing = {key: self.profile(champion, key) for key in keys}
            drift = detect(known, self.profile(champion, partition), trailing, *rule, feature_units(self.problem))
            self.seen[name] = {"value": drift.model_dump(mode="json"), "cpu_s": time.process_time() - start}
        return Drift.model_validate(self.seen[name]["value"]), self.seen[name]["cpu_s"]

    def realised(
        self, champion: Recipe, since: str, partition: str, policy: Policy, held: Sequence[str] = ()
    ) -> list[LabelledPartition]:
        """How good the champion's newest labelled partitions turned out, of those that it served and that are not in
        quarantine; small ones pooled."""
        keys = [key for key in self.past.mature(partition) if key >= since and key not in held][-KEPT_PARTITIONS:]
        rows = {key: len(self.past.labelled_at([key])) for key in keys}
        keys = [key for key in keys if rows[key]]
        pools = windows([rows[key] for key in keys], policy.min_labels)[-policy.of_last :]
        return [
            performance(self.past.truth(champion, keys[pool.start : pool.stop])[0]).at(
                keys[pool[-1]], version=champion.name
            )
            for pool in pools
        ]

    def diagnosis(
        self, champion: Recipe, since: str, partition: str, policy: Policy, held: Sequence[str] = ()
    ) -> tuple[Diagnosis, float]:
        found, cpu_s = self.detected(champion, since, partition, policy, held)
        realised = self.realised(champion, since, partition, policy, held)
        return diagnose(policy, self.reference(champion), found, realised), cpu_s

    def readings(
        self,
        champion: Recipe,
        previous: Recipe | None,
        since: str,
        partition: str,
        policy: Policy,
        is_bad: bool,
        held: Sequence[str] = (),
    ) -> tuple[list[Reading], float]:
        """What each way would have gained on the newest labelled partition that is not in quarantine, and CPU seconds;
        ways that need an alarm only where that partition `is_bad`."""
        keys = [key for key in self.past.mature(partition) if key not in held]
        if len(keys) < 2:
            return [], 0.0
        newest, earlier = keys[-1], keys[:-1]
        problem = with_policy(self.problem, policy)
        worth = f" {sorted(policy.worth.items())}" if policy.worth else ""
        name = f"fresher {champion.name} {partition}{worth}{_without(held)}"
        found, cpu_s = self._kept(name, lambda: self._fresher(problem, champion, partition, newest, held))
        if is_bad:
            name = f"others {champion.name} {previous.name if previous else None} {since} {newest}{worth}"
            name += _without(held)
            others, more_s = self._kept(name, lambda: self._others(problem, champion, previous, since, newest, earlier))
            found, cpu_s = [*found, *others], cpu_s + more_s
        return found, cpu_s

    def _kept(self, name: str, look: Callable[[], list[Reading]]) -> tuple[list[Reading], float]:
        if name not in self.seen:
            start = time.process_time()
            told = [one.model_dump(mode="json") for one in look()]
            self.seen[name] = {"value": told, "cpu_s": time.process_time() - start}
        return [Reading.model_validate(one) for one in self.seen[name]["value"]], self.seen[name]["cpu_s"]

    def _fresher(
        self, problem: Problem, champion: Recipe, partition: str, newest: str, held: Sequence[str]
    ) -> list[Reading]:
        its_ages = ages(problem, champion, partition)
        if its_ages[Action.RETRAIN] < 1:
            return []
        past = self.past
        try:
            aside = tuple(sorted(held))
            keys = {
                "fresh": past.split(partition, None, aside)["train"],
                "newest": [newest],
                "newer": past.since(Recipe(partition, "continue", base=champion, held=aside)),
            }
        except EvergreenError:
            return []
        rows = {part: past.take(past.labelled_at(its)) for part, its in keys.items()}
        stale = [past.take(past.labelled_at(its)) for its in past.chain(champion)]
        where = {"partition": newest, "version": champion.name}
        blocks = past.blocks[past.labelled_at([newest])]
        return fresher(problem, past.candidate, where, its_ages, stale, rows, blocks)

    def _others(
        self,
        problem: Problem,
        champion: Recipe,
        previous: Recipe | None,
        since: str,
        newest: str,
        earlier: Sequence[str],
    ) -> list[Reading]:
        """`earlier`: the labelled partitions before the newest, oldest first. A recalibration learns from the newest of
        them, as the monitor's does, and never from the partition that it is measured on."""
        past = self.past
        if newest < since:
            return []
        where = {"partition": newest, "version": champion.name}
        keep, blocks = past.truth(champion, [newest])
        rows = past.take(past.labelled_at([newest]))
        known = set(past.taught(champion))
        older = [key for key in earlier if key not in known][-CALIBRATING:]
        scores: dict[Way, Any] = {
            Action.RECALIBRATE: recalibrated(problem, past.truth(champion, older)[0], keep.scores)
        }
        held: dict[Way, Recipe | None] = {
            Action.ROLL_BACK: previous,
            Action.FALL_BACK: Recipe(champion.as_of, "baseline"),
        }
        scores |= {way: past.truth(one, [newest])[0].scores for way, one in held.items() if one is not None}
        told = [
            reading(problem, way, where, as_scored(problem, rows, its), keep, blocks)
            for way, its in scores.items()
            if its is not None
        ]
        return [one for one in told if one is not None]

    def _reference(self, champion: Recipe) -> Reference:
        name = f"reference {champion.name}"
        if name not in self.seen:
            past = self.past
            parts = past.split(champion.as_of, champion.window_from, champion.held)
            learnt = past.take(past.labelled_at(parts["train"]))
            keys = [key for names in parts.values() for key in names]
            history = self._scored(champion, np.sort(np.concatenate([past.places[key] for key in keys])))
            tested = past.truth(champion, parts["test"])[0]
            features, bins = learnt.select(self.problem.feature_names), self.problem.monitoring.bins
            made = reference(features, learnt["label"].to_numpy(), tested, bins, history)
            self.seen[name] = made.model_dump(mode="json")
        return Reference.model_validate(self.seen[name])

    def _profile(self, champion: Recipe, partition: str) -> Any:
        rows = self._scored(champion, self.past.places[partition])
        return profile(rows.to_batches(), self.reference(champion), [])[0]

    def _scored(self, champion: Recipe, places: np.ndarray) -> Any:
        fitted = self.past.fitted(champion)
        scores = fitted.scores[places]
        of_any = scored(self.problem, np.zeros(len(places), np.int64), scores, threshold=fitted.threshold)
        return column(self.past.take(places), SCORE, shown(of_any.scores, of_any.decisions))


def _without(held: Sequence[str]) -> str:
    """Part of the name of what was found without these partitions."""
    return f" without {','.join(sorted(held))}" if held else ""


def with_policy(problem: Problem, policy: Policy) -> Problem:
    """The problem, monitored by another policy."""
    monitoring = problem.monitoring.model_copy(update={"policy": policy})
    return problem.model_copy(update={"monitoring": monitoring})


def ages(problem: Problem, champion: Recipe, partition: str) -> dict[Way, int]:
    """By how many partitions a training at the end of `partition` knows more than the champion's, from scratch, or
    gone on with."""
    between = problem.partitions.between
    return {
        Action.RETRAIN: len(between(champion.began, partition)) - 1,
        Action.CONTINUE: len(between(champion.learnt, partition)) - 1,
    }
