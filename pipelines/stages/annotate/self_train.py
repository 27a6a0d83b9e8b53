"""self_train: a model labels the events that it is sure of."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import NothingToDo
from pipelines.handoffs.annotation import SelfTrained
from pipelines.labeling.statements import events_of, state, window_of
from pipelines.problem import load_problem


def self_train(problem_name: str, partition: str | None = None) -> SelfTrained:
    """Let a model label the unlabelled events that it is sure of. Its own former labels teach it nothing.

    Raises:
        NothingToDo: it is not wanted, there is nothing to label, or too little to learn from.
    """
    from pipelines.labeling.scores import features
    from pipelines.labeling.self_train import self_train as label_rows

    problem = load_problem(problem_name)
    setting = problem.labels.self_training
    if setting is None:
        raise NothingToDo("no model labels events", where=problem_name, cure="declare labels.self_training")
    window = window_of(problem, partition)
    events = events_of(problem, window, [source for source in problem.labels.use if source != "self_trained"])
    unlabelled = events["label"].null_count
    if not unlabelled:
        raise NothingToDo(
            "every event has its label", where=f"{problem_name}, until {window.keys[-1]}", cure="ingest more"
        )
    rows = features(problem, problem, events.drop_columns(["label"])).append_column("label", events["label"])
    stated = label_rows(problem, rows)
    labeler = pa.array([setting.candidate] * stated.num_rows, pa.string())
    state(problem, window, "self_trained", stated, labeler, events)
    return SelfTrained(
        partition=window.keys[-1],
        labelled_before=events.num_rows - unlabelled,
        unlabelled=unlabelled,
        labelled=stated.num_rows,
        positive=int(pc.sum(stated["label"]).as_py() or 0),
        verdict=f"{stated.num_rows:,} of {unlabelled:,} unlabelled events labelled by {setting.candidate}",
    )
