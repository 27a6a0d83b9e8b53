"""A past played through Airflow: what is triggered, waited for and told. With Airflow itself: end to end."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.cli import replay
from pipelines.cli.airflow_client import Run, TaskInstance
from pipelines.errors import DataError
from tests.conftest import ToyProblem

DAYS = ["2024-01-05", "2024-01-06"]
TASKS = {"ingest": ["extract"], "score": ["plan"], "monitor": ["act", "report"], "train": ["fit"]}


class Airflow:
    """Stands in for the client: a run has ended when it is followed to its end, and `act` when it is asked for."""

    url = "http://airflow"

    def __init__(self, retrained: str | None = None, broken: str | None = None) -> None:
        self.retrained, self.broken = retrained, broken
        self.happened: list[str] = []

    def run_of(self, dag_id: str, partition: str) -> Run | None:
        return None

    def trigger(self, dag_id: str, run_id: str, *, partition: str) -> Run:
        self.happened.append(f"{dag_id} {partition} triggered")
        return self.wait_for(dag_id, partition, 0)

    def wait_for(self, dag_id: str, partition: str, timeout_s: float) -> Run:
        return Run(dag_id=dag_id, dag_run_id="r", partition_key=partition, state="running")

    def resume(self, run: Run) -> Run:
        return run

    def follow(self, run: Run, on_task: Any, timeout_s: float, until: str | None) -> Run:
        tasks = TASKS[run["dag_id"].rpartition(".")[2]]
        for name in tasks[: tasks.index(until) + 1] if until else tasks:
            state = "failed" if f"{name} {run['partition_key']}" == self.broken else "success"
            on_task(run, TaskInstance(task_id=name, map_index=-1, rendered_map_index=None, state=state, duration=1.0))
            if state == "failed":
                return Run(**{**run, "state": "failed"})
        return Run(**{**run, "state": "running" if until else "success"})

    def xcom(self, run: Run, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        if key == "verdict" or task_id != "act":
            return None
        return {"action": "retrain"} if run["partition_key"] == self.retrained else None


def played(airflow: Airflow, toy: ToyProblem) -> list[str]:
    """The partitions that went through."""

    def tell(done: replay.Finished) -> None:
        airflow.happened.append(f"{done.stage} {done.partition}")

    through: list[str] = []
    replay.play(airflow, toy(), DAYS, tell, through.append)  # type: ignore[arg-type]
    return through


def test_pages_are_drawn_while_the_next_partition_is_ingested_and_each_task_is_told_once(toy: ToyProblem) -> None:
    airflow = Airflow()
    assert played(airflow, toy) == DAYS
    assert airflow.happened == [
        *("kettle.ingest 2024-01-05 triggered", "ingest.extract 2024-01-05", "score.plan 2024-01-05"),
        "monitor.act 2024-01-05",
        *("kettle.ingest 2024-01-06 triggered", "ingest.extract 2024-01-06", "monitor.report 2024-01-05"),
        *("score.plan 2024-01-06", "monitor.act 2024-01-06", "monitor.report 2024-01-06"),
    ]


def test_the_next_partition_waits_for_a_retraining(toy: ToyProblem) -> None:
    airflow = Airflow(retrained=DAYS[0])
    assert played(airflow, toy) == DAYS
    told = airflow.happened
    assert told.index("train.fit 2024-01-05") < told.index("kettle.ingest 2024-01-06 triggered")


@pytest.mark.parametrize("partition", DAYS)
def test_pages_that_could_not_be_drawn_stop_it(toy: ToyProblem, partition: str) -> None:
    airflow = Airflow(broken=f"report {partition}")
    with pytest.raises(DataError, match=f"kettle.monitor failed for {partition}: report: see its log"):
        played(airflow, toy)


def test_a_partition_that_was_not_sound_is_not_scored(toy: ToyProblem) -> None:
    airflow = Airflow(broken="extract 2024-01-05")
    with pytest.raises(DataError, match=r"kettle.ingest failed for 2024-01-05: extract: see its log"):
        played(airflow, toy)
    assert not [line for line in airflow.happened if line.startswith("score")]
