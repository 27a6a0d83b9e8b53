"""The DAGs without Airflow: their stages one after another in this process, for debugging and tests.

What each stage came to is logged, a line each, at INFO.
"""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

from pipelines import store
from pipelines.errors import ConfigError, NothingToDo
from pipelines.problem import Problem, load_problem
from pipelines.stage_lines import line

log = logging.getLogger(__name__)

STAGES = {
    "ingest": ("extract", "validate", "publish"),
    "train": ("label", "sample", "featurize", "check", "train", "evaluate", "gate", "refit", "register", "promote"),
    "annotate": ("vote", "choose", "collect", "self_train"),
    "score": ("plan", "score", "publish"),
    "monitor": ("profile", "detect", "estimate", "diagnose", "explain", "decide", "act", "report"),
}
PLACES = {
    "EVERGREEN_STORE_URI": "file:///folder or s3://bucket/prefix",
    "MLFLOW_TRACKING_URI": "a server's address, or sqlite:////folder/mlflow.db",
}
OPTIONS = ("partition", "first", "last", "candidate", "restate", "how", "window_from")


@dataclass(frozen=True)
class Missing:
    """A stage gave nothing: it had nothing to do, it failed, or one that it rests on gave nothing."""

    reason: Exception


@dataclass
class Chain:
    """Stages one after another, of which each runs where the DAG's trigger rules let its task run.

    A stage that gave nothing stops what rests on it, and nothing else.
    """

    failures: list[Exception] = field(default_factory=list)

    def run(self, stage: Callable[..., Any], *given: Any, after: tuple[Any, ...] = ()) -> Any:
        """What `stage` gives, or Missing. `after`: what has to be there too, though the stage takes none of it."""
        told = [one for value in (*given, *after) for one in (value if isinstance(value, list) else [value])]
        if lacking := [one for one in told if isinstance(one, Missing)]:
            return next((one for one in lacking if not isinstance(one.reason, NothingToDo)), lacking[0])
        try:
            return logged(stage, *given)
        except NothingToDo as reason:
            return Missing(reason)
        except Exception as error:  # what does not rest on this goes on, as in the DAG; `outcome` raises it
            self.failures.append(error)
            return Missing(error)

    def outcome(self, value: Any) -> Any:
        """`value` itself; raises what failed first, or why there is none."""
        for error in self.failures[1:]:
            log.error("%s", error)
        if self.failures:
            raise self.failures[0]
        if isinstance(value, Missing):
            raise value.reason
        return value


def logged(stage: Callable[..., Any], *given: Any) -> Any:
    """What `stage` gives; its time and its result are logged in a line."""
    name = (stage.func if isinstance(stage, partial) else stage).__name__
    start = time.monotonic()
    try:
        with store.task():
            result = stage(*given)
    except NothingToDo as reason:
        log.info("%-10s %6.1f s  %s: %s", name, time.monotonic() - start, reason.heading, reason.what)
        raise
    except Exception:
        log.info("%-10s %6.1f s  failed", name, time.monotonic() - start)
        raise
    log.info("%-10s %6.1f s  %s", name, time.monotonic() - start, line(name, result))
    return result


def present(value: Any) -> Any:
    """None for what is missing, as a task is given that runs although one before it gave nothing."""
    return None if isinstance(value, Missing) else value


def ingest(problem: str, first: str, last: str, restate: bool = False) -> dict[str, Any]:
    from pipelines.stages import ingest as stages

    validated = logged(stages.validate, problem, logged(stages.extract, problem, first, last))
    published: dict[str, Any] = logged(stages.publish, problem, validated, restate)
    if published.get("refused"):
        log.warning("%s\n%s", published["verdict"], published["reason"])
    return published


def annotate(problem: str, partition: str | None = None) -> dict[str, Any]:
    """What needs no people: the labeling functions vote, and the model labels, as far as they are declared."""
    from pipelines.stages import annotate as stages

    chain = Chain()
    given = {name: chain.run(stage, problem, partition) for name, stage in
             (("vote", stages.vote), ("self_train", stages.self_train))}  # fmt: skip
    done = {name: value for name, value in given.items() if not isinstance(value, Missing)}
    nothing = NothingToDo("nothing labels by itself", where=problem, cure="declare labels.weak or labels.self_training")
    return chain.outcome(done or Missing(nothing))  # type: ignore[no-any-return]


