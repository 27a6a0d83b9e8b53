"""Callbacks of Airflow that tell people: a task failed for good, monitoring decided something, a model was promoted.

A task's state is settled before its callbacks run, so nothing here can fail a task. Airflow ends the process 20 s later
([core] task_success_overtime): hence the ledger has seconds, and all channels are tried at once. When the ledger does
not answer, the alert goes out unjudged: rather twice than not at all.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from airflow.sdk.configuration import conf

from include.links import Evaluation, ModelCard, Monitoring, Page, Release, Validation
from pipelines import alerts
from pipelines.alerts import KINDS, Alert, Judgement, Kind, scrub, without_numbers
from pipelines.config import Action, Channel
from pipelines.errors import DataError, EvergreenError, GateFailed, SchemaError, ServiceUnavailable
from pipelines.handoffs.ingestion import Published
from pipelines.handoffs.monitoring import Decided
from pipelines.handoffs.releases import Assessed, Stepped
from pipelines.handoffs.training import Promoted, Registered
from pipelines.problem import Problem, load_problem

LEDGER_S, CHANNELS_S, SETTLE_S = 5.0, 10.0, 3.0
SECRET_WORDS = ("SECRET", "PASSWORD", "TOKEN", "KEY", "AIRFLOW_CONN_")
# What an action of the monitor's is to people; one that asks for a training is a request.
DONE: dict[Action, Kind] = {
    Action.ALERT: "monitoring alert",
    Action.QUARANTINE: "partition quarantined",
    Action.ROLL_BACK: "version switched",
    Action.FALL_BACK: "version switched",
}
# The buttons that alerts link, by the name that `KINDS` gives.
PAGES: dict[str, Page] = {
    page.name: page for page in (Evaluation(), ModelCard(), Monitoring(), Release(), Validation())
}
log = logging.getLogger(__name__)


def failed(context: Mapping[str, Any]) -> None:
    """on_failure_callback: the task has failed for good. Without an exception, its process was killed."""
    ti, error = context["ti"], context.get("exception")
    cause = getattr(error, "__cause__", None) or error
    dag, task = ti.dag_id.rpartition(".")[2], ti.task_id
    kind: Kind = "task failed"
    verdict = f"{dag}.{task} failed" + (f" ({type(cause).__name__})" if isinstance(cause, BaseException) else "")
    if isinstance(cause, GateFailed):
        verdict = "the challenger did not pass its gate"
        if task == "refit":
            verdict = "the challenger passed its gate, but not when it was fitted again on newer rows"
        kind = "gate refused"
    elif (dag, task) == ("ingest", "validate") and isinstance(cause, DataError | SchemaError):
        kind, verdict = "data refused", "validation refused the data, nothing was published"
    reason = str(error or context.get("reason") or "Its process ended without a word: killed, or out of memory.")
    event = "/".join(str(part) for part in (ti.dag_id, ti.run_id, task, ti.map_index, ti.try_number))
    _tell(context, kind, verdict, reason, event, (dag, task, type(cause).__name__, without_numbers(reason)))


def alerted(context: Mapping[str, Any]) -> None:
    """on_skipped_callback of the monitor's `act`: people are to know what it found, or has done itself."""
    _decided(context, is_request=False)


def requested(context: Mapping[str, Any]) -> None:
    """on_success_callback of the monitor's `act`: it has asked for a training."""
    _decided(context, is_request=True)


def held_back(context: Mapping[str, Any]) -> None:
    """on_success_callback of ingest's `publish`: it went on without the partitions that validation refused."""
    done = Published.model_validate(context["ti"].xcom_pull(task_ids="publish"))
    if not done.refused:
        return
    verdict, reason = done.verdict or "", done.reason or ""
    event = "/".join(("ingest", done.first, done.last, *done.refused))
    same = ("held back", without_numbers(reason))
    _tell(context, "data refused", verdict, reason, event, same, done.refused[-1])


def promoted(context: Mapping[str, Any]) -> None:
    """on_success_callback of train's `promote`."""
    pull = context["ti"].xcom_pull
    done = Promoted.model_validate(pull(task_ids="promote"))
    registered = Registered.model_validate(pull(task_ids="register"))
    version, before = done.version, f"; it replaces version {done.replaced}" if done.replaced else ""
    if done.how != "serves":
        _tell(context, "release", done.line(), registered.reason, f"{done.how}:{version}", (done.how, version))
        return
    reason = f"{registered.reason}{before}"
    _tell(context, "promoted", f"version {version} serves", reason, f"promotion:{version}", (version,))


def asked(context: Mapping[str, Any]) -> None:
    """Before release's `ask` waits: who is waited for."""
    assessed = Assessed.model_validate(context["ti"].xcom_pull(task_ids="assess"))
    users = load_problem(context["ti"].dag_id.rpartition(".")[0]).release.approval.users
    reason = f"{' or '.join(users) if users else 'Anybody'} may answer in Airflow's Required Actions. {assessed.reason}"
    event = ":".join(("asked", assessed.release, str(assessed.rung), assessed.partition))
    _tell(context, "approval wanted", assessed.subject, reason, event, (event,), assessed.partition)


def stepped(context: Mapping[str, Any]) -> None:
    """on_success_callback of release's `step`."""
    done = Stepped.model_validate(context["ti"].xcom_pull(task_ids="step"))
    kind: Kind = "release" if done.action == "stepped" else "release ended"
    event = ":".join((done.release, done.action, done.partition))
    _tell(context, kind, done.verdict, done.reason, event, (event,), done.partition)


