"""The chain, stage by stage, and what came of it: who stopped it, and by what; or what was promoted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gauntlet.world import PROBLEM, pins, write_pins
from pipelines.errors import DataError, EvergreenError, GateFailed
from pipelines.handoffs.base import to_json

BASELINE, CHALLENGER = "prior", "xgboost"
STAGES = (
    "extract",
    "validate",
    "publish",
    "label",
    "sample",
    "featurize",
    "check",
    "baseline",
    "train",
    "evaluate",
    "gate",
    "refit",
    "register",
    "promote",
)


@dataclass
class Outcome:
    """`stage` is where the chain stopped; `by` the rules or checks that stopped it; both empty when it promoted.

    `partitions` are those that validation refused, be the run stopped or go on without them.
    """

    stage: str = ""
    by: list[str] = field(default_factory=list)
    reason: str = ""
    is_crash: bool = False
    seconds: float = 0.0
    partitions: list[str] = field(default_factory=list)
    gains: dict[str, Any] = field(default_factory=dict)  # over the champion, as the gate saw them

    @property
    def stopped(self) -> bool:
        return bool(self.stage) and not self.is_crash


def run_stages(run: Path, stages: tuple[str, ...], weeks: tuple[str, str]) -> Outcome:
    """Run stages one after another on the state at `run`; what each gives stands in its pins afterwards."""
    start, known, outcome = time.perf_counter(), pins(run), Outcome()
    for name in stages:
        try:
            known[name] = to_json(_stage(name, known, weeks))
        except EvergreenError as error:
            outcome = Outcome(name, _by(name, error), error.what, partitions=_refused(name, error.what))
            break
        except Exception as error:  # a bare traceback is a finding too
            outcome = Outcome(name, [type(error).__name__], str(error), is_crash=True)
            break
        write_pins(run, known)
    if not outcome.stage and "validate" in stages:
        outcome.partitions = known["validate"]["refused"]
        outcome.reason = known["validate"]["reason"] or ""
    if "evaluate" in known and outcome.stage in ("", *STAGES[STAGES.index("gate") :]):
        outcome.gains = _gains(known["evaluate"]["evaluation"])
    outcome.seconds = time.perf_counter() - start
    return outcome


def _stage(name: str, known: dict[str, Any], weeks: tuple[str, str]) -> Any:
    from pipelines.stages import stage

    steps: dict[str, Callable[[], Any]] = {
        "extract": lambda: stage("ingest.extract")(PROBLEM, *weeks),
        "validate": lambda: stage("ingest.validate")(PROBLEM, known["extract"]),
        "publish": lambda: stage("ingest.publish")(PROBLEM, known["validate"], known.get("restate", False)),
        "label": lambda: stage("train.label")(PROBLEM, known.get("as_of", weeks[1])),
        "sample": lambda: stage("train.sample")(PROBLEM, known["label"]),
        "featurize": lambda: [stage("train.featurize")(PROBLEM, share) for share in known["sample"]],
        "check": lambda: stage("train.check")(PROBLEM, known["featurize"]),
        "baseline": lambda: stage("train.train")(PROBLEM, known["check"], BASELINE),
        "train": lambda: stage("train.train")(PROBLEM, known["check"], CHALLENGER),
        "evaluate": lambda: stage("train.evaluate")(PROBLEM, known["check"], [known["baseline"], known["train"]]),
        "gate": lambda: stage("train.gate")(PROBLEM, known["evaluate"]),
        "refit": lambda: stage("train.refit")(PROBLEM, known["gate"]),
        "register": lambda: stage("train.register")(PROBLEM, known["refit"]),
        "promote": lambda: stage("train.promote")(PROBLEM, known["register"]),
    }
    return steps[name]()


def _gains(evaluation: str) -> dict[str, Any]:
    """As far as they are there: faults of the evidence take them away."""
    from pipelines import store

    found = store.find_json(evaluation) or {}
    gains = (found.get("champion") or {}).get("gain", {})
    return {name: gains[name] for name in ("auc", "log_loss") if name in gains} | {"learnt": found.get("learnt")}


def _by(stage: str, error: EvergreenError) -> list[str]:
    """Names of the rules or checks, without their numbers."""
    if stage == "refit":
        return ["refit"]
    if isinstance(error, GateFailed):
        from pipelines import ledger
        from pipelines.problem import load_problem

        judged = ledger.decisions(load_problem(PROBLEM), "gate")[-1]["evidence"]
        return [check["name"] for check in judged["checks"] if not check["passed"]]
    if stage == "check":
        return re.findall(r"^  ([\w ]+): ", error.what, re.MULTILINE) or [error.what[:60]]
    if stage == "validate" and isinstance(error, DataError):
        return refused_by(error.what)
    return [error.what.splitlines()[0][:60]]


def refused_by(text: str) -> list[str]:
    """The rules that validation's message about refused partitions names, without their numbers."""
    found = []
    for line in text.splitlines():
        for reason in line.partition(": ")[2].split("; ") if _PARTITIONS.match(line) else ():
            broken = re.findall(r"Rules broken: (.*?) \(\d", reason)
            found += broken or [re.sub(r" \(.*", "", reason)]
    return list(dict.fromkeys(found)) or [text.partition(":")[0][:60]]


def _refused(stage: str, text: str) -> list[str]:
    """The partitions that it names, one by one or from one to another."""
    from pipelines.problem import load_problem

    if stage != "validate":
        return []
    partitions = load_problem(PROBLEM).partitions
    return [key for first, last in _PARTITIONS.findall(text) for key in partitions.between(first, last or first)]


_PARTITIONS = re.compile(r"^(?:[\d,]+ from )?(\d{4}-\d\d-\d\d)(?: to (\d{4}-\d\d-\d\d))?: ", re.MULTILINE)
