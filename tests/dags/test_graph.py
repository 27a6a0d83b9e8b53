"""The graph of each DAG against graph.txt, so that a rename or a lost edge is a visible diff.

After a wanted change: `UPDATE_GRAPH=1 pytest tests/dags/test_graph.py`, then read the diff and commit it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import DAG

SNAPSHOT = Path(__file__).with_name("graph.txt")


def test_graph_is_as_committed(bag: DagBag) -> None:
    drawn = "\n".join(draw(bag.dags[dag_id]) for dag_id in sorted(bag.dags) if dag_id.startswith("flight_delay."))
    if os.environ.get("UPDATE_GRAPH"):
        SNAPSHOT.write_text(drawn)
    assert drawn == SNAPSHOT.read_text(), "wanted? UPDATE_GRAPH=1 pytest tests/dags/test_graph.py, and commit graph.txt"


def draw(dag: DAG) -> str:
    lines = [dag.dag_id, f"  schedule: {schedule(dag)}"]
    for task in dag.topological_sort():
        mapped = " []" if task.is_mapped else ""
        edges = f" -> {', '.join(sorted(task.downstream_task_ids))}" if task.downstream_task_ids else ""
        emits = f"  emits {', '.join(asset.name for asset in task.outlets)}" if task.outlets else ""
        lines.append(f"  {task.task_id}{mapped}{edges}{emits}")
    return "\n".join(lines) + "\n"


def schedule(dag: DAG) -> str:
    timetable = dag.timetable
    if asset := getattr(timetable, "asset_condition", None):
        return f"{type(timetable).__name__} on {asset.name}"
    if not hasattr(timetable, "partitions"):
        return type(timetable).__name__
    parts = timetable.partitions
    return (
        f"{type(timetable).__name__} every {parts.every} at {parts.at} {parts.timezone}, "
        f"from {dag.start_date:%F %R %Z} to {dag.end_date:%F %R %Z}"
    )
