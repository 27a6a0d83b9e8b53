"""The DAGs without Airflow: their stages one after another in this process, for debugging and tests.

What each stage came to is logged, a line each, at INFO.
"""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from pipelines import deliveries, stages, store, usage
from pipelines.errors import ConfigError, NothingToDo, TransientError
from pipelines.handoffs import line
from pipelines.handoffs.base import HandOff, takes_several
from pipelines.handoffs.ingestion import Published
from pipelines.handoffs.monitoring import Requested
from pipelines.handoffs.releases import Stepped
from pipelines.handoffs.scoring import ScoredPartition
from pipelines.handoffs.training import Promoted
from pipelines.problem import Problem, load_problem
from pipelines.stage_names import STAGES

log = logging.getLogger(__name__)

PLACES = {
    "EVERGREEN_STORE_URI": "file:///folder or s3://bucket/prefix",
    "MLFLOW_TRACKING_URI": "a server's address, or sqlite:////folder/mlflow.db",
}
P = ParamSpec("P")
R = TypeVar("R")
OPTIONS = ("partition", "first", "last", "candidate", "restate", "how", "window_from")


class Observer:
    """Told of each stage that runs here; this one takes no notice."""

    def began(self, stage: str) -> None:
        """A stage, such as `train.sample`, begins."""

    def ended(self, stage: str, result: Any) -> None:
        """It gave `result`; one that gives nothing is not told of."""


_observer: ContextVar[Observer] = ContextVar("observer", default=Observer())  # noqa: B039


@contextmanager
def observed(by: Observer) -> Iterator[None]:
    """Let `by` be told of the stages that run meanwhile."""
    token = _observer.set(by)
    try:
        yield
    finally:
        _observer.reset(token)


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

    def run(self, name: str, *handed_on: Any, after: tuple[Any, ...] = (), **options: Any) -> Any:
        """What the stage gives, or Missing. `after`: what has to be there too, though the stage takes none of it."""
        rests_on = [*handed_on, *after]
        rests_on = [part for value in rests_on for part in (value if isinstance(value, list) else [value])]
        if lacking := [part for part in rests_on if isinstance(part, Missing)]:
            return next((part for part in lacking if not isinstance(part.reason, NothingToDo)), lacking[0])
        try:
            return logged(name, *handed_on, **options)
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


def logged(name: str, problem_name: str, *handed_on: Any, **options: Any) -> Any:
    """What a stage, such as `train.sample`, gives; its time and what it says of itself are logged in a line.

    Where it fails, how the problem stands is written down: its run ends here.
    """
    label, start, observer = name.partition(".")[2], time.monotonic(), _observer.get()
    observer.began(name)
    try:
        with (
            usage.measured_run() as run_name,
            usage.measured(about(run_name, name, problem_name, *handed_on, **options)) as used,
            store.task(),
        ):
            used.value = result = stages.stage(name)(problem_name, *handed_on, **options)
    except NothingToDo as reason:
        log.info("%-10s %6.1f s  %s: %s", label, time.monotonic() - start, reason.heading, reason.what)
        raise
    except Exception as error:
        log.info("%-10s %6.1f s  failed", label, time.monotonic() - start)
        if not isinstance(error, TransientError | OSError):  # a server that does not answer would not answer this
            from pipelines.health.kept import try_to_keep

            try_to_keep(problem_name)
        raise
    log.info("%-10s %6.1f s  %s", label, time.monotonic() - start, line(name, result))
    observer.ended(name, result)
    return result


def about(run_name: str, name: str, problem_name: str, *handed_on: Any, **options: Any) -> usage.About:
    """Which try this is: the first, and the only one, of a stage in a run."""
    bound = inspect.signature(stages.function_of(name)).bind(problem_name, *handed_on, **options).arguments
    return usage.About.of(problem_name, name, run_name, bound, part=bound.get("candidate"))


def _one_run(dag: Callable[P, R]) -> Callable[P, R]:
    """The stages that `dag` runs are of one run."""

    @wraps(dag)
    def run_all(*args: P.args, **kwargs: P.kwargs) -> R:
        with usage.measured_run():
            return dag(*args, **kwargs)

    return run_all


