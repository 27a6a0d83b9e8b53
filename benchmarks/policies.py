"""Policies over the default problem's year: what each would have done from April to December, and what it cost.

    python -m benchmarks.policies [folder] [--write]

The year is ingested into a store of its own; then `evergreen decide --replay` in Python: history January to March, one
candidate (xgboost). The policy of problem.yaml is played again with its costs, horizon, prior and cool-down halved and
doubled. With a folder what was done there is kept, and not done again. --write puts the tables into
docs/measurements/policies.md.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines import local_run, store
from pipelines.config import Policy
from pipelines.policies.history import History
from pipelines.policies.replay import COST_AWARE, Outcome, compared, replay
from pipelines.policies.rules import by_policy
from pipelines.policies.table import decisions, markdown, summary
from pipelines.problem import ROOT, Problem, load_problem

NAME, CANDIDATE, WEEKS = "flight_delay", "xgboost", ("2013-04-01", "2013-12-23")
WITHIN, SHARE = 0.005, 1 / 3  # of weekly retraining: AUC and log loss, and the number of its trainings
PAGE = ROOT / "docs" / "measurements" / "policies.md"


def varied(policy: Policy) -> Iterator[tuple[str, Policy]]:
    """The policy with one of its settings halved or doubled at a time, and the other stages of updating."""
    known = policy.model_dump()
    for factor, word in ((0.5, "half"), (2, "twice")):
        changes: dict[str, Any] = {
            "costs": {way: cost * factor for way, cost in policy.costs.items()},
            "horizon_partitions": int(policy.horizon_partitions * factor),
            "prior_readings": policy.prior_readings * factor,
            "cool_down_partitions": int(policy.cool_down_partitions * factor),
        }
        for name, value in changes.items():
            yield f"{word} of {name}", Policy.model_validate({**known, name: value})
    for updates in ("scheduled", "scheduled_stateful"):
        yield f"updates: {updates}", Policy.model_validate({**known, "updates": updates})


def is_met(outcome: Outcome, weekly: Outcome) -> bool:
    """Within 0.005 of weekly retraining in AUC and log loss, at no more than a third of its trainings."""
    worse = [
        (weekly.mean("auc") or 0) - (outcome.mean("auc") or 0),
        (outcome.mean("log_loss") or 0) - (weekly.mean("log_loss") or 0),
    ]
    return max(worse) <= WITHIN and outcome.trainings <= SHARE * weekly.trainings


def tables(problem: Problem, outcomes: list[Outcome]) -> dict[str, str]:
    """The tables of the page, by name."""
    weekly = next(one for one in outcomes if one.policy == "always")
    plain = [one for one in outcomes if one.policy in compared(problem.monitoring.policy)]
    rows = summary(problem, outcomes)
    met = {one.policy: "yes" if is_met(one, weekly) else "no" for one in outcomes}
    moved = [
        {**row, "within": met[row["policy"]]} for row in rows if row["policy"] not in {one.policy for one in plain}
    ]
    ours = next(one for one in outcomes if one.policy == COST_AWARE)
    kept = ("partition", "model", "auc", "log_loss", "verdict", "action", "outcome", "reason")
    acted = [{name: step[name] for name in kept} for step in decisions(ours) if step["action"] not in ("none", "alert")]
    return {
        "policies": markdown([{**row, "within": met[row["policy"]]} for row in rows[: len(plain)]]),
        "moved": markdown(moved),
        "decisions": markdown(acted),
    }


def written(text: str, found: dict[str, str]) -> str:
    """The page with its tables replaced."""
    for name, content in found.items():
        before, begin, rest = text.partition(f"<!-- {name}: generated -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}{begin}{content}\n{end}{after}"
    return text


def _told(policy: str, done: int, of: int) -> None:
    if not done:
        print(policy, f"over {of} partitions", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        os.environ["EVERGREEN_STORE_URI"] = (folder / "store").as_uri()
        problem = load_problem(NAME)
        if not store.partition_keys(problem, "events"):
            local_run.ingest(NAME, problem.partitions.first_key, str(problem.partitions.last_key))
        policy = problem.monitoring.policy
        played = compared(policy) | {name: (by_policy, one) for name, one in varied(policy)}
        outcomes = replay(History(problem, CANDIDATE), *WEEKS, played, _told)
        found = tables(problem, outcomes)
    print("\n\n".join(found.values()))
    if options.write:
        PAGE.write_text(written(PAGE.read_text(), found))


if __name__ == "__main__":
    main()
