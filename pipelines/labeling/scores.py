"""What models make of the events that people may be asked about."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import ledger, sql, store
from pipelines.artifacts import table_schema
from pipelines.errors import ConfigError, DataError
from pipelines.problem import Problem, parse_problem
from pipelines.release.versions import load_version, version_problem


def champion_scores(problem: Problem, events: pa.Table) -> tuple[np.ndarray | None, str]:
    """The champion's score of each event: from `predictions` where it is there, else made now."""
    from pipelines import tracking

    champion = tracking.champion(problem)
    if champion is None:
        return None, "at random: no champion serves yet"
    version, key = str(champion.version), sql.quote(problem.key)
    is_its = (pc.field("model_version") == version) & pc.field("partition").isin(events["partition"].unique())
    scored = sql.query(
        f"SELECT p.score FROM e LEFT JOIN p USING ({key}, partition) ORDER BY e.event_time, e.{key}",
        {
            "e": events.select([problem.key, "partition", "event_time"]),
            "p": store.dataset(problem, "predictions").to_table(
                columns=[problem.key, "partition", "score"], filter=is_its
            ),
        },
    )["score"]
    scores = scored.to_numpy().copy()
    missing = np.flatnonzero(np.isnan(scores))
    if len(missing):
        rows = features(version_problem(problem, version), problem, events.take(missing))
        scores[missing] = load_version(problem, version, champion.run_id).scores(rows)
    return scores, f"of which version {version} is least sure"


def committee_scores(problem: Problem, events: pa.Table) -> tuple[np.ndarray | None, str]:
    """Scores of the newest training's candidates that learn, one column each.

    Raises:
        ConfigError: there is only one such candidate.
        DataError: MLflow does not have its run any more.
    """
    from pipelines import tracking

    gates = ledger.decisions(problem, "gate")
    if not gates:
        return None, "at random: nothing has been trained yet"
    evaluation = gates[-1]["evidence"]["evaluation"]
    runs = {}
    for name in sorted(evaluation["candidates"]):
        run = tracking.find_run(problem, {"training": evaluation["training"], "candidate": name})
        if run is None:
            raise DataError(
                f"the run of candidate {name} is gone",
                where=f"training {evaluation['training']}, in MLflow",
                cure=f"run {problem.name}.train again, or choose by uncertainty (labels.hand.choose)",
            )
        runs[name] = run[0]
    trained_problem = parse_problem(tracking.run_file(next(iter(runs.values())), "problem.json"), problem.folder)
    committee = [name for name in runs if not trained_problem.training.candidates[name].is_baseline]
    if len(committee) < 2:
        raise ConfigError(
            f"the newest training has {len(committee)} candidate that learns, and one cannot disagree",
            where=f"{problem.folder / 'problem.yaml'}, labels.hand.choose",
            cure="give training.candidates a second one and train, or choose by uncertainty",
        )
    rows = features(trained_problem, problem, events)
    scores = [tracking.load_model(runs[name], tracking.logged_sha256(runs[name])).scores(rows) for name in committee]
    return np.stack(scores, axis=1), f"about which {', '.join(committee)} disagree most"


def features(trained_problem: Problem, problem: Problem, events: pa.Table) -> pa.Table:
    """Features of `events` as `its` config defines them, in the order of `events`."""
    from pipelines.features.featurize import featurize

    history = store.dataset(problem, "events"), store.dataset(problem, "labels")
    schema = table_schema(trained_problem, "features")
    batches = [batch.cast(schema) for batch in featurize(trained_problem, events, *history)]
    key = sql.quote(problem.key)
    return sql.query(
        f"SELECT f.* FROM f JOIN e USING ({key}, event_time) ORDER BY e.event_time, e.{key}",
        {"f": pa.Table.from_batches(batches, schema), "e": events.select([problem.key, "event_time"])},
    )