def present(value: Any) -> Any:
    """None for what is missing, as a task is given that runs although one before it gave nothing."""
    return None if isinstance(value, Missing) else value


@_one_run
def ingest(problem_name: str, first: str | None = None, last: str | None = None, restate: bool = False) -> Published:
    """Without `first` and `last`, of a problem of deliveries: what has come since."""
    extracted = logged("ingest.extract", problem_name, first, last)
    published: Published = logged(
        "ingest.publish", problem_name, logged("ingest.validate", problem_name, extracted), restate
    )
    if published.refused:
        log.warning("%s\n%s", published.verdict, published.reason)
    return published


@_one_run
def annotate(problem_name: str, partition: str | None = None) -> dict[str, HandOff]:
    """What needs no people: the labeling functions vote, and the model labels, as far as they are declared."""
    chain = Chain()
    labelled = {name: chain.run(f"annotate.{name}", problem_name, partition) for name in ("vote", "self_train")}
    done = {name: value for name, value in labelled.items() if not isinstance(value, Missing)}
    nothing = NothingToDo(
        "nothing labels by itself", where=problem_name, cure="declare labels.weak or labels.self_training"
    )
    return chain.outcome(done or Missing(nothing))  # type: ignore[no-any-return]


@_one_run
def train(
    problem_name: str, partition: str | None = None, how: str = "scratch", window_from: str | None = None
) -> Promoted:
    """Raises NothingToDo where the DAG skips what follows `label`, or `evaluate`."""
    chain = Chain()
    labelled = chain.run("train.label", problem_name, partition, how=how, window_from=window_from)
    shares = chain.run("train.sample", problem_name, labelled)
    featurized = shares
    if not isinstance(shares, Missing):
        featurized = [chain.run("train.featurize", problem_name, share) for share in shares]
    checked = chain.run("train.check", problem_name, featurized)
    candidates = load_problem(problem_name).training.candidates
    fitted = [chain.run("train.train", problem_name, checked, candidate) for candidate in candidates]
    # Where the champion is updated, the other candidates are not trained: those are no reason to stop.
    trained = [model for model in fitted if not (isinstance(model, Missing) and isinstance(model.reason, NothingToDo))]
    evaluated = chain.run("train.evaluate", problem_name, checked, trained)
    refitted = chain.run("train.refit", problem_name, chain.run("train.gate", problem_name, evaluated))
    promoted = chain.run("train.promote", problem_name, chain.run("train.register", problem_name, refitted))
    return chain.outcome(promoted)  # type: ignore[no-any-return]


@_one_run
def score(problem_name: str, partition: str) -> ScoredPartition:
    chain = Chain()
    shards = chain.run("score.plan", problem_name, partition)
    scored = shards
    if not isinstance(shards, Missing):
        scored = [chain.run("score.score", problem_name, shard) for shard in shards]
    return chain.outcome(chain.run("score.publish", problem_name, partition, scored))  # type: ignore[no-any-return]


@_one_run
def monitor(problem_name: str, partition: str) -> Requested:
    """Raises NothingToDo where the DAG skips `act`; what `estimate` or `report` failed with, after all the others."""
    chain = Chain()
    profiled = chain.run("monitor.profile", problem_name, partition)
    detected = chain.run("monitor.detect", problem_name, profiled)
    estimated = chain.run("monitor.estimate", problem_name, profiled)
    diagnosed = chain.run("monitor.diagnose", problem_name, present(detected), present(estimated))
    explained = chain.run("monitor.explain", problem_name, diagnosed, after=(detected,))
    decided = chain.run("monitor.decide", problem_name, explained)
    chain.run("monitor.report", problem_name, decided)
    return chain.outcome(chain.run("monitor.act", problem_name, decided))  # type: ignore[no-any-return]


@_one_run
def release(problem_name: str, partition: str) -> Stepped:
    """Raises NothingToDo where no release is under way, it stays where it is, or people are to be asked."""
    stepped: Stepped = logged("release.step", problem_name, logged("release.assess", problem_name, partition))
    return stepped


