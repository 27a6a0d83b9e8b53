"""What the stages of a run came to, in a few lines: what happened, where to look, what to run next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from pipelines import ledger
from pipelines.cli.progress import Work
from pipelines.errors import EvergreenError, GateFailed, NothingToDo
from pipelines.handoffs.annotation import SelfTrained, Voted
from pipelines.handoffs.base import HandOff
from pipelines.handoffs.ingestion import Extracted, Published, Validated
from pipelines.handoffs.monitoring import Decided, Reported
from pipelines.handoffs.releases import Assessed, Stepped
from pipelines.handoffs.scoring import ScoredPartition, ScoredShard
from pipelines.handoffs.training import Evaluated, Gated, Promoted, Registered, Share
from pipelines.local_run import Observer
from pipelines.problem import Problem, load_problem
from pipelines.stage_names import STAGES
from pipelines.tracking.pages import comparison

Row = tuple[str, str]
H = TypeVar("H", bound=HandOff)
SQLITE = "sqlite:"
PLANS = {"score.plan": "score.score", "train.sample": "train.featurize"}
"""Stages that say how many times another one runs: once for each of their results."""


class Stages(Observer):
    """The stages of a run: shown while they work, and what they gave."""

    def __init__(self, stage: str, problem_name: str) -> None:
        self._dag, _, self._stage = stage.partition(".")
        self._problem_name = problem_name
        self._work = Work()
        self._begun: list[str] = []
        self._planned: dict[str, int] = {}
        self.results: list[HandOff] = []

    def shown_by(self, work: Work) -> Stages:
        self._work = work
        return self

    def began(self, stage: str) -> None:
        name, several = stage.partition(".")[2], self._several(stage)
        self._begun.append(stage)
        label = f"{name} {self._begun.count(stage)} of {several}" if several > 1 else name
        places = STAGES[self._dag]
        if self._stage:
            self._work.step(label)
        else:
            self._work.step(label, places.index(name) + 1, len(places))

    def ended(self, stage: str, result: Any) -> None:
        results = result if isinstance(result, list) else [result]
        if stage in PLANS:
            self._planned[PLANS[stage]] = len(results)
        self.results += [part for part in results if isinstance(part, HandOff)]

    def _several(self, stage: str) -> int:
        """How many times a stage runs."""
        if self._stage:
            return 1
        if stage == "train.train":
            return len(load_problem(self._problem_name).training.candidates)
        return self._planned.get(stage, 1)

    def summary(self, error: EvergreenError | None) -> list[Row]:
        """What happened, by title; nothing where nothing did. What went wrong is said after it, with what to do."""
        if not self.results:
            return []
        problem = load_problem(self._problem_name)
        rows = [*self._happened(error), *self._places(problem)]
        if error is None or isinstance(error, NothingToDo):
            rows += [("next", command) for command in self._next(problem)]
        return rows

    def _of(self, kind: type[H]) -> H | None:
        """The newest result of a stage, by its very type."""
        return next((result for result in reversed(self.results) if type(result) is kind), None)

    def _happened(self, error: EvergreenError | None) -> Iterator[Row]:
        if extracted := self._of(Extracted):
            yield "rows in", f"{extracted.events:,} events, {extracted.labels:,} labels, {_span(extracted)}"
        if published := self._of(Published):
            yield "published", published.summary
        if validated := self._of(Validated):
            refused = f", {len(validated.refused):,} partitions refused" if validated.refused else ""
            yield "set aside", f"{validated.quarantined:,} rows{refused}"
        for labelled in (self._of(Voted), self._of(SelfTrained)):
            if labelled:
                yield "labelled", f"{labelled.labelled:,} events, {labelled.positive:,} of them positive"
        if sampled := self._of(Share):
            yield "learnt", f"from {sampled.splits.get('train', 0):,} rows, training set {sampled.training_set}"
        if evaluated := self._of(Evaluated):
            yield "candidate", evaluated.line()
        if gated := self._of(Gated):
            yield "gate", gated.verdict
        elif isinstance(error, GateFailed):
            yield "gate", "refused"
        if promoted := self._of(Promoted):
            yield "serves", promoted.line()
        if scored := self._of(ScoredPartition):
            yield "scored", scored.line()
        if decided := self._of(Decided):
            yield "verdict", f"{decided.verdict}, on version {decided.version}"
            yield "action", f"{decided.action}: {decided.reason}"
        if assessed := self._of(Assessed):
            yield "evidence", assessed.line()
        if stepped := self._of(Stepped):
            yield "step", f"{stepped.line()}; version {stepped.version} serves"

    def _places(self, problem: Problem) -> Iterator[Row]:
        """Pages, and where MLflow has the runs."""
        pages = []
        if validated := self._of(Validated):
            pages.append(validated.page)
        if evaluated := self._of(Evaluated):
            pages.append(evaluated.page)
        if reported := self._of(Reported):
            pages.append(reported.page)
        if assessed := self._of(Assessed):
            pages.append(assessed.page)
        if registered := self._of(Registered):
            pages.append(registered.card)
        if voted := self._of(Voted):
            pages.append(voted.report)
        if scored := self._of(ScoredPartition):
            pages.append(scored.manifest)
        for page in filter(None, pages):
            yield "look at", page
        if evaluated:
            yield "MLflow", _mlflow(problem)

    def _next(self, problem: Problem) -> Iterator[str]:
        """Commands that go on from here."""
        name = problem.name
        if self._stage:
            yield from self._next_stage(name)
            return
        if published := self._of(Published):
            if published.quarantined:
                yield f"evergreen quarantine list {name}"
            has_champion = bool(ledger.decisions(problem, "promotion"))
            yield (
                f"evergreen run score {name} --partition {published.last}"
                if has_champion
                else (f"evergreen run train {name}")
            )
        elif promoted := self._of(Promoted):
            evaluated = self._of(Evaluated)
            if promoted.how != "serves" or evaluated is None:
                yield f"evergreen release {name}"
            else:
                yield from _next_partition(problem, evaluated.partition)
        elif scored := self._of(ScoredPartition):
            yield f"evergreen run monitor {name} --partition {scored.partition}"
        elif decided := self._of(Decided):
            how = decided.action.trains
            since = f" --window-from {decided.window_from}" if decided.window_from else ""
            if how:
                yield f"evergreen run train {name} --partition {decided.partition} --how {how}{since}"
            else:
                yield from _next_partition(problem, decided.partition)
        elif self._of(Voted) or self._of(SelfTrained):
            yield f"evergreen run train {name}"
        elif self._of(Assessed):
            yield f"evergreen release {name}"

    def _next_stage(self, name: str) -> Iterator[str]:
        """The stage after this one, where one stage alone comes after it."""
        stages = STAGES[self._dag]
        after = stages[stages.index(self._stage) + 1 :]
        if not after or self._dag not in ("ingest", "train", "score"):
            return
        stage = f"{self._dag}.{after[0]}"
        command, printed = f"evergreen run {stage} {name}", "with what this one printed"
        if stage == "train.train":
            command += " --candidate CANDIDATE"
        elif stage == "train.evaluate":
            printed = 'with {"checked": what train.check printed, "trained": [what train.train printed of each]}'
        elif stage == "score.publish" and (scored := self._of(ScoredShard)):
            command += f" --partition {scored.partition}"
        yield f"{command} --input FILE, {printed}"


def _span(extracted: Extracted) -> str:
    return f"of {extracted.first}" if extracted.first == extracted.last else f"of {extracted.first} to {extracted.last}"


def _next_partition(problem: Problem, partition: str) -> Iterator[str]:
    """How to go on with the partition after this one, where there is one by now."""
    if problem.partitions.by_delivery:
        yield f"evergreen run ingest {problem.name}"
        return
    following = problem.partitions.shift(partition, 1)
    if following in problem.partitions.due(datetime.now(UTC)):
        yield f"evergreen run ingest {problem.name} --partition {following}"
    else:
        yield f"evergreen status {problem.name}"


def _mlflow(problem: Problem) -> str:
    """Where a person sees the runs of a problem."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if address.startswith(SQLITE):
        return f"mlflow ui --backend-store-uri {address}, experiment {problem.name}"
    return comparison(problem.name) or f"{address}, experiment {problem.name}"