def train(
    problem: str, partition: str | None = None, how: str = "scratch", window_from: str | None = None
) -> dict[str, Any]:
    """Raises NothingToDo where the DAG skips what follows `label`, or `evaluate`."""
    from pipelines.stages import train as stages

    chain = Chain()
    labelled = chain.run(partial(stages.label, how=how, window_from=window_from), problem, partition)
    checked = chain.run(
        stages.check, problem, chain.run(stages.featurize, problem, chain.run(stages.sample, problem, labelled))
    )
    fitted = [chain.run(stages.train, problem, checked, one) for one in load_problem(problem).training.candidates]
    # Where the champion is updated, the other candidates are not trained: those are no reason to stop.
    trained = [one for one in fitted if not (isinstance(one, Missing) and isinstance(one.reason, NothingToDo))]
    evaluated = chain.run(stages.evaluate, problem, checked, trained)
    refitted = chain.run(stages.refit, problem, chain.run(stages.gate, problem, evaluated))
    return chain.outcome(  # type: ignore[no-any-return]
        chain.run(stages.promote, problem, chain.run(stages.register, problem, refitted))
    )


def score(problem: str, partition: str) -> dict[str, Any]:
    from pipelines.stages import score as stages

    chain = Chain()
    shards = chain.run(stages.plan, problem, partition)
    scored = shards if isinstance(shards, Missing) else [chain.run(stages.score, problem, shard) for shard in shards]
    return chain.outcome(chain.run(stages.publish, problem, partition, scored))  # type: ignore[no-any-return]


def monitor(problem: str, partition: str) -> dict[str, Any]:
    """Raises NothingToDo where the DAG skips `act`; what `estimate` or `report` failed with, after all the others."""
    from pipelines.stages import monitor as stages

    chain = Chain()
    profiled = chain.run(stages.profile, problem, partition)
    detected = chain.run(stages.detect, problem, profiled)
    estimated = chain.run(stages.estimate, problem, profiled)
    diagnosed = chain.run(stages.diagnose, problem, present(detected), present(estimated))
    decided = chain.run(stages.decide, problem, chain.run(stages.explain, problem, diagnosed, after=(detected,)))
    chain.run(stages.report, problem, decided)
    return chain.outcome(chain.run(stages.act, problem, decided))  # type: ignore[no-any-return]


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
    needed = [p.name for p in wanted if p.name in inputs and p.default is inspect.Parameter.empty]
    is_by_name = isinstance(given, dict) and bool(given) and given.keys() <= set(inputs)
    if given is not None and len(needed) == 1 and not is_by_name:
        given = {needed[0]: given}
    values = {**{name: value for name, value in options.items() if value}, **(given or {})}
    missing = [p.name for p in wanted if p.name not in values and p.default is inspect.Parameter.empty]
    if missing:
        hints = [
            f"--{m}" if m in OPTIONS else f"--input with the {m} value that the stage before printed" for m in missing
        ]
        raise ConfigError(
            f"{name} needs {', '.join(missing)}", where="evergreen run", cure="give " + " and ".join(hints)
        )
    _check_keys(load_problem(problem), values)
    _require_places(dag)
    given_values = {p.name: values[p.name] for p in wanted if p.name in values}
    if not stage:
        return function(problem, **given_values)
    with store.task():
        return function(problem, **given_values)


def _check_keys(problem: Problem, values: Mapping[str, Any]) -> None:
    """Before anything works: a wrong key is told at once, whichever stage would stumble over it."""
    for name in ("partition", "first", "last", "window_from"):
        if isinstance(values.get(name), str):
            problem.partitions.parse(values[name])


def _require_places(dag: str) -> None:
    """All that a DAG will need is asked for before it starts, and at once.

    Raises:
        ConfigError: a variable is not set.
    """
    missing = [name for name in PLACES if not os.environ.get(name)]
    if dag in ("ingest", "annotate"):
        missing = [name for name in missing if name != "MLFLOW_TRACKING_URI"]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not set",
            where="environment",
            cure="; ".join(f"set {name} to {PLACES[name]}" for name in missing)
            + "; or start the embedded services with `evergreen up`",
        )
