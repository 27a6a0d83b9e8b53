"""A draft's history ingested for trial: what would be refused as unlike what came before, and what to say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import yaml

from pipelines.ingest.batch import Refusal
from pipelines.ingest.look import Remark, check_sources, come_so_far, look, newest, rehearse
from pipelines.problem import Problem, resolve
from pipelines.propose.draft import Draft
from pipelines.propose.files import files_of

OFTEN = 0.15  # share of the partitions: what is unlike the past so often says nothing
ROUNDS = 6


def rehearsed(draft: Draft, owner: str) -> tuple[Draft, list[Remark]]:
    """The draft with `shape.accepted` and `shape.ignore` of a dry run over its history, and what `check` says of it.

    A column or a rule that refuses many partitions is ignored; of what is left the partitions are accepted.

    Raises:
        EvergreenError: the draft does not hold, which is a fault of what drafted it.
    """
    problem = _problem(draft, owner)
    if faults := check_sources(problem):
        raise faults[0]
    come = come_so_far(problem)
    last = newest(problem, come, datetime.now(UTC))
    assert last is not None, "a draft is made of rows that are there"
    rehearsal = rehearse(problem, last, come)
    for _ in range(ROUNDS):
        if not (refusals := rehearsal.refusals(problem)):
            break
        draft = _settled(draft, refusals)
        problem = _problem(draft, owner)
    return draft, look(problem, last, come)


def _problem(draft: Draft, owner: str) -> Problem:
    files = files_of(draft, owner)
    settings = yaml.safe_load(files["problem.yaml"])
    return resolve(
        {"settings": settings, "queries": {"events": files["events.sql"], "labels": files["labels.sql"]}}, draft.name
    )


def _settled(draft: Draft, refusals: Sequence[Refusal]) -> Draft:
    partitions = draft.rhythm.partitions if draft.rhythm else 1
    by_rule: dict[str, set[str]] = {}
    for refusal in refusals:
        by_rule.setdefault(refusal.rule, set()).add(refusal.partition)
    often = {rule: keys for rule, keys in by_rule.items() if len(keys) > max(2, OFTEN * partitions)}
    if not often:
        return replace(draft, accepted=sorted({refusal.partition for refusal in refusals} | set(draft.accepted)))
    columns = {feature.name for feature in draft.features} | {"label"}
    ignored = dict(draft.ignored)
    for rule, keys in often.items():
        column = rule.partition(":")[0]
        why = f"unlike before in {len(keys)} of {partitions} partitions ({rule}): it moves by itself"
        ignored[column if column in columns else rule] = why
    return replace(draft, ignored=ignored)
