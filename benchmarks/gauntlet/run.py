"""A seed's part of the gauntlet: clean runs, whose states the faults then start from."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gauntlet.chain import Outcome, refused_by, run_stages
from benchmarks.gauntlet.faults import FAULTS, Fault, Site
from benchmarks.gauntlet.world import (
    LAST_START,
    PROBLEM,
    Stretch,
    configure,
    copy_state,
    enter,
    pins,
    raise_world,
    write_pins,
)
from benchmarks.left_out import judge_by_duckdb

COUNTED, TRIES = 2, 5  # stretches whose clean runs are counted at least; that are tried until one bears faults
WHOLE_SEEDS = 6  # that try every fault; those after them the core
LIMIT_S = 600  # of a run
# The stages of an update, by the state in which they find the chain: where faults are put in.
LEGS: dict[str, tuple[str, ...]] = {
    "history": ("extract", "validate", "publish"),
    "ingested": ("label",),
    "labelled": ("sample", "featurize"),
    "featurized": ("check", "baseline"),
    "checked": ("train",),
    "trained": ("evaluate",),
    "evaluated": ("gate", "refit", "register", "promote"),
}


@dataclass(frozen=True)
class Plan:
    """`keep` holds the sources, a folder per seed while it runs, and results.jsonl."""

    keep: Path
    faults: tuple[str, ...]
    is_quick: bool = False
    """One stretch; no clean run beyond the one that faults start from, and Great Expectations takes part in that alone;
    no pictures."""

    @property
    def results(self) -> Path:
        return self.keep / "results.jsonl"


def run_seed(plan: Plan, seed: int) -> None:
    """Every run of a seed that has no result yet; each result is written as it comes.

    Faults start from the first stretch whose clean runs all pass: elsewhere they would be stopped without merit.
    """
    done = [one for one in read(plan.results) if one["seed"] == seed]
    known = {one["name"] for one in done}
    missing = [
        FAULTS[name] for name in plan.faults if name not in known and (seed <= WHOLE_SEEDS or FAULTS[name].is_core)
    ]
    if not missing and any(one["kind"] == "end" for one in done):
        return
    home = plan.keep / f"seed-{seed}"
    is_borne = not missing
    for attempt, start in enumerate(np.random.default_rng(seed).permutation(LAST_START + 1)[:TRIES]):
        if is_borne and attempt >= (1 if plan.is_quick else COUNTED):
            break
        stretch = Stretch(seed, int(start))
        bears = _clean(plan, home, stretch)
        if bears and not is_borne:
            is_borne = True
            for fault in missing:
                _write(plan, "fault", fault.name, stretch, _in_child(_harmed, plan, home, stretch, fault))
        shutil.rmtree(home)
    _write(plan, "end", "", Stretch(seed, 0), Outcome())


def read(results: Path) -> list[dict[str, Any]]:
    """The newest result of each run."""
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    return list({(row["seed"], row["start"], row["kind"], row["name"]): row for row in rows}.values())


def _clean(plan: Plan, home: Path, stretch: Stretch) -> bool:
    """The history with the first champion, and two updates, on unharmed data; whether all is ready for faults."""
    run, states = home / "run", home / "states"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    _in_child(_raised, run, plan.keep / "sources", stretch)
    bears = True
    runs = [("history", stretch.history), ("update", stretch.new), ("later update", stretch.later)]
    for name, weeks in runs[:2] if plan.is_quick else runs:
        alarms = []
        for state, stages in LEGS.items():
            if name == "update":
                copy_state(run, states / state)
            outcome, accepted = _in_child(_stages, run, stages, weeks), set[str]()
            while not set(outcome.partitions) <= accepted:  # a person would look at the week, accept it, and go on
                alarms.append(replace(outcome, stage="validate", by=refused_by(outcome.reason)))
                accepted.update(outcome.partitions)
                _accept(run, outcome.partitions)
                outcome = _in_child(_stages, run, stages, weeks)
            if outcome.stage:
                alarms.append(outcome)
                break
        _write(plan, "clean", name, stretch, alarms[0] if alarms else outcome)
        if name == "history":
            _remember(run)
        if name == "history" and outcome.stage:
            return False  # no champion
        bears &= name != "update" or not alarms
    return bears


def _raised(run: Path, sources: Path, stretch: Stretch) -> Outcome:
    raise_world(run, sources, stretch)
    return Outcome()


def _stages(run: Path, stages: Sequence[str], weeks: tuple[str, str]) -> Outcome:
    enter(run)
    return run_stages(run, tuple(stages), weeks)


def _harmed(plan: Plan, home: Path, stretch: Stretch, fault: Fault) -> Outcome:
    """A fault, and all that follows of the chain."""
    if plan.is_quick:
        judge_by_duckdb()
    run = home / "run"
    copy_state(home / "states" / fault.state, run)
    enter(run)
    random = np.random.default_rng([stretch.seed, sum(map(ord, fault.name))])
    site = Site(run, stretch, stretch.new, random)
    fault.harm(site)
    states = list(LEGS)
    left = [stage for state in states[states.index(fault.state) :] for stage in LEGS[state]]
    outcome = run_stages(run, tuple(left), site.weeks)
    if not outcome.stage and site.bad_keys and not _published(site.bad_keys):
        outcome.stage, outcome.by = "validate", ["set aside"]
    return outcome


def _published(keys: list[str]) -> bool:
    from pipelines import sql, store
    from pipelines.problem import load_problem

    config = load_problem(PROBLEM)
    return bool(store.dataset(config, "events").count_rows(filter=sql.is_among(config.key, keys)))


def _accept(run: Path, partitions: list[str]) -> None:
    def change(raw: dict[str, Any]) -> None:
        shape = raw["validation"].setdefault("shape", {})
        shape["accepted"] = sorted({*shape.get("accepted", []), *partitions})

    configure(run, change)


def _remember(run: Path) -> None:
    write_pins(run, {"earlier": pins(run)})


def _in_child(function: Callable[..., Outcome], *given: Any) -> Outcome:
    """In a process of its own: what a run changes of the environment or of our modules ends with it.

    Nothing else may use DuckDB or Arrow here: a fork takes locks along that their threads hold, and not the threads.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs, function, given))
    child.start()
    theirs.close()
    try:
        outcome: Outcome = ours.recv() if ours.poll(LIMIT_S) else Outcome("run", ["time"], "too long", is_crash=True)
    except EOFError:
        outcome = Outcome("run", ["killed"], f"the process ended with {child.exitcode}", is_crash=True)
    if child.is_alive():
        child.join(5)
        child.kill()
    child.join()
    return outcome


def _answer(pipe: Connection, function: Callable[..., Outcome], given: tuple[Any, ...]) -> None:
    import logging

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    try:
        pipe.send(function(*given))
    except BaseException as error:  # it is told, not lost
        pipe.send(Outcome("harm", [type(error).__name__], str(error), is_crash=True))
    pipe.close()


def _write(plan: Plan, kind: str, name: str, stretch: Stretch, outcome: Outcome) -> None:
    row = {"kind": kind, "name": name, "seed": stretch.seed, "start": stretch.start, **asdict(outcome)}
    row["reason"] = outcome.reason[:600]
    with plan.results.open("a") as stream:
        stream.write(json.dumps(row) + "\n")