def run(name: str, problem_name: str, options: Mapping[str, str | bool | None], given: Any = None) -> Any:
    """Run a whole DAG (`ingest`) or one stage of it (`ingest.validate`).

    Args:
        options: values for the parameters named in OPTIONS.
        given: what the stage before gave; for a stage that takes two such values, an object with both by name. Where it
            is a list and the stage takes one of its elements, the stage runs for each, one after another.

    Returns:
        What the DAG or the stage gives; a list of that, where it ran for each element of one.

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
    function: Callable[..., Any] = stages.function_of(name) if stage else globals()[dag]
    wanted = list(inspect.signature(function).parameters.values())[1:]  # the first is the problem's name
    inputs = [p.name for p in wanted if p.name not in OPTIONS]
    needed = [p.name for p in wanted if p.name in inputs and p.default is inspect.Parameter.empty]
    is_by_name = isinstance(given, dict) and bool(given) and given.keys() <= set(inputs)
    if given is not None and len(needed) == 1 and not is_by_name:
        given = {needed[0]: given}
    values = {**{name: value for name, value in options.items() if value}, **(given or {})}
    missing = [p.name for p in wanted if p.name not in values and p.default is inspect.Parameter.empty]
    if missing:
        hints = [f"--{parameter}" for parameter in missing if parameter in OPTIONS]
        if len(needed) > 1:
            hints.append(f"--input with an object that has what those stages printed by name: {', '.join(needed)}")
        elif not set(needed).isdisjoint(missing):
            hints.append("--input with what the stage before printed")
        raise ConfigError(
            f"{name} needs {', '.join(missing)}", where="evergreen run", cure="give " + " and ".join(hints)
        )
    problem = load_problem(problem_name)
    if not problem.partitions.by_delivery:
        _check_keys(problem, values)
    _require_places(dag)
    if problem.partitions.by_delivery:
        values |= _deliveries_named(problem, dag, values)
    given_values = {p.name: values[p.name] for p in wanted if p.name in values}
    if stage:
        return _one_or_each(name, problem_name, takes_several(function), given_values)
    return function(problem_name, **given_values)


def _one_or_each(name: str, problem_name: str, several: Mapping[str, bool], values: Mapping[str, Any]) -> Any:
    """What a stage gives; a list of that, where it takes one hand-off and is given a list, as the DAG maps its task.

    A stage that takes a list is given a single hand-off as a list of it. `several`: as `takes_several` has it.
    """
    as_lists = {
        parameter: [value] if several.get(parameter) and isinstance(value, dict) else value
        for parameter, value in values.items()
    }
    mapped = [parameter for parameter, value in as_lists.items() if _is_mapped(several, parameter, value)]
    if not mapped:
        return logged(name, problem_name, **as_lists)
    if len(mapped) > 1 or not as_lists[mapped[0]]:
        fault = "lists of several values" if len(mapped) > 1 else "an empty list"
        raise ConfigError(
            f"{name} is given {fault}: {', '.join(mapped)}",
            where="evergreen run",
            cure="give --input one list, for each element of which the stage runs, or one element",
        )
    with usage.measured_run():
        return [logged(name, problem_name, **{**as_lists, mapped[0]: element}) for element in as_lists[mapped[0]]]


def _is_mapped(several: Mapping[str, bool], parameter: str, value: Any) -> bool:
    return parameter in several and not several[parameter] and isinstance(value, list)


def _keys_in(values: Mapping[str, object]) -> dict[str, str]:
    return {name: key for name in stages.KEYS if isinstance(key := values.get(name), str)}


def _check_keys(problem: Problem, values: Mapping[str, object]) -> None:
    """Before anything works: a wrong key is told at once, whichever stage would stumble over it."""
    for key in _keys_in(values).values():
        problem.partitions.parse(key)


def _deliveries_named(problem: Problem, dag: str, values: Mapping[str, object]) -> dict[str, str]:
    """Keys of the deliveries that `values` name, by key or as their file is called, one that has just come too."""
    named = _keys_in(values)
    if named and dag == "ingest":
        from pipelines.ingest.sources import offered

        deliveries.look(problem, offered(problem))
    return {name: deliveries.named(problem, text) for name, text in named.items()}


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
