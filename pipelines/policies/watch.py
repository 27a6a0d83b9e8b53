"""What monitoring would have seen in the past: the same profiles, distances, diagnoses and readings, of any model."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from pipelines import store
from pipelines.config import Policy, Way
from pipelines.errors import EvergreenError
from pipelines.features.schema import feature_units
from pipelines.metrics.scored import scored, shown
from pipelines.monitoring.decide.readings import Reading, as_scored, fresher, reading, recalibrated
from pipelines.monitoring.detect.detect import detect, performance
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

    def detected(self, champion: Recipe, since: str, partition: str, policy: Policy) -> tuple[dict[str, Any], float]:
        """What `detect` finds in a partition that the champion scored, as it serves from `since` on; CPU seconds."""
        rule = (policy.false_alarm_rate, policy.trailing_partitions, policy.min_labels)
        name = f"detected {champion.name} {since} {partition} {rule}"
        if name not in self.seen:
            start, known = time.process_time(), self.reference(champion)
            keys = [key for key in self.past.partitions if since <= key < partition and key not in known.partitions]
            trailing = {key: self.profile(champion, key) for key in keys}
            found = detect(known, self.profile(champion, partition), trailing, *rule, feature_units(self.problem))
            self.seen[name] = {"value": found, "cpu_s": time.process_time() - start}
        return self.seen[name]["value"], self.seen[name]["cpu_s"]

    def realised(self, champion: Recipe, since: str, partition: str, policy: Policy) -> list[dict[str, Any]]:
        """How good the champion's newest labelled partitions turned out, of those that it served; small ones pooled."""
        keys = [key for key in self.past.mature(partition) if key >= since][-KEPT_PARTITIONS:]
        rows = {key: len(self.past.labelled_at([key])) for key in keys}
        keys = [key for key in keys if rows[key]]
        pools = windows([rows[key] for key in keys], policy.min_labels)[-policy.of_last :]
        return [
            {
                "partition": keys[pool[-1]],
                "version": champion.name,
                **performance(self.past.truth(champion, keys[pool.start : pool.stop])[0]),
            }
            for pool in pools
        ]

    def diagnosis(self, champion: Recipe, since: str, partition: str, policy: Policy) -> tuple[Diagnosis, float]:
        found, cpu_s = self.detected(champion, since, partition, policy)
        realised = self.realised(champion, since, partition, policy)
        return diagnose(policy, self.reference(champion), found, realised), cpu_s

    def readings(
        self,
        champion: Recipe,
        previous: Recipe | None,
        since: str,
        partition: str,
        policy: Policy,
        is_bad: bool,
    ) -> tuple[list[Reading], float]:
        """What each way would have gained on the newest labelled partition, and CPU seconds; ways that need an alarm
        only where that partition `is_bad`."""
        mature = self.past.mature(partition)
        if not mature or mature[-1] == self.past.partitions[0]:
            return [], 0.0
        newest = mature[-1]
        problem = with_policy(self.problem, policy)
        worth = f" {sorted(policy.worth.items())}" if policy.worth else ""
        name = f"fresher {champion.name} {partition}{worth}"
        found, cpu_s = self._kept(name, lambda: self._fresher(problem, champion, partition, newest))
        if is_bad:
            name = f"others {champion.name} {previous.name if previous else None} {since} {newest}{worth}"
            others, more_s = self._kept(name, lambda: self._others(problem, champion, previous, since, newest))
            found, cpu_s = [*found, *others], cpu_s + more_s
        return found, cpu_s

    def _kept(self, name: str, look: Callable[[], list[Reading]]) -> tuple[list[Reading], float]:
        if name not in self.seen:
            start = time.process_time()
            told = [one.model_dump(mode="json") for one in look()]
            self.seen[name] = {"value": told, "cpu_s": time.process_time() - start}
        return [Reading.model_validate(one) for one in self.seen[name]["value"]], self.seen[name]["cpu_s"]

    def _fresher(self, problem: Problem, champion: Recipe, partition: str, newest: str) -> list[Reading]:
        its_ages = ages(problem, champion, partition)
        if its_ages["retrain"] < 1:
            return []
        past = self.past
        try:
            keys = {"fresh": past.split(partition)["train"], "newest": [newest],
                    "newer": past.since(Recipe(partition, "continue", base=champion))}  # fmt: skip
        except EvergreenError:
            return []
        rows = {part: past.take(past.labelled_at(its)) for part, its in keys.items()}
        stale = [past.take(past.labelled_at(its)) for its in past.chain(champion)]
        where = {"partition": newest, "version": champion.name}
        blocks = past.blocks[past.labelled_at([newest])]
        return fresher(problem, past.candidate, where, its_ages, stale, rows, blocks)

    def _others(
        self, problem: Problem, champion: Recipe, previous: Recipe | None, since: str, newest: str
    ) -> list[Reading]:
        past = self.past
        if newest < since:
            return []
        where = {"partition": newest, "version": champion.name}
        keep, blocks = past.truth(champion, [newest])
        rows = past.take(past.labelled_at([newest]))
        known = set(past.taught(champion))
        older = [key for key in past.mature(newest) if key not in known]
        scores = {"recalibrate": recalibrated(problem, past.truth(champion, older)[0], keep.scores)}
        held = {"roll_back": previous, "fall_back": Recipe(champion.as_of, "baseline")}
        scores |= {way: past.truth(one, [newest])[0].scores for way, one in held.items() if one is not None}
        told = [
            reading(problem, way, where, as_scored(problem, rows, its), keep, blocks)  # type: ignore[arg-type]
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


def with_policy(problem: Problem, policy: Policy) -> Problem:
    """The problem, monitored by another policy."""
    monitoring = problem.monitoring.model_copy(update={"policy": policy})
    return problem.model_copy(update={"monitoring": monitoring})


def ages(problem: Problem, champion: Recipe, partition: str) -> dict[Way, int]:
    """By how many partitions a training at the end of `partition` knows more than the champion's, from scratch, or
    gone on with."""
    between = problem.partitions.between
    return {"retrain": len(between(champion.began, partition)) - 1,
            "continue": len(between(champion.learnt, partition)) - 1}  # fmt: skip
