"""`<problem>.annotate`: vote; choose -> ask (people, in Airflow's UI) -> collect; self_train."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.asof.as_known import TRUTH
from pipelines.asof.clock import INSTANT
from pipelines.errors import NothingToDo
from pipelines.labeling.statements import events_of, state, window_of, with_abstentions, write_votes
from pipelines.problem import load_problem


def vote(problem: str, partition: str | None = None) -> dict[str, Any]:
    """Let the labeling functions vote on the newest events, and state what they say together.

    Events whose truth is known are voted on too: the report measures the functions by them. Result: {"partition",
    "events", "voted", "labelled", "positive", "functions": {name: votes}, "report": URI, "verdict"}.

    Raises:
        NothingToDo: the problem has no labeling functions.
    """
    from pipelines.labeling import combine
    from pipelines.labeling.functions import votes as say
    from pipelines.labeling.page import page

    config = load_problem(problem)
    weak = config.labels.weak
    if weak is None:
        raise NothingToDo("there are no labeling functions", where=problem, cure="declare some (labels.weak)")
    window = window_of(config, partition)
    events = events_of(config, window, TRUTH)
    said = say(config, events.drop_columns(["label"]))
    votes = np.stack([with_abstentions(column) for column in said.columns], axis=1)
    label, confidence = combine.combine(votes, weak.combine, silence_speaks=True)
    is_sure = (label != combine.ABSTAINS) & (np.nan_to_num(confidence) >= weak.min_confidence)
    truth = with_abstentions(events["label"])
    records = combine.report(votes, said.column_names, truth, silence_speaks=True)

    until = window.keys[-1]
    row, column = np.nonzero(votes != combine.ABSTAINS)
    cast = events.select([config.key, "event_time"]).take(row)
    cast = cast.append_column("voter", pa.array(np.array(said.column_names)[column], pa.string()))
    write_votes(
        config, window, f"functions:{until}", "function", cast.append_column("vote", pa.array(votes[row, column]))
    )
    sure = np.flatnonzero(is_sure)
    stated = events.select([config.key, "event_time"]).take(sure).append_column("label", pa.array(label[sure]))
    stated = stated.append_column("confidence", pa.array(confidence[sure]))
    state(config, window, "weak", stated, pa.array([weak.combine] * len(sure), pa.string()), events)
    checked = is_sure & (truth != combine.ABSTAINS)
    summary = {
        "events": events.num_rows,
        "voted": int((votes != combine.ABSTAINS).any(axis=1).sum()),
        "labelled": len(sure),
        "positive": int((label[sure] == 1).sum()),
    }
    shown = {
        **summary,
        "accuracy": float((label == truth)[checked].mean()) if checked.any() else None,
        "checked": int(checked.sum()),
        "partitions": (window.keys[0], until),
    }
    uri = store.store_uri(config.name, "reports", until, "weak_supervision.html")
    return {
        "partition": until,
        **summary,
        "functions": {record["voter"]: record["positive"] + record["negative"] for record in records},
        "report": store.write_bytes(uri, page(config, until, records, shown)),
        "verdict": f"{len(sure):,} of {events.num_rows:,} events labelled",
    }


def choose(problem: str, partition: str | None = None) -> dict[str, Any]:
    """Pick the unlabelled events that people are asked about, and write the forms: one per annotator, all alike.

    Where the strategy needs a model and there is none yet, the events are random: labels have to begin somewhere.
    Result: {"batch": id, "partition": newest when it asked, "partitions": the events', "events": [keys], "forms":
    [{"subject", "body", "params"}], "verdict"}.

    Raises:
        NothingToDo: people are not asked about this problem, or every event has its label.
    """
    from pipelines.labeling.choose import choose as pick
    from pipelines.labeling.hand import form
    from pipelines.labeling.scores import champion_scores, committee_scores

    config = load_problem(problem)
    hand = config.labels.hand
    if hand is None:
        raise NothingToDo("nobody is asked for labels", where=problem, cure="declare labels.hand")
    window = window_of(config, partition)
    events = events_of(config, window, TRUTH)
    events = events.filter(pc.is_null(events["label"])).drop_columns(["label"])
    if not events.num_rows:
        raise NothingToDo(
            "every event has its label", where=f"{problem}, {window.keys[0]} to {window.keys[-1]}", cure="ingest more"
        )
    match hand.choose:
        case "random":
            scores, because = None, "at random"
        case "disagreement":
            scores, because = committee_scores(config, events)
        case _:
            scores, because = champion_scores(config, events)
    if scores is None:
        chosen = pick(np.zeros(events.num_rows), "random", hand.batch, hand.seed)
    else:
        chosen = pick(scores, hand.choose, hand.batch, hand.seed)
    asked = events.take(chosen)
    return {
        "batch": f"people:{window.arrival}:{uuid.uuid4().hex[:8]}",
        "partition": window.arrival,
        "partitions": sorted(set(asked["partition"].to_pylist())),
        "events": asked[config.key].to_pylist(),
        "event_times": [time.isoformat() for time in asked["event_time"].to_pylist()],
        "forms": [form(config, asked)] * hand.annotators,
        "verdict": f"{asked.num_rows} of {events.num_rows:,} unlabelled events, {because}",
    }


def collect(problem: str, chosen: dict[str, Any], responses: list[Any]) -> dict[str, Any]:
    """Keep what people answered, and state what all people together have said of these events so far.

    `responses`: what each form brought, None where nothing came back. Repeated, it writes the same again. Result:
    {"batch", "partition", "people", "votes", "labelled", "positive", "verdict"}.

    Raises:
        NothingToDo: nobody has answered.
    """
    from pipelines.labeling import combine
    from pipelines.labeling.hand import answers

    config = load_problem(problem)
    hand = config.labels.hand
    if hand is None:
        raise NothingToDo("nobody is asked for labels", where=problem, cure="declare labels.hand")
    votes = answers(config, chosen["events"], responses)
    if not votes.num_rows:
        raise NothingToDo(
            "nobody has told the label of an event", where=f"{problem}, batch {chosen['batch']}", cure="run it again"
        )
    key, batch = sql.quote(config.key), chosen["batch"]
    before = store.dataset(config, "votes").to_table(columns=["known_time"], filter=pc.field("batch") == batch)
    window = window_of(config, None)
    if before.num_rows:  # a repetition: what was known stays known since then
        window = window._replace(present=pc.min(before["known_time"]).as_py() + INSTANT)
    window = window._replace(arrival=chosen["partition"])
    times = pa.array(map(datetime.fromisoformat, chosen["event_times"]), pa.timestamp("us", "UTC"))
    asked = pa.table({config.key: pa.array(chosen["events"], pa.string()), "event_time": times})
    cast = sql.query(
        f"SELECT v.*, a.event_time FROM votes AS v JOIN asked AS a USING ({key}) ORDER BY a.event_time, {key}, voter",
        {"votes": votes, "asked": asked},
    )
    write_votes(config, window, batch, "person", cast)
    people = store.dataset(config, "votes").to_table(filter=pc.field("kind") == "person")
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
    state(config, window, "hand", stated, stated["labeler"], cast)
    return {
        "batch": batch,
        "partition": chosen["partition"],
        "people": sorted(set(votes["voter"].to_pylist())),
        "votes": cast.num_rows,
        "labelled": stated.num_rows,
        "positive": int(pc.sum(stated["label"]).as_py() or 0),
        "verdict": f"{stated.num_rows} of {len(chosen['events'])} events labelled by hand",
    }


def self_train(problem: str, partition: str | None = None) -> dict[str, Any]:
    """Let a model label the unlabelled events that it is sure of. Its own former labels teach it nothing.

    Result: {"partition", "labelled_before", "unlabelled", "labelled", "positive", "verdict"}.

    Raises:
        NothingToDo: it is not wanted, there is nothing to label, or too little to learn from.
    """
    from pipelines.labeling.scores import features
    from pipelines.labeling.self_train import self_train as label_rows

    config = load_problem(problem)
    setting = config.labels.self_training
    if setting is None:
        raise NothingToDo("no model labels events", where=problem, cure="declare labels.self_training")
    window = window_of(config, partition)
    events = events_of(config, window, [source for source in config.labels.use if source != "self_trained"])
    unlabelled = events["label"].null_count
    if not unlabelled:
        raise NothingToDo("every event has its label", where=f"{problem}, until {window.keys[-1]}", cure="ingest more")
    rows = features(config, config, events.drop_columns(["label"])).append_column("label", events["label"])
    stated = label_rows(config, rows)
    labeler = pa.array([setting.candidate] * stated.num_rows, pa.string())
    state(config, window, "self_trained", stated, labeler, events)
    return {
        "partition": window.keys[-1],
        "labelled_before": events.num_rows - unlabelled,
        "unlabelled": unlabelled,
        "labelled": stated.num_rows,
        "positive": int(pc.sum(stated["label"]).as_py() or 0),
        "verdict": f"{stated.num_rows:,} of {unlabelled:,} unlabelled events labelled by {setting.candidate}",
    }
