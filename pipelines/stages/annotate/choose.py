"""choose: the events that people are asked about."""

from __future__ import annotations

import uuid

import numpy as np
import pyarrow.compute as pc

from pipelines.asof.as_known import TRUTH
from pipelines.errors import NothingToDo
from pipelines.handoffs.annotation import Chosen
from pipelines.handoffs.config import pin
from pipelines.labeling.statements import events_of, window_of
from pipelines.problem import load_problem


def choose(problem_name: str, partition: str | None = None) -> Chosen:
    """Pick the unlabelled events that people are asked about, and write the forms: one per annotator, all alike.

    Where the strategy needs a model and there is none yet, the events are random: labels have to begin somewhere.
    Raises:
        NothingToDo: people are not asked about this problem, or every event has its label.
    """
    from pipelines.labeling.choose import choose as pick
    from pipelines.labeling.hand import form
    from pipelines.labeling.scores import champion_scores, committee_scores

    problem = load_problem(problem_name)
    hand = problem.labels.hand
    if hand is None:
        raise NothingToDo("nobody is asked for labels", where=problem_name, cure="declare labels.hand")
    window = window_of(problem, partition)
    events = events_of(problem, window, TRUTH)
    events = events.filter(pc.is_null(events["label"])).drop_columns(["label"])
    if not events.num_rows:
        raise NothingToDo(
            "every event has its label",
            where=f"{problem_name}, {window.keys[0]} to {window.keys[-1]}",
            cure="ingest more",
        )
    match hand.choose:
        case "random":
            scores, because = None, "at random"
        case "disagreement":
            scores, because = committee_scores(problem, events)
        case _:
            scores, because = champion_scores(problem, events)
    if scores is None:
        chosen = pick(np.zeros(events.num_rows), "random", hand.batch, hand.seed)
    else:
        chosen = pick(scores, hand.choose, hand.batch, hand.seed)
    asked = events.take(chosen)
    return Chosen(
        config=pin(problem),
        batch=f"people:{window.arrival}:{uuid.uuid4().hex[:8]}",
        partition=window.arrival,
        partitions=sorted(set(asked["partition"].to_pylist())),
        events=asked[problem.key].to_pylist(),
        event_times=[time.isoformat() for time in asked["event_time"].to_pylist()],
        forms=[form(problem, asked)] * hand.annotators,
        verdict=f"{asked.num_rows} of {events.num_rows:,} unlabelled events, {because}",
    )
