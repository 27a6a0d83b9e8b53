"""One table, from its first partition on: ingest of the whole history, train, ten partitions one by one."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from benchmarks.drift.world import Stretch, folder_of
from benchmarks.tables.catalogue import TABLES
from benchmarks.tables.judge import AtGate, codes_of, compared, has_shifted, is_off, plain_scores
from benchmarks.tables.played import Alarm, Gain, Played, Stop
from pipelines import ledger, local_run, quarantine, sql, store, tracking
from pipelines.errors import EvergreenError, NothingToDo
from pipelines.ingest.extract import check_columns
from pipelines.ingest.rules import check_rules
from pipelines.ingest.sources import described
from pipelines.metrics.metrics import SKILL
from pipelines.metrics.scored import Scored, scored
from pipelines.paths import reference_uri, version_uri
from pipelines.problem import Problem, load_problem
from pipelines.profiles.profile import Reference

HERE = Path(__file__).parent
SCORED = 10  # partitions with rows
NO_SHAPE, ACCEPTED = "validation: {shape: null}", "validation: {shape: {accepted: [...]}}"
NO_ALARMS = ("stable", "empty", "not judged", "feature change", "staleness")  # told, and nobody is woken


class Run:
    """What has happened to a table so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stops: list[Stop] = []
        self.seconds: dict[str, float] = defaultdict(float)

    def attempt(self, stage: str, partition: str, work: Callable[[], Any], went_on: str = "") -> bool:
        """Whether the stage went through, or had nothing to do; what stopped it is put down."""
        start = time.process_time()
        try:
            work()
        except NothingToDo:
            pass
        except EvergreenError as error:
            self.stops.append(Stop(stage=stage, partitions=(partition,), message=str(error), went_on=went_on))
            return False
        except Exception as error:  # a traceback is the worst of stops, and the other tables go on
            message = f"{type(error).__name__}: {error}"
            self.stops.append(Stop(stage=stage, partitions=(partition,), message=message, went_on=went_on))
            return False
        finally:
            self.seconds[stage] += time.process_time() - start
        return True


