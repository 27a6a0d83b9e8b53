"""vote: labeling functions vote on the newest events."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines import store
from pipelines.asof.as_known import TRUTH
from pipelines.errors import NothingToDo
from pipelines.handoffs.annotation import Voted
from pipelines.labeling.statements import events_of, state, window_of, with_abstentions, write_votes
from pipelines.problem import load_problem


def vote(problem_name: str, partition: str | None = None) -> Voted:
    """Let the labeling functions vote on the newest events, and state what they say together.

    Events whose truth is known are voted on too: the report measures the functions by them.

    Raises:
        NothingToDo: the problem has no labeling functions.
    """
    from pipelines.labeling import combine
    from pipelines.labeling.functions import votes as say
    from pipelines.labeling.page import Summary, page

    problem = load_problem(problem_name)
    weak = problem.labels.weak
    if weak is None:
        raise NothingToDo("there are no labeling functions", where=problem_name, cure="declare some (labels.weak)")
    window = window_of(problem, partition)
    events = events_of(problem, window, TRUTH)
    said = say(problem, events.drop_columns(["label"]))
    votes = np.stack([with_abstentions(column) for column in said.columns], axis=1)
    label, confidence = combine.combine(votes, weak.combine, silence_speaks=True)
    is_sure = (label != combine.ABSTAINS) & (np.nan_to_num(confidence) >= weak.min_confidence)
    truth = with_abstentions(events["label"])
    records = combine.report(votes, said.column_names, truth, silence_speaks=True)

    until = window.keys[-1]
    row, column = np.nonzero(votes != combine.ABSTAINS)
    cast = events.select([problem.key, "event_time"]).take(row)
    cast = cast.append_column("voter", pa.array(np.array(said.column_names)[column], pa.string()))
    write_votes(
        problem, window, f"functions:{until}", "function", cast.append_column("vote", pa.array(votes[row, column]))
    )
    sure = np.flatnonzero(is_sure)
    stated = events.select([problem.key, "event_time"]).take(sure).append_column("label", pa.array(label[sure]))
    stated = stated.append_column("confidence", pa.array(confidence[sure]))
    state(problem, window, "weak", stated, pa.array([weak.combine] * len(sure), pa.string()), events)
    checked = is_sure & (truth != combine.ABSTAINS)
    summary = Summary(
        events=events.num_rows,
        voted=int((votes != combine.ABSTAINS).any(axis=1).sum()),
        labelled=len(sure),
        positive=int((label[sure] == 1).sum()),
        accuracy=float((label == truth)[checked].mean()) if checked.any() else None,
        checked=int(checked.sum()),
        first_partition=window.keys[0],
        last_partition=until,
    )
    uri = store.store_uri(problem.name, "reports", until, "weak_supervision.html")
    return Voted(
        partition=until,
        events=summary.events,
        voted=summary.voted,
        labelled=summary.labelled,
        positive=summary.positive,
        functions={record.voter: record.positive + record.negative for record in records},
        report=store.write_bytes(uri, page(problem, until, records, summary)),
        verdict=f"{len(sure):,} of {events.num_rows:,} events labelled",
    )
