"""The edge: each stage reads the store, calls plain functions of other packages, and writes the store.

A folder a DAG, a module a stage. Between its stages a DAG passes small hand-offs (`pipelines.handoffs`): keys,
versions, counts, and where the rest lies. The DAGs and `evergreen run` call the same functions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipelines.errors import DataError, NothingToDo
from pipelines.handoffs.base import call

if TYPE_CHECKING:
    from pipelines.handoffs.releases import Assessed

LAST_TO_CHANGE = frozenset({"ingest.publish", "train.promote", "monitor.act", "release.step"})
"""After these a problem stands otherwise than before its run, and no later stage of the run changes that."""

KEYS = ("partition", "first", "last", "window_from")
"""What a stage calls the keys of partitions that it takes."""


def stage(name: str) -> Callable[..., Any]:
    """The function of a stage, such as `train.sample`; hand-offs are taken as they are, or as JSON.

    It raises ConfigError where a key that it takes is of none of the problem's partitions.
    """
    function = partial(_called, function_of(name))
    if name in LAST_TO_CHANGE:
        return kept_up(function)
    if name == "ingest.validate":
        return kept_where_refused(function)
    return kept_where_people_are_asked(function) if name == "release.assess" else function


def _called(function: Callable[..., Any], problem_name: str, *handed_on: Any, **options: Any) -> Any:
    arguments = inspect.signature(function).bind(problem_name, *handed_on, **options).arguments
    keys = {name: arguments[name] for name in KEYS if arguments.get(name) is not None}
    if keys:
        from pipelines import deliveries
        from pipelines.problem import load_problem

        problem = load_problem(problem_name)
        for name, key in keys.items():
            # An ingest looks for new deliveries itself: `first` and `last` may be some that are not numbered yet.
            deliveries.require_partition(problem, key, may_come=name in ("first", "last"))
    return call(function, problem_name, *handed_on, **options)


def function_of(name: str) -> Callable[..., Any]:
    """The function itself."""
    dag, _, function = name.partition(".")
    stage_function: Callable[..., Any] = getattr(import_module(f"pipelines.stages.{dag}.{function}"), function)
    return stage_function


def kept_up(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, the last stage of a run; how the problem stands after it is written down.

    Also where it had nothing to do, as those before it have written to the ledger. That a stage failed for good knows
    whoever runs it: the task's callback (`include.wiring.keep_health`) or `pipelines.local_run`.
    """

    def run(problem_name: str, *args: Any, **kwargs: Any) -> Any:
        from pipelines.handoffs.ingestion import Published
        from pipelines.health import kept

        try:
            result = function(problem_name, *args, **kwargs)
        except NothingToDo:
            kept.try_to_keep(problem_name)
            raise
        kept.try_to_keep(problem_name, result.reach if isinstance(result, Published) else None)
        return result

    return run


def kept_where_refused(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which takes `Extracted`; how far the sources reached is written down where nothing is published.

    A source that has stopped is why partitions are empty or thin, and no later stage would tell of it.
    """

    def run(problem_name: str, extracted: Any) -> Any:
        from pipelines.handoffs.ingestion import Extracted
        from pipelines.health import kept

        try:
            return function(problem_name, extracted)
        except DataError:
            kept.try_to_keep(problem_name, Extracted.model_validate(extracted).reach)
            raise

    return run


def kept_where_people_are_asked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which gives `Assessed`; how the problem stands is written down where the run waits for people now."""

    def run(problem_name: str, *args: Any, **kwargs: Any) -> Any:
        from pipelines.health import kept

        assessed: Assessed = function(problem_name, *args, **kwargs)
        if assessed.asks:
            kept.try_to_keep(problem_name)
        return assessed

    return run
