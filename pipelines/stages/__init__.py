"""The edge: each stage reads the store, calls plain functions of other packages, and writes the store.

A folder a DAG, a module a stage. Between its stages a DAG passes small hand-offs (`pipelines.handoffs`): keys,
versions, counts, and where the rest lies. The DAGs and `evergreen run` call the same functions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from pipelines.errors import EvergreenError, NothingToDo, NoTraining, TransientError
from pipelines.handoffs.base import call

TURNING_POINTS = frozenset(
    {
        "ingest.publish",
        "train.gate",
        "train.refit",
        "train.promote",
        "monitor.act",
        "release.assess",
        "release.step",
    }
)
"""After these a problem stands otherwise than before."""

KEYS = ("partition", "first", "last", "window_from")
"""What a stage calls the keys of partitions that it takes."""


def stage(name: str) -> Callable[..., Any]:
    """The function of a stage, such as `train.sample`; hand-offs are taken as they are, or as JSON.

    It raises ConfigError where a key that it takes is of none of the problem's partitions.
    """
    function = partial(_called, function_of(name))
    return kept_up(function) if name in TURNING_POINTS else function


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
    """`function`, a stage; how the problem stands after it is written down, unless it did nothing or comes again."""

    def run(problem_name: str, *args: Any, **kwargs: Any) -> Any:
        from pipelines.health import kept

        try:
            result = function(problem_name, *args, **kwargs)
        except EvergreenError as error:
            did_nothing = isinstance(error, NothingToDo) and not isinstance(error, NoTraining)
            if not did_nothing and not isinstance(error, TransientError):
                kept.try_to_keep(problem_name)
            raise
        kept.try_to_keep(problem_name)
        return result

    return run
