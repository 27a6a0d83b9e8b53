"""A release in a replay: a model that has passed its gate, on its way to serve.

As the release DAG does it where decisions do not change labels: both models are compared on every labelled row of the
partitions since. Where they do (`release.feedback: outcome`) a replay cannot know what would have come of decisions
that were never made, and a model serves as soon as its gate is passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from pipelines.metrics.effects import Effect, paired
from pipelines.metrics.metric_sums import LOSSES
from pipelines.policies.history import History, Recipe
from pipelines.problem import Problem
from pipelines.release.evidence import concluded, in_order
from pipelines.release.judge import Step
from pipelines.release.ladder import Rollout, release_name


def is_played(problem: Problem) -> bool:
    """Whether a replay takes models through their release."""
    return problem.release.by_steps and problem.release.feedback == "none"


@dataclass
class Trial:
    """A release that is under way."""

    rollout: Rollout
    recipe: Recipe
    looked_at: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, problem: Problem, champion: Recipe, recipe: Recipe, partition: str) -> Trial:
        """The release of `recipe` against what serves, after `partition`."""
        rollout = Rollout(
            name=release_name(champion.name, recipe.name),
            champion=champion.name,
            champion_run="",
            challenger=recipe.name,
            challenger_run="",
            settings=problem.release,
            began=partition,
            started=datetime.now(UTC),
            reason="",
        )
        return cls(rollout, recipe)

    def step(self, history: History, champion: Recipe, held: set[str], partition: str) -> Step:
        """What is done at the end of a partition, that was scored on this rung; `hold` also of a step to the next."""
        rollout = self.rollout
        self.rollout = rollout = replace(rollout, assigned={**rollout.assigned, partition: rollout.assignment()})
        aside = held | history.learnt(champion) | history.learnt(self.recipe)
        ready = [key for key in history.mature(partition) if key in rollout.assigned and key not in aside]
        judged = in_order([key for key in self.looked_at if key not in aside], ready)
        self.looked_at = judged
        step, _ = concluded(rollout, self._effects(history, champion, judged, partition), judged)
        if step == "promote" and rollout.next_rung.kind != "full":
            self.rollout = replace(rollout, rung=rollout.rung + 1)
            return "hold"
        return step

    def _effects(self, history: History, champion: Recipe, judged: list[str], partition: str) -> list[Effect]:
        """At each look, of all partitions up to it."""
        problem = history.problem
        loss = LOSSES[self.rollout.settings.loss(problem.task)]
        ours: list[np.ndarray] = []
        theirs: list[np.ndarray] = []
        effects = []
        for key in judged:
            ours.append(loss(history.truth(self.recipe, [key], partition)[0]))
            theirs.append(loss(history.truth(champion, [key], partition)[0]))
            rows = np.concatenate(ours)
            effects.append(paired(rows, np.concatenate(theirs), np.arange(len(rows))))
        return effects
