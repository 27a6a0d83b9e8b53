"""collect: what people answered."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.asof.clock import INSTANT
from pipelines.errors import NothingToDo
from pipelines.handoffs.annotation import Chosen, Collected, Response
from pipelines.handoffs.config import problem_of
from pipelines.labeling.statements import state, window_of, write_votes


def collect(problem_name: str, chosen: Chosen, responses: list[Response | None]) -> Collected:
    """Keep what people answered, and state what all people together have said of these events so far.

    `responses`: what each form brought, None where nothing came back. Repeated, it writes the same again.

    Raises:
        NothingToDo: nobody has answered.
    """
    from pipelines.labeling import combine
    from pipelines.labeling.hand import answers

    problem = problem_of(problem_name, chosen)
    hand = problem.labels.hand
    if hand is None:
        raise NothingToDo("nobody is asked for labels", where=problem_name, cure="declare labels.hand")
    votes = answers(problem, chosen.events, responses)
    if not votes.num_rows:
        raise NothingToDo(
            "nobody has told the label of an event",
            where=f"{problem_name}, batch {chosen.batch}",
            cure="run it again",
        )
    key, batch = sql.quote(problem.key), chosen.batch
    before = store.dataset(problem, "votes").to_table(columns=["known_time"], filter=pc.field("batch") == batch)
    window = window_of(problem, None)
    if before.num_rows:  # a repetition: what was known stays known since then
        window = window._replace(present=pc.min(before["known_time"]).as_py() + INSTANT)
    window = window._replace(arrival=chosen.partition)
    times = pa.array(map(datetime.fromisoformat, chosen.event_times), pa.timestamp("us", "UTC"))
    asked = pa.table({problem.key: pa.array(chosen.events, pa.string()), "event_time": times})
    cast = sql.query(
        f"SELECT v.*, a.event_time FROM votes AS v JOIN asked AS a USING ({key}) ORDER BY a.event_time, {key}, voter",
        {"votes": votes, "asked": asked},
    )
    write_votes(problem, window, batch, "person", cast)
    people = store.dataset(problem, "votes").to_table(filter=pc.field("kind") == "person")
    # Of a person who was asked twice about an event the last word counts.
    all_said = sql.query(
        f"""SELECT *, dense_rank() OVER (ORDER BY event_time, {key}) - 1 AS event FROM (
                SELECT {key}, event_time, voter, arg_max(vote, (known_time, batch)) AS vote
                FROM people GROUP BY {key}, event_time, voter
            ) ORDER BY event_time, {key}, voter""",
        {"people": people},
    )
    rows, voters = all_said["event"].to_numpy(), all_said["voter"].combine_chunks().dictionary_encode()
    matrix = np.full((rows[-1] + 1, len(voters.dictionary)), combine.ABSTAINS, np.int8)
    matrix[rows, voters.indices.to_numpy()] = all_said["vote"].to_numpy()
    label, confidence = combine.combine(matrix, hand.combine)
    together = pa.table({"event": np.arange(len(label)), "label": label, "confidence": confidence})
    stated = sql.query(
        f"""SELECT {key}, event_time, any_value(label) AS label, any_value(confidence) AS confidence,
                string_agg(voter, ', ' ORDER BY voter) AS labeler
            FROM all_said JOIN together USING (event) SEMI JOIN asked USING ({key}, event_time)
            WHERE label <> {combine.ABSTAINS}
            GROUP BY {key}, event_time ORDER BY event_time, {key}""",
        {"all_said": all_said, "together": together, "asked": asked},
    )
    state(problem, window, "hand", stated, stated["labeler"], cast)
    return Collected(
        config=chosen.config,
        batch=batch,
        partition=chosen.partition,
        people=sorted(set(votes["voter"].to_pylist())),
        votes=cast.num_rows,
        labelled=stated.num_rows,
        positive=int(pc.sum(stated["label"]).as_py() or 0),
        verdict=f"{stated.num_rows} of {len(chosen.events)} events labelled by hand",
    )