def play(name: str, folder: Path) -> Played:
    """Play a table in `folder`, which holds nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    rows = TABLES[name].load()
    _lay(name, folder / "problems" / name, rows)
    with folder_of(folder, Stretch(name, "", "", (), folder / "problems")):
        return _play(name, rows, folder / "problems" / name)


def _lay(name: str, problem: Path, rows: pa.Table) -> None:
    shutil.copytree(HERE / "problems" / name, problem)
    (problem / "data").mkdir()
    pq.write_table(rows, problem / "data" / f"{name}.parquet")


def _play(name: str, rows: pa.Table, folder: Path) -> Played:
    run = Run(name)
    if not run.attempt("check", "", lambda: check(name)):
        settings = yaml.safe_load((folder / "problem.yaml").read_text())
        return Played(
            name=name,
            task=settings.get("task", "binary"),
            every=settings["partitions"]["every"],
            rows=rows.num_rows,
            stops=tuple(run.stops),
            cpu_seconds=dict(run.seconds),
        )
    config = load_problem(name)
    first_scored = TABLES[name].first_scored
    with_features = prepared(config, rows)
    partitions = sorted(with_features["partition"].unique().to_pylist())
    history = [key for key in partitions if config.partitions.first_key <= key < first_scored]
    scored_keys = [key for key in partitions if key >= first_scored][:SCORED]
    keys = config.partitions.between(scored_keys[0], scored_keys[-1])

    refused = _ingest_history(run, config, history, config.partitions.shift(first_scored, -1), folder)
    run.attempt("train", "", lambda: local_run.train(name))
    champion = tracking.champion(config)
    if champion is not None:
        said = _score_one_by_one(run, keys, folder)
        refused |= {key: said[key] for key in scored_keys if key in said}
    verdicts: dict[str, str] = {}
    alarms: tuple[Alarm, ...] = ()
    gained: tuple[Gain, ...] = ()
    candidate = ""
    if champion is not None:
        version = str(champion.version)
        decided = {row["partition"]: row for row in ledger.decisions(config, "monitoring")}
        verdicts = {key: decided[key]["verdict"] for key in scored_keys if key in decided}
        turned_out = outcomes(
            config, with_features.filter(pc.is_in(with_features["partition"], pa.array(scored_keys, pa.string())))
        )
        told = store.read_json(reference_uri(config, version))["reference"]
        alarms = tuple(judged(config, Reference.model_validate(told), decided, turned_out))
        before = with_features.filter(pc.less(with_features["partition"], first_scored))
        gained = compared(
            _scored(config, turned_out),
            scored(config, codes_of(config, turned_out["label"]), plain_scores(config, before, turned_out)),
            turned_out["partition"].to_numpy(),
        )
        candidate = store.read_json(version_uri(config, version, "lineage.json"))["candidate"]
    return Played(
        name=name,
        task=config.task,
        every=config.partitions.every,
        features=len(config.feature_names),
        rows=rows.num_rows,
        history=tuple(history),
        scored=tuple(scored_keys),
        empty=len(keys) - len(scored_keys),
        quarantined=store.dataset(config, "quarantine").count_rows(),
        refused=dict(sorted(refused.items())),
        stops=tuple(run.stops),
        verdicts=verdicts,
        alarms=alarms,
        candidate=candidate,
        gains=gained,
        cpu_seconds=dict(run.seconds),
    )


def _ingest_history(run: Run, config: Problem, history: list[str], last: str, folder: Path) -> dict[str, str]:
    """Ingest it in one bulk run; without the rules of shape if nothing is published. Gives what was not at first."""
    first = config.partitions.first_key
    run.attempt("ingest", last, lambda: local_run.ingest(config.name, first, last), NO_SHAPE)
    reasons = {row["partition"]: row["reason"] for row in quarantine.holds(config)}
    unpublished = sorted(set(history) - set(store.partition_keys(config, "events")))
    if unpublished == history:
        _set(folder, {"shape": None})
        run.attempt("ingest", last, lambda: local_run.ingest(config.name, first, last))
    return {key: reasons.get(key, "no reason is kept") for key in unpublished}


def _score_one_by_one(run: Run, keys: list[str], folder: Path) -> dict[str, str]:
    """Ingest, score and monitor each partition; one that is refused is accepted and comes again. Gives those."""
    refused: dict[str, str] = {}
    for key in keys:
        if not run.attempt("ingest", key, lambda key=key: local_run.ingest(run.name, key, key), ACCEPTED):
            refused[key] = run.stops[-1].message
            _set(folder, {"shape": {"accepted": sorted(refused)}})
            if not run.attempt("ingest", key, lambda key=key: local_run.ingest(run.name, key, key)):
                continue
        run.attempt("score", key, lambda key=key: local_run.score(run.name, key))
        run.attempt("monitor", key, lambda key=key: local_run.monitor(run.name, key))
    return refused


def check(name: str) -> None:
    """What `evergreen check` looks at."""
    config = load_problem(name)
    with described(config) as database:
        for query in config.queries:
            check_columns(config, query, database)
    check_rules(config)


def prepared(config: Problem, rows: pa.Table) -> pa.Table:
    """The table as the plain model has it: the key as text, partition, features and label, from the problem's SQL.

    Nothing of Evergreen's own features takes part in it: a fault in those would hide itself.
    """
    key, zone = sql.quote(config.key), sql.literal(config.partitions.timezone)
    events = sql.query(config.sql("events"), {config.name: rows})
    is_instant = pa.types.is_timestamp(kind := events.schema.field("event_time").type) and kind.tz is not None
    local = f"event_time AT TIME ZONE {zone}" if is_instant else "CAST(event_time AS TIMESTAMP)"
    # An hour has its minutes, as in Evergreen: in whole hours the plain model would know less of the time.
    minutes = {"hour": " + date_part('minute', local_time) / 60"}
    parts = [
        f"date_part('{part.part}', local_time){minutes.get(part.part, '')} AS {sql.quote(name)}"
        for name, part in config.features.datetime.items()
    ]
    every = config.partitions.every
    return sql.query(
        f"""
        WITH local AS (SELECT *, {local} AS local_time FROM events)
        SELECT CAST({key} AS VARCHAR) AS key,
            CAST(CAST(date_trunc('{every}', local_time) AS DATE) AS VARCHAR) AS partition,
            {", ".join([*map(sql.quote, config.features.columns), *parts])}, label
        FROM local JOIN (SELECT {key}, label FROM rows) USING ({key})
        """,
        {"events": events, "rows": rows},
    )


def outcomes(config: Problem, rows: pa.Table) -> pa.Table:
    """The rows that were scored and whose label is known by now, with `score` and `probabilities`."""
    return sql.query(
        f"""SELECT rows.*, p.score, p.probabilities FROM rows JOIN p ON p.{sql.quote(config.key)} = rows.key
            WHERE rows.label IS NOT NULL ORDER BY rows.partition, rows.key""",
        {"rows": rows, "p": store.dataset(config, "predictions")},
    )


def _scored(config: Problem, turned_out: pa.Table) -> Scored:
    scores = turned_out["score"].to_numpy()
    if config.task == "multiclass":
        scores = np.array(turned_out["probabilities"].to_pylist(), np.float64)
    return scored(config, codes_of(config, turned_out["label"]), scores)


def judged(
    config: Problem, reference: Reference, decided: Mapping[str, dict[str, Any]], turned_out: pa.Table
) -> Iterator[Alarm]:
    """Each verdict that wakes somebody, held to the labels of the partition, and of the newest pool that told it.

    That labels have shifted is right where they have, whether it harms the scores or not.
    """
    tested = AtGate(reference.metrics.get(SKILL[config.task]), reference.label_std)
    for key, row in sorted(decided.items()):
        if row["verdict"] in NO_ALARMS:
            continue
        realised = row["evidence"]["realised"]
        found = []
        for pool in dict.fromkeys([(key,), *(tuple(newest["partitions"]) for newest in realised[-1:])]):
            rows = turned_out.filter(pc.is_in(turned_out["partition"], pa.array(pool, pa.string())))
            if not rows.num_rows:
                continue
            measured, policy = _scored(config, rows), config.monitoring.policy
            found.append((" and ".join(pool), *is_off(measured, tested, policy)))
            if row["verdict"] == "label shift":
                found.append((" and ".join(pool), *has_shifted(measured, reference, policy)))
        is_right = any(off for _, off, _ in found)
        words = "; ".join(f"{where}: {said}" for where, off, said in found if said and (off or not is_right))
        yield Alarm(
            partition=key,
            verdict=row["verdict"],
            action=row["action"],
            reason=row["reason"],
            is_right=is_right,
            judged=words or "no labels",
        )


def _set(folder: Path, validation: dict[str, Any]) -> None:
    path = folder / "problem.yaml"
    settings = yaml.safe_load(path.read_text())
    if settings.get("validation", {}).get("shape", validation) is not None:
        path.write_text(yaml.safe_dump({**settings, "validation": validation}, sort_keys=False))
