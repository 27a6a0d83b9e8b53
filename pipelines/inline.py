"""The DAGs without Airflow: their stages one after another in this process, for debugging and tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from pipelines.errors import ConfigError, NothingToDo
from pipelines.problem import load_problem

STAGES = {
    "ingest": ("extract", "validate", "publish"),
    "train": ("label", "sample", "featurize", "check", "train", "evaluate", "gate", "register", "promote"),
    "annotate": ("vote", "choose", "collect", "self_train"),
    "score": ("plan", "score", "publish"),
    "monitor": ("profile", "detect", "estimate", "diagnose", "explain", "decide", "act", "report"),
}
OPTIONS = ("partition", "first", "last", "candidate", "restate", "how", "window_from")


def ingest(problem: str, first: str, last: str, restate: bool = False) -> dict[str, Any]:
    from pipelines.stages import ingest as stages

    return stages.publish(problem, stages.validate(problem, stages.extract(problem, first, last)), restate)


def annotate(problem: str, partition: str | None = None) -> dict[str, Any]:
    """What needs no people: the labeling functions vote, and the model labels, as far as they are declared."""
    from pipelines.stages import annotate as stages

    done: dict[str, Any] = {}
    for name, stage in (("vote", stages.vote), ("self_train", stages.self_train)):
        try:
            done[name] = stage(problem, partition)
        except NothingToDo:
            continue
    if not done:
        raise NothingToDo("nothing labels by itself", where=problem, cure="declare labels.weak or labels.self_training")
    return done


def train(
    problem: str, partition: str | None = None, how: str = "scratch", window_from: str | None = None
) -> dict[str, Any]:
    """Raises NothingToDo where the DAG skips what follows `label`, or `evaluate`."""
    from pipelines.stages import train as stages

    labelled = stages.label(problem, partition, how=how, window_from=window_from)
    checked = stages.check(problem, stages.featurize(problem, stages.sample(problem, labelled)))
    trained = []
    for candidate in load_problem(problem).training.candidates:
        with suppress(NothingToDo):  # where the champion is updated, the other candidates are not trained
            trained.append(stages.train(problem, checked, candidate))
    gated = stages.gate(problem, stages.evaluate(problem, checked, trained))
    return stages.promote(problem, stages.register(problem, gated))


def score(problem: str, partition: str) -> dict[str, Any]:
    from pipelines.stages import score as stages

    shards = stages.plan(problem, partition)
    return stages.publish(problem, partition, [stages.score(problem, shard) for shard in shards])


def monitor(problem: str, partition: str) -> dict[str, Any]:
    """Raises NothingToDo where the DAG skips `act`."""
    from pipelines.stages import monitor as stages

    profiled = stages.profile(problem, partition)
    estimated = None
    with suppress(NothingToDo):  # nothing to say yet
        estimated = stages.estimate(problem, profiled)
    diagnosed = stages.diagnose(problem, stages.detect(problem, profiled), estimated)
    decided = stages.decide(problem, stages.explain(problem, diagnosed))
    stages.report(problem, decided)
    return stages.act(problem, decided)


def run(name: str, problem: str, options: dict[str, Any], given: Any = None) -> Any:
    """Run a whole DAG (`ingest`) or one stage of it (`ingest.validate`).

    Args:
        options: values for the parameters named in OPTIONS.
        given: what the stage before gave; for a stage that takes two such values, an object with both by name.

    Raises:
        ConfigError: no such stage, or a value is missing; the message says which.
    """
    dag, _, stage = name.partition(".")
    if dag not in STAGES or (stage and stage not in STAGES[dag]):
        raise ConfigError(
            f"there is no stage {name!r}",
            where="evergreen run",
            cure="one of " + ", ".join([*STAGES, *(f"{d}.{s}" for d in STAGES for s in STAGES[d])]),
        )
    function: Callable[..., Any] = getattr(import_module(f"pipelines.stages.{dag}"), stage) if stage else globals()[dag]
    wanted = [p for p in inspect.signature(function).parameters.values() if p.name != "problem"]
    inputs = [p.name for p in wanted if p.name not in OPTIONS]
    if given is not None and len(inputs) == 1:
        given = {inputs[0]: given}
    values = {**{name: value for name, value in options.items() if value}, **(given or {})}
    missing = [p.name for p in wanted if p.name not in values and p.default is inspect.Parameter.empty]
    if missing:
        hints = [
            f"--{m}" if m in OPTIONS else f"--input with the {m} value that the stage before printed" for m in missing
        ]
        raise ConfigError(
            f"{name} needs {', '.join(missing)}", where="evergreen run", cure="give " + " and ".join(hints)
        )
    return function(problem, **{p.name: values[p.name] for p in wanted if p.name in values})