def _decided(context: Mapping[str, Any], *, is_request: bool) -> None:
    decided = Decided.model_validate(context["ti"].xcom_pull(task_ids="decide"))
    action = decided.action
    kind: Kind | None = "retraining requested" if action.trains else DONE.get(action)
    if kind is None or (kind == "retraining requested") is not is_request:
        return
    verdict = decided.verdict
    event = ":".join(("monitoring", decided.partition, decided.version, verdict, action))
    message = f"{verdict}: {action.news}" if action.news else verdict
    _tell(context, kind, message, decided.reason, event, (verdict, *decided.measures), decided.partition)


def _tell(
    context: Mapping[str, Any],
    kind: Kind,
    verdict: str,
    reason: str,
    event: str,
    same: tuple[str, ...],
    partition: str | None = None,
) -> None:
    ti, secrets = context["ti"], _secrets()
    problem = load_problem(ti.dag_id.rpartition(".")[0])
    links = {"Task": ti.log_url}
    page = PAGES[name] if (name := KINDS[kind].page) else None
    if page and (path := _path(page, ti)):
        links[page.name] = conf.get("api", "base_url", fallback="http://localhost:8080/").rstrip("/") + path
    partition = partition or _partition(context)
    tell(
        problem,
        Alert(
            kind,
            problem.name,
            partition,
            scrub(verdict, secrets),
            scrub(reason, secrets),
            event,
            tuple(scrub(part, secrets) for part in same),
            links,
        ),
    )


def tell(problem: Problem, alert: Alert) -> None:
    """Send `alert` to the channels that want it, unless the same was told lately. Raises nothing, and logs all."""
    channels = [channel for channel in problem.alerts.channels if channel.takes(alert.severity)]
    if not channels:
        log.info("alert, for which problem.yaml names no channel: %s", alert.subject)
        return
    try:
        (judged,) = _at_once(LEDGER_S, lambda: alerts.claim(problem, alert, datetime.now(UTC)))
        if isinstance(judged, Exception):
            raise judged
    except Exception as error:
        log.warning("the ledger cannot say whether this alert was told before, so it is told: %s", _described(error))
        judged = Judgement(True)
    if not judged.tells:
        log.info("told before, so not again: %s %s", alert.subject, judged.note)
        return
    is_sent = _send(problem, channels, alert, judged)
    if is_sent and judged.claim:
        (settled,) = _at_once(SETTLE_S, lambda: alerts.settle(problem, alert, judged))
        if isinstance(settled, Exception):
            log.warning("the alert was sent but not noted, and may be told again: %s", _described(settled))


def _send(problem: Problem, channels: Sequence[Channel], alert: Alert, judged: Judgement) -> bool:
    """Try every channel; whether any took it."""
    from include.channels import notifier

    def sender(channel: Channel) -> Callable[[], None]:
        return lambda: notifier(channel, alert, judged).notify({})

    outcomes = _at_once(CHANNELS_S, *(sender(channel) for channel in channels))
    for channel, outcome in zip(channels, outcomes, strict=True):
        place = f"alerts.channels.{problem.alerts.channels.index(channel)} ({channel.kind}) of {problem.name}"
        if isinstance(outcome, Exception):
            log.error(
                "alert not sent: %s\n  what:  %s\n  where: %s\n  next:  %s",
                alert.subject,
                _described(outcome),
                place,
                _cure(channel, outcome),
            )
        else:
            log.info("alert sent by %s: %s", place, alert.subject)
    return not all(isinstance(outcome, Exception) for outcome in outcomes)


def _at_once(seconds: float, *calls: Callable[[], Any]) -> list[Any]:
    """What each call returned or raised, side by side; one that is not done after `seconds` in all has raised.

    Daemon threads: one that hangs does not keep the process.
    """
    done: SimpleQueue[tuple[int, Any]] = SimpleQueue()

    def run(number: int, call: Callable[[], Any]) -> None:
        try:
            done.put((number, call()))
        except Exception as error:
            done.put((number, error))

    outcomes: list[Any] = [ServiceUnavailable(f"no answer within {seconds:g} s")] * len(calls)
    for number, call in enumerate(calls):
        threading.Thread(target=contextvars.copy_context().run, args=(run, number, call), daemon=True).start()
    end = monotonic() + seconds
    for _ in calls:
        try:
            number, outcome = done.get(timeout=max(0.0, end - monotonic()))
        except Empty:
            break
        outcomes[number] = outcome
    return outcomes


def _described(error: Exception) -> str:
    """An error in one line, without secrets."""
    from airflow.sdk.log import redact  # type: ignore[attr-defined] # knows every connection that was read

    what = f"{error.what} ({error.where})" if isinstance(error, EvergreenError) and error.where else str(error)
    return scrub(f"{type(error).__name__}: {redact(what)}", _secrets()).splitlines()[0][:300]


def _cure(channel: Channel, error: Exception) -> str:
    if isinstance(error, EvergreenError) and error.cure:
        return error.cure
    return {
        "email": "check the connection that [email] email_conn_id names: host, port, login, and from_email, "
        "disable_ssl, disable_tls in its extra",
        "slack": "check the connection: the webhook's token is its password",
        "webhook": "`airflow connections get` shows whether it exists, on the workers too",
    }[channel.kind]


def _path(page: Page, ti: Any) -> str:
    try:
        return page.get_link(None, ti_key=ti)
    except Exception as error:
        log.warning("the alert goes without a link to its page: %s", _described(error))
        return ""


def _partition(context: Mapping[str, Any]) -> str | None:
    """The run's partition, or the newest that its parameters name."""
    params = context.get("params") or {}
    key = getattr(context.get("dag_run"), "partition_key", None)
    return key or params.get("partition") or params.get("last")


def _secrets() -> list[str]:
    """Values of the environment that are nobody's business; short ones are words such as `admin`."""
    return [
        value
        for name, value in os.environ.items()
        if len(value) >= 8 and any(word in name.upper() for word in SECRET_WORDS)
    ]
