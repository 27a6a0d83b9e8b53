"""Three judges of the same partitions: the monitor, a fixed limit on PSI, and Evidently's DataDriftPreset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from benchmarks.drift.world import World
from pipelines.config import Policy
from pipelines.dataset.draw import sample
from pipelines.dataset.label import mature
from pipelines.features.schema import feature_units
from pipelines.monitoring.decide.decide import Situation, decide
from pipelines.monitoring.detect.detect import detect, performance
from pipelines.monitoring.diagnose.concept import concept
from pipelines.monitoring.diagnose.diagnose import diagnose
from pipelines.monitoring.diagnose.finding import Diagnosis, Kind
from pipelines.monitoring.diagnose.shifts import LabelEvidence
from pipelines.monitoring.page.evidently import SHIFTED_PSI
from pipelines.profiles.distance import psi
from pipelines.profiles.profile import SCORE, Profiles

EVIDENTLY_ROWS = 5_000
USUAL_PARTITIONS = 8
QUIET: tuple[Kind, ...] = ("feature change", "staleness")  # told, and no alarm
HARM: tuple[Kind, ...] = ("performance drop", "calibration drift", "label shift")  # measured by labels that came
SYMPTOMS: tuple[Kind, ...] = ("performance drop", "calibration drift", "prediction drift", "label shift")  # as a rule


@dataclass(frozen=True)
class Alarm:
    """What a judge says first: `kind` and `feature` of what it takes for the cause; `action`: what it would do."""

    kind: Kind
    feature: str | None
    action: str | None = None


@dataclass
class Monitor:
    """The project's own: profile, detect, concept, diagnose, at the default policy."""

    world: World
    policy: Policy = field(default_factory=Policy)

    @cached_property
    def looks(self) -> dict[str, Profiles]:
        return {key: self.world.look(rows) for key, rows in self.world.weeks.items()}

    def diagnosis(self, key: str, harmed: Mapping[str, pa.Table]) -> Diagnosis:
        """What is found once `key` is scored, and the labels of those before it have come; `harmed`: of these."""
        world, policy = self.world, self.policy
        rows, looks = {**world.weeks, **harmed}, self.looks
        before = [one for one in world.weeks if one < key]
        since = {one: world.look(harmed[one]) if one in harmed else looks[one] for one in before}
        found = world.look(rows[key]) if key in harmed else looks[key]
        rule = (policy.false_alarm_rate, policy.trailing_partitions, policy.min_labels)
        detected = detect(world.reference, found, since, *rule, feature_units(world.problem))
        labelled = mature(world.problem, key, [*before, key])
        realised = [performance(world.truth(rows[one]).scored).at(one) for one in labelled]
        evidence = None
        if labelled:
            parts = [world.truth(rows[one]) for one in labelled[-1 - USUAL_PARTITIONS :]]
            bootstrap, limit, fewest = world.problem.evaluation.bootstrap, policy.max_concept_shift, policy.min_labels
            said = concept(world.problem, world.held_out, parts, bootstrap, limit, fewest, compare=False)
            evidence = LabelEvidence(partition=key, concept=said)
        return diagnose(policy, world.reference, detected, realised[-policy.of_last :], evidence)

    def alarm(self, diagnosis: Diagnosis, unharmed: Diagnosis) -> Alarm | None:
        """The most harmful finding that the same partition does not have unharmed; a symptom only where it is all."""
        known = {(one.kind, *one.features[:1]) for one in unharmed.findings}
        new = [
            one for one in diagnosis.findings if one.kind not in QUIET and (one.kind, *one.features[:1]) not in known
        ]
        if not new:
            return None
        cause = next((one for one in new if one.kind not in SYMPTOMS), new[0])
        feature = cause.features[0] if cause.features else (SCORE if cause.kind == "prediction drift" else None)
        return Alarm(cause.kind, feature, decide(self.policy, diagnosis, (), Situation()).action)


def by_psi(world: World, looks: Profiles) -> dict[str, float]:
    """How many times the limit the PSI of each column is beyond it."""
    return {
        name: value / SHIFTED_PSI
        for name, column in world.reference.columns.items()
        if (value := psi(column.profile.counts, looks[name].counts)) > SHIFTED_PSI
    }


@dataclass
class Evidently:
    """The preset as it comes, on a sample of the training rows and of the partition: features and score."""

    world: World

    @cached_property
    def known(self) -> Any:
        seen = self.world.seen
        seen = seen.append_column(SCORE, pa.array(self.world.model.scores(seen)))
        return sample(seen, EVIDENTLY_ROWS, self.world.problem.training.seed).to_pandas()

    def drifted(self, rows: pa.Table) -> dict[str, float]:
        """By column that it calls drifted, how many times the threshold its score is beyond it."""
        from evidently import Dataset, Report
        from evidently.presets import DataDriftPreset

        # It fails on a column without a value: that counts as having told.
        empty = [name for name in (*self.world.problem.feature_names, SCORE) if is_empty(rows[name])]
        names = [name for name in (*self.world.problem.feature_names, SCORE) if name not in empty]
        current = sample(rows.select(names), EVIDENTLY_ROWS, self.world.problem.training.seed).to_pandas()
        report = Report([DataDriftPreset()]).run(Dataset.from_pandas(current), Dataset.from_pandas(self.known[names]))
        found = dict.fromkeys(empty, float("inf"))
        for metric in report.dict()["metrics"]:
            config = metric.get("config", {})
            if "column" not in config or not isinstance(metric["value"], float):
                continue
            value, limit = float(metric["value"]), float(config["threshold"])
            is_p_value = "p_value" in str(config.get("method", "")).lower() or "p_value" in metric["metric_name"]
            times = limit / max(value, 1e-12) if is_p_value else value / limit
            if times > 1:
                found[config["column"]] = times
        return found


def is_empty(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count == len(column))


def by_columns(found: Mapping[str, float], unharmed: Mapping[str, float]) -> Alarm | None:
    """What a list of drifted columns says that the same partition does not say unharmed: columns that are new in it."""
    new = {name: times for name, times in found.items() if name not in unharmed}
    if not new:
        return None
    inputs = {name: times for name, times in new.items() if name != SCORE} or new
    return Alarm("covariate shift", max(inputs, key=lambda name: inputs[name]))
