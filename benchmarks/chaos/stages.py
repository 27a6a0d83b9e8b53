"""The layer without Airflow: whole lives of the small problem, each stage of which may be struck."""

from __future__ import annotations

import csv
import gc
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from benchmarks.chaos import holds, life, worker, world
from benchmarks.chaos.holds import State
from benchmarks.chaos.plan import SHORT_SHARE, STRUCK_SHARE, plan
from benchmarks.chaos.proxy import Asked, Proxy
from benchmarks.chaos.worker import Call, Faults, Trial, Worker

LOOK_AFTER = 12  # tries that were struck: a look at everything costs as much as a few stages


class Broken(BaseModel):
    """A rule that did not hold after a run, and the calls that were struck since the last look."""

    rule: str
    what: str
    after: list[str]


class Life(BaseModel):
    """What came of a loop."""

    seed: int
    seconds: float
    calls: int
    trials: list[Trial]
    broken: list[Broken]
    differences: list[str]
    """Tables that are not, row by row, those of the undisturbed loop."""
    lost: int
    more: int
    left_to_vacuum: int = 0
    """Folders in staging."""
    failures: list[str]
    """Runs that never ended well."""


@contextmanager
def ready(keep: Path) -> Iterator[Proxy]:
    """The services and the proxy before them; and all that a stage imports, for those that are forked from here."""
    os.environ["EVERGREEN_PROBLEMS"] = str(keep / "problems")
    worker.load()
    gc.freeze()  # a look for garbage in a fork would copy all that was imported
    with world.services(keep / "home") as proxy:
        yield proxy
    gc.unfreeze()


def lives(proxy: Proxy, keep: Path, seeds: list[int], tell: Callable[[str], None], *, is_short: bool = False) -> None:
    """Play a loop for each seed that has no result yet; each result is written as it comes."""
    missing = sorted(set(seeds) - {each.seed for each in read(keep)})
    if not missing:
        return
    calls, expected = _calm(proxy, keep, tell, is_short)
    for seed in missing:
        played = _play(
            proxy, keep, seed, plan(calls, seed, SHORT_SHARE if is_short else STRUCK_SHARE), expected, is_short
        )
        with (keep / "lives.jsonl").open("a") as file:
            file.write(played.model_dump_json() + "\n")
        tell(_line(played))


def read(keep: Path) -> list[Life]:
    results = keep / "lives.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    return [Life.model_validate_json(line) for line in lines]


def _line(played: Life) -> str:
    struck = [trial for trial in played.trials if trial.struck]
    ends = Counter(trial.by_hand or "by itself" for trial in struck)
    broken = "; ".join(f"BROKEN {each.rule}: {each.what[:200]} after {each.after}" for each in played.broken)
    return (
        f"seed {played.seed}: {len(struck)} struck of {played.calls} calls in {played.seconds:.0f} s, {dict(ends)}; "
        f"{played.lost} lost, {played.more} more; {played.failures} {broken}"
    )


def _calm(proxy: Proxy, keep: Path, tell: Callable[[str], None], is_short: bool) -> tuple[list[Call], State]:
    """The undisturbed loop: what it asks, and what it leaves."""
    kept = keep / "calm.json"
    if kept.exists():
        calls, left = json.loads(kept.read_text())
        return [
            Call(stage, seconds, [Asked(*each) for each in asked]) for stage, seconds, asked in calls
        ], State.model_validate(left)
    name = _name(0)
    hand, ended, _ = _live(proxy, keep, 0, name, {}, is_short)
    state: State = hand.ask(holds.look, name, read_rows(keep / "problems", name))
    broken = holds.breaches(state, ended.ingested, ended.scored)
    if broken or ended.failures:
        raise RuntimeError(f"the undisturbed loop leaves {broken}, {ended.failures}")
    kept.write_text(json.dumps([hand.calls, state.model_dump()]))
    tell(f"undisturbed: {len(hand.calls)} calls, {sum(call.seconds for call in hand.calls):.0f} s")
    return hand.calls, state


def _name(seed: int) -> str:
    """A new one each time: MLflow may know of a loop that was broken off."""
    return f"pots_{seed:04}_{int(time.time())}"


def read_rows(problems: Path, name: str) -> dict[str, int]:
    """Readable rows of the source by partition."""
    with (problems / name / "pots.csv").open() as file:
        return dict(Counter(row["fired_at"][:10] for row in csv.DictReader(file) if row["heat"] != "very"))


def _live(
    proxy: Proxy, keep: Path, seed: int, name: str, faults: Faults, is_short: bool
) -> tuple[Worker, life.Ended, list[Broken]]:
    problems = keep / "problems"
    world.write_problem(problems, name)
    rows = read_rows(problems, name)
    hand = Worker(proxy, keep / "lives" / name, seed, faults)
    broken: list[Broken] = []
    looked = 0

    def look(ended: life.Ended) -> None:
        nonlocal looked
        struck = [f"{trial.stage}, {trial.fault.kind}" for trial in hand.trials[looked:] if trial.struck]
        if len(struck) < LOOK_AFTER:
            return
        looked = len(hand.trials)
        state: State = hand.ask(holds.look, name, rows)
        before = {(each.rule, each.what) for each in broken}
        new = [breach for breach in holds.breaches(state, ended.ingested, ended.scored) if breach not in before]
        broken.extend(Broken(rule=breach.rule, what=breach.what, after=struck) for breach in new)

    ended = life.live(hand, problems, name, look, is_short=is_short)
    return hand, ended, broken


def _play(proxy: Proxy, keep: Path, seed: int, faults: Faults, expected: State, is_short: bool) -> Life:
    start = time.monotonic()
    name = _name(seed)
    hand, ended, broken = _live(proxy, keep, seed, name, faults, is_short)
    state: State = hand.ask(holds.look, name, read_rows(keep / "problems", name))
    found = holds.differences(expected, state)
    return Life(
        seed=seed,
        seconds=time.monotonic() - start,
        calls=len(hand.calls),
        trials=hand.trials,
        broken=broken,
        differences=[f"{each.table}: {each.example}" for each in found],
        lost=sum(each.lost for each in found),
        more=sum(each.more for each in found),
        left_to_vacuum=state.left_to_vacuum,
        failures=ended.failures,
    )
