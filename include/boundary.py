"""The border between pipelines and Airflow: the only module that knows the exceptions of both.

| a stage raises                | the task            | retried           |
| ----------------------------- | ------------------- | ----------------- |
| `NothingToDo`                 | skipped             | no, nor what follows |
| `TransientError`, `OSError`   | up for retry        | yes, with back-off |
| `PermanentError`              | failed              | no                |
| anything else (a fault of ours) | failed            | no                |

What happened is pushed as the XCom `verdict` (one line) and is the last thing in the task's log (in full). What each
try of a task used is measured (`pipelines.usage`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

from airflow.sdk import Asset, AssetAlias, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from include.assets import facts, is_promotion
from pipelines.config.partitions import is_key
from pipelines.errors import ConfigError, NothingToDo, PermanentError, TransientError
from pipelines.handoffs.base import to_json
from pipelines.html.wording import cut

if TYPE_CHECKING:
    from pipelines.usage import Result

VERDICT_CHARACTERS = 500

P = ParamSpec("P")
log = logging.getLogger(__name__)


def stage(name: str) -> Any:
    """The task of a stage function, such as `train.sample`: it is imported when the task runs."""

    def body(*args: Any) -> Any:
        return run(name, *args)

    body.__name__ = body.__qualname__ = name.partition(".")[2]
    return task(boundary(body))


def run(name: str, *args: Any, **kwargs: Any) -> Any:
    """Run a stage, such as `train.sample`, on what XCom gave: JSON becomes the hand-off that the stage takes. What the
    tasks of a mapped one gave, which Airflow fetches one by one, becomes a list."""
    from pipelines import stages

    return stages.stage(name)(*map(_whole, args), **kwargs)


def _whole(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | list) else value


def boundary(body: Callable[P, Any]) -> Callable[P, Any]:
    """Turn what `body` gives into JSON, and the errors of `pipelines` that it raises into Airflow's outcomes."""

    @wraps(body)
    def bounded(*args: P.args, **kwargs: P.kwargs) -> Any:
        from pipelines import store  # loads Arrow, which a DAG's file does without

        try:
            with _measured(args, kwargs) as used, store.task():
                used.value = result = to_json(body(*args, **kwargs))
        except AirflowException:
            raise
        except NothingToDo as reason:
            _push_verdict(f"{reason.heading}: {reason.what}")
            raise AirflowSkipException(str(reason)) from reason
        except PermanentError as error:
            _push_verdict(f"{type(error).__name__}: {error.what}")
            raise AirflowFailException(str(error)) from error
        except (TransientError, OSError) as error:
            _push_verdict(f"{type(error).__name__}: {error}".splitlines()[0])
            raise AirflowException(str(error)) from error
        except Exception as error:
            _push_verdict(f"unexpected {type(error).__name__}: {error}".splitlines()[0])
            raise AirflowFailException(
                f"unexpected {type(error).__name__}: {error}\n"
                "  next:  this is a fault of Evergreen, not of the data: report it with the traceback above"
            ) from error
        if isinstance(result, Mapping):
            _tell(result)
        return result

    return bounded


def _measured(args: Sequence[Any], kwargs: Mapping[str, Any]) -> AbstractContextManager[Result]:
    """Measures what the running task uses, for the table `runs`; a plain call is no try of any task."""
    from pipelines import usage

    context = _context()
    if context is None:
        return nullcontext(usage.Result())
    instance = context["ti"]
    problem, _, dag = instance.dag_id.rpartition(".")
    said = {str(place): value for place, value in enumerate(args)} | dict(kwargs)
    about = usage.About.of(
        problem,
        f"{dag}.{instance.task_id}",
        instance.run_id,
        said,
        partition=context["dag_run"].partition_key,
        part=str(instance.map_index) if instance.map_index >= 0 else None,
        try_number=instance.try_number,
        has_own_process=True,
    )
    return usage.measured(about)


def last_word(context: Mapping[str, Any]) -> None:
    """Callback of failures and retries: say again, below the traceback, what happened and what to do next."""
    log.info("::endgroup::")  # Airflow has opened a group by now, and the log viewer folds groups away
    log.error("%s", context.get("exception"))


def partition_key(dag_run: Any) -> str:
    """The run's partition key.

    Raises:
        AirflowFailException: the run has none, or something that is no key.
    """
    if not dag_run.partition_key:
        _refuse(
            "this run has no partition key",
            "trigger it again with one ('Partition Key' under the form's advanced options; `partition_key` by REST)",
        )
    if not is_key(dag_run.partition_key):
        _refuse(
            f"{dag_run.partition_key!r} is no partition key",
            "trigger it again with one, such as 2013-04-01, 2013-04-01T05Z or d00003",
        )
    return str(dag_run.partition_key)


def span(dag_run: Any, params: Mapping[str, Any], *, may_look: bool = False) -> tuple[str | None, str | None]:
    """First and last partition that an ingest run covers, both included.

    A run with a partition key covers that partition; one without covers its params `first` to `last`. `may_look`: of
    a problem of deliveries a run that is told nothing looks for those that have come: both are None.

    Raises:
        AirflowFailException: neither is given, or both are.
    """
    first, last = params.get("first"), params.get("last")
    if dag_run.partition_key:
        if first or last:
            _refuse("this run has both a partition key and the params first/last", "give one or the other")
        return dag_run.partition_key, dag_run.partition_key
    if may_look and not (first or last):
        return None, None
    if not (first and last):
        _refuse(
            "this run has neither a partition key nor both of the params first and last",
            "trigger it with a partition key for one partition, or with first and last for a bulk history",
        )
    return str(first), str(last)


def tell_partitions(outlet: Asset, keys: Sequence[str]) -> None:
    """Let what is scheduled on an asset run for these partitions, which the run came to know itself."""
    if keys and (context := _context()):
        context["outlet_events"][outlet].add_partitions(list(keys))


def _refuse(what: str, cure: str) -> NoReturn:
    _push_verdict(what)
    raise AirflowFailException(str(ConfigError(what, where="how the run was triggered", cure=cure)))


def _tell(result: Mapping[str, Any]) -> None:
    """Push the verdict and reason that a result holds, and put its facts on the events of the task's outlets."""
    if line := ": ".join(str(result[key]) for key in ("verdict", "reason") if result.get(key)):
        _push_verdict(line)
    if context := _context():
        for outlet in context["task"].outlets:
            if not isinstance(outlet, AssetAlias):
                context["outlet_events"][outlet].extra = facts(result)
            elif is_promotion(result):
                context["outlet_events"][outlet].add(Asset(outlet.name), extra=facts(result))


def _push_verdict(line: str) -> None:
    """Data may be in it, in any length: what is kept of it is one line of text."""
    if context := _context():
        context["ti"].xcom_push("verdict", cut(" ".join(line.split()), VERDICT_CHARACTERS))


def _context() -> Any:
    """The running task's context; None in a plain call, such as a test's."""
    try:
        return get_current_context()
    except RuntimeError:
        return None
