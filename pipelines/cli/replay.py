"""Play a problem's past through Airflow as if it happened now: one partition after the other, by its own assets.

Only `<problem>.ingest` (and once the first `<problem>.train`) is triggered here; all else follows from assets and
partition keys, as it does for a run that the schedule starts. What ran already is not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pipelines.cli.airflow_client import AirflowClient, Run, TaskInstance
from pipelines.config import Action
from pipelines.errors import DataError, GateFailed
from pipelines.handoffs import line
from pipelines.problem import Problem

RUN_TIMEOUT_S = 1800
START_TIMEOUT_S = 120


class Finished(NamedTuple):
    """One task that ended: `facts` is what it has to say, for people."""

    partition: str
    stage: str
    state: str
    seconds: float
    facts: str


Tell = Callable[[Finished], None]


def prepare(client: AirflowClient, problem: Problem, wait_s: float = 60) -> None:
    """Wait until Airflow has parsed the problem's DAGs, then unpause them.

    Raises:
        DataError: they do not load; the message is Airflow's import error.
    """
    import time

    others = ("train", "annotate") if problem.labels.are_made else ("train",)
    wanted = {f"{problem.name}.{dag}" for dag in (*others, *_chain(problem))}
    end = time.monotonic() + wait_s
    while not wanted <= client.dag_ids(problem.name):
        if time.monotonic() > end:
            errors = "\n".join(error["stack_trace"].strip() for error in client.import_errors())
            raise DataError(
                f"Airflow has no DAGs {', '.join(sorted(wanted - client.dag_ids(problem.name)))}\n{errors}".rstrip(),
                where=client.url,
                cure="`evergreen check` says what is wrong with a problem.yaml",
            )
        time.sleep(0.5)
    for dag in (*others, *reversed(_chain(problem))):  # a paused DAG misses its events: who listens wakes first
        client.unpause(f"{problem.name}.{dag}")


def start(client: AirflowClient, problem: Problem, tell: Tell) -> None:
    """Ingest the history in one bulk run, then train the first model."""
    assert problem.replay is not None
    first, last = problem.partitions.first_key, problem.partitions.last_of(problem.replay.history_until)
    history = client.trigger(f"{problem.name}.ingest", f"history__{first}__{last}", conf={"first": first, "last": last})
    _Followed(client, history, "history", tell).finish()
    training = client.trigger(f"{problem.name}.train", "first_model", partition=last)
    if _Followed(client, training, last, tell).finish()["state"] != "success":  # unreachable without a gate that failed
        raise GateFailed(
            "the first model did not pass its gate",
            where=_address(client, training),
            cure="open the task `gate` of this run: its verdict says why",
        )


def play(
    client: AirflowClient,
    problem: Problem,
    partitions: Iterable[str],
    tell: Tell,
    through: Callable[[str], None] = lambda _: None,
) -> None:
    """One partition after the other: ingest it, then wait for all that its assets start, a retraining included.

    The pages about a partition are for people alone: they are drawn while the next one is ingested. `through` hears of
    each partition that is.

    Raises:
        DataError: a run failed; the message says which task, and why.
        ServiceUnavailable: a run did not start or did not end in time.
    """
    drawn: _Followed | None = None
    for partition in partitions:
        run = client.run_of(f"{problem.name}.ingest", partition) or client.trigger(
            f"{problem.name}.ingest", f"replay__{partition}", partition=partition
        )
        _Followed(client, run, partition, tell).finish()
        if drawn is not None:
            drawn.finish()
        *before, last = _chain(problem)[1:]
        for dag in before:
            run = client.wait_for(f"{problem.name}.{dag}", partition, START_TIMEOUT_S)
            _Followed(client, run, partition, tell).finish()
        monitoring = client.wait_for(f"{problem.name}.{last}", partition, START_TIMEOUT_S)
        drawn = _Followed(client, monitoring, partition, tell)
        requested = client.xcom(drawn.finish(until="act"), "act")
        if requested and Action(requested["action"]).trains:
            training = client.wait_for(f"{problem.name}.train", partition, START_TIMEOUT_S)
            _Followed(client, training, partition, tell).finish()
        through(partition)
    if drawn is not None:
        drawn.finish()


def _chain(problem: Problem) -> tuple[str, ...]:
    """The DAGs that a partition goes through. Release runs beside monitor and is the sooner done: what it did is told
    first, and what serves the next partition may have changed with it."""
    return ("ingest", "score", *(["release"] if problem.release.by_steps else []), "monitor")


class _Followed:
    """A run, whose tasks are told as they end, each once; of one that had ended before nothing is told."""

    def __init__(self, client: AirflowClient, run: Run, partition: str, tell: Tell) -> None:
        self.run = run
        self._client, self._partition, self._tell = client, partition, tell
        self._ended: dict[tuple[str, int], str | None] = {}

    def finish(self, until: str | None = None) -> Run:
        """Follow it to its end, or to the good end of its task `until`."""
        if not self._is_through():
            self.run = self._client.follow(self._client.resume(self.run), self._on_task, RUN_TIMEOUT_S, until)
        if self.run["state"] == "failed" and not self._is_through():
            failed = [task for (task, _), state in self._ended.items() if state == "failed"]
            verdicts = (f"{task}: {self._client.xcom(self.run, task, 'verdict') or 'see its log'}" for task in failed)
            raise DataError(
                f"{self.run['dag_id']} failed for {self._partition}: {'; '.join(verdicts)}",
                where=_address(self._client, self.run),
                cure="open the run's log there; when the cause is gone, run this again and it goes on",
            )
        return self.run

    def _is_through(self) -> bool:
        state = self.run["state"]
        return state == "success" or (state == "failed" and _gate_refused(self._client, self.run))

    def _on_task(self, run: Run, task: TaskInstance) -> None:
        name = (task["task_id"], task["map_index"])
        if name in self._ended:
            return
        self._ended[name] = task["state"]
        dag = run["dag_id"].rpartition(".")[2]
        label = task.get("rendered_map_index") or (task["map_index"] if task["map_index"] >= 0 else "")
        self._tell(
            Finished(
                self._partition,
                f"{dag}.{task['task_id']}" + (f" {label}" if label != "" else ""),
                task["state"] or "",
                task["duration"] or 0.0,
                _facts(self._client, run, task),
            )
        )


def _gate_refused(client: AirflowClient, run: Run) -> bool:
    """A challenger that its gate refused, or that was not sound once fitted again, is an outcome, not a fault."""
    verdicts = [str(client.xcom(run, task, "verdict") or "") for task in ("gate", "refit")]
    return run["dag_id"].endswith(".train") and any(one.startswith("GateFailed") for one in verdicts)


def _facts(client: AirflowClient, run: Run, task: TaskInstance) -> str:
    """What a task has to say: its verdict where it failed or was skipped, else a line of its result."""
    name, index = task["task_id"], task["map_index"]
    if name == "act" and task["state"] == "skipped":
        return "no retraining"
    if task["state"] in ("failed", "skipped"):
        return str(client.xcom(run, name, "verdict", index) or "")
    value = client.xcom(run, name, map_index=index)
    return line(f"{run['dag_id'].rpartition('.')[2]}.{name}", value)


def _address(client: AirflowClient, run: Run) -> str:
    return f"{client.url}/dags/{run['dag_id']}/runs/{run['dag_run_id']}"
