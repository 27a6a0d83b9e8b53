"""What a training costs, by those that were measured: for a policy that says `measured`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from pipelines.config import COSTS, How, Policy, Way
from pipelines.problem import Problem
from pipelines.usage.prices import Prices, load_prices
from pipelines.usage.table import tries
from pipelines.usage.tries import Try

KEPT = 5  # of a kind, the newest
MADE = "train.evaluate"
"""A run that came so far has trained a model, whatever its gate said."""


class Costing(NamedTuple):
    """What a way to act costs, and where the number comes from."""

    cost: float
    source: str


def costings(problem: Problem, policy: Policy) -> dict[Way, Costing]:
    """Of the ways whose cost the policy wants measured. Nothing is looked up where there are none."""
    if not policy.measured:
        return {}
    prices = load_prices()
    paid = paid_by_kind(tries(problem), prices)
    return {way: _costing(way, paid.get(way.trains, []) if way.trains else [], prices) for way in policy.measured}


def priced(problem: Problem, policy: Policy) -> Policy:
    """The policy with what was measured in numbers, as of now."""
    costs: dict[Way, float] = {way: costing.cost for way, costing in costings(problem, policy).items()}
    return policy.model_copy(update={"costs": {**policy.costs, **costs}})


def paid_by_kind(attempts: Sequence[Try], prices: Prices) -> dict[How, list[float]]:
    """What each training cost that has made a model, all its tries together, the oldest first."""
    runs: defaultdict[str, list[Try]] = defaultdict(list)
    for attempt in attempts:
        if attempt.dag == "train":
            runs[attempt.run].append(attempt)
    paid: defaultdict[How, list[float]] = defaultdict(list)
    for training in runs.values():
        if any(attempt.stage == MADE and attempt.outcome == "done" for attempt in training):
            kinds = [attempt.how for attempt in training if attempt.how]
            paid[kinds[-1] if kinds else "scratch"].append(sum(map(prices.of, training)))
    return dict(paid)


def _costing(way: Way, paid: Sequence[float], prices: Prices) -> Costing:
    if not paid:
        return Costing(COSTS[way], "the default, as none was measured yet")
    newest = paid[-KEPT:]
    of = "the one training" if len(newest) == 1 else f"the median of the last {len(newest)} trainings"
    return Costing(median(newest), f"measured in {prices.currency}: {of}")


def failed_training(attempts: Sequence[Try]) -> Try | None:
    """The try with which the newest training failed, and that no retry has made good; None: there is none.

    Args:
        attempts: of a problem, the oldest first.
    """
    of_trainings = [attempt for attempt in attempts if attempt.dag == "train"]
    newest = [attempt for attempt in of_trainings if attempt.run == of_trainings[-1].run]
    for attempt in newest:
        place = (attempt.stage, attempt.part)
        is_retried = any(
            (other.stage, other.part) == place and other.try_number > attempt.try_number for other in newest
        )
        if attempt.outcome in ("failed", "killed") and not is_retried:
            return attempt
    return None
