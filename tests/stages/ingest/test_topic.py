"""A topic through the stages of ingest, which are cut off in the middle: `python -m benchmarks.topic` kills them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.topic import feed
from benchmarks.topic.__main__ import STAGES, faults_of
from benchmarks.topic.cluster import running
from pipelines import store
from pipelines.stages import stage


class Killed(BaseException):
    """Stands for the end of a process: no stage catches it."""


# After which call of what a stage's process ends.
CUT_OFF = {
    "ingest.extract": [("append_from", 1), ("stage", 1)],
    "ingest.validate": [("stage", 2)],
    "ingest.publish": [("write_table", 1), ("write_table", 2)],
}


def ending(function: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """The function, after whose last call the process ends."""
    left = iter(range(calls - 1))

    def called(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        if next(left, None) is None:
            raise Killed
        return result

    return called


@pytest.mark.slow
def test_messages_become_the_statements_of_a_batch_whatever_is_cut_off(
    tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    orders = feed.write(tmp_path, days=2, messages=2_000)
    with running() as cluster:
        problem = feed.write_problem(tmp_path / "problems", cluster.brokers, days=2)
        for day in orders.days:
            assert cluster.send(day.file) == day.messages
            handed_on: list[Any] = [day.key, day.key]
            for name in STAGES:
                for function, calls in CUT_OFF[name]:
                    with monkeypatch.context() as patch, store.task(), pytest.raises(Killed):
                        patch.setattr(store, function, ending(getattr(store, function), calls))
                        stage(name)(problem, *handed_on)
                with store.task():
                    handed_on = [stage(name)(problem, *handed_on)]
    assert faults_of(problem, orders) == []
    assert sum(day.undecodable for day in orders.days) > 0
