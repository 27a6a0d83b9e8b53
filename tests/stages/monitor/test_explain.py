"""Explained on a real store; and every number on the page is found again in the rows that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines import sql, store, tracking
from pipelines.config import Action
from pipelines.dataset.waiting import judgeable
from pipelines.errors import DataError, NothingToDo
from pipelines.evaluation.report.conditions import mask
from pipelines.handoffs.monitoring import Decided, Diagnosed, Explained, Profiled
from pipelines.metrics.metrics import METRICS
from pipelines.metrics.scored import scored
from pipelines.monitoring.decide.weighing import Weighing
from pipelines.monitoring.detect.alarm_levels import since_first_value
from pipelines.monitoring.diagnose.finding import Diagnosis, Finding
from pipelines.monitoring.explain.change_point import change_point
from pipelines.monitoring.explain.contribution import pooled, score_shift
from pipelines.monitoring.explain.root_cause import Explanation
from pipelines.problem import Problem, load_problem
from pipelines.profiles.column import ColumnProfile, merge
from pipelines.profiles.distance import jensen_shannon, psi, wasserstein
from pipelines.profiles.profile import Reference, from_rows
from pipelines.stages import stage
from pipelines.stages.monitor import evidence
from pipelines.stages.monitor.explain import explain
from pipelines.stages.monitor.past import Past, past
from pipelines.stages.monitor.report import monitoring_page
from tests.stages.conftest import PROBLEM, WEEKS, configure

pytestmark = pytest.mark.slow

FAULTY = WEEKS[2:]


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> None:
    """Pages have their pictures here."""


def harm(problem: str) -> None:
    """In the newest two of four weeks temperatures come in Celsius, in the third outcomes of long flights turn; all are
    profiled."""
    configure(problem, lambda raw: raw["evaluation"].update(slices={"min_rows": 150}))
    config = load_problem(problem)
    lineage = store.read_json(store.store_uri(problem, "models", "1", "lineage.json"))
    model = tracking.load_model(lineage["run_id"])
    for week in FAULTY:
        rows = table(config, "features", week)
        celsius = pc.multiply(pc.subtract(rows["temp"], 32.0), 5 / 9)
        rows = rows.set_column(rows.schema.get_field_index("temp"), "temp", celsius)
        store.write_table(config, "features", rows, [week])
        predicted = table(config, "predictions", week)
        at = predicted.schema.get_field_index("score")
        store.write_table(
            config, "predictions", predicted.set_column(at, "score", pa.array(model.scores(rows))), [week]
        )
    turned = table(config, "events", WEEKS[2]).filter(pc.field("distance") > 1200)[config.key]
    labels = table(config, "labels", WEEKS[3])
    is_turned = np.asarray(pc.is_in(labels[config.key], value_set=turned.combine_chunks()))
    label = np.where(is_turned, 1 - labels["label"].to_numpy(), labels["label"].to_numpy())
    at = labels.schema.get_field_index("label")
    labels = labels.set_column(at, "label", pa.array(label, labels.schema.field("label").type))
    store.write_table(config, "labels", labels, [WEEKS[3]], within="natural")
    for week in WEEKS:
        stage("monitor.profile")(problem, week)


def table(config: Problem, name: Any, week: str) -> pa.Table:
    return store.dataset(config, name).to_table(filter=pc.field("partition") == week).sort_by(config.key)


def diagnosed(problem: str, week: str, *findings: Finding) -> Diagnosed:
    """As `detect` gives it, with findings of the test's own, whatever the policy makes of it."""
    detected = stage("monitor.detect")(problem, Profiled(partition=week, version="1"))
    diagnosis = Diagnosis(findings=findings, labelled=(), bad=())
    uri = evidence.keep(load_problem(problem), detected, "diagnosis", diagnosis)
    return Diagnosed(**detected.model_dump(), diagnosis=uri, kinds=list(diagnosis.kinds))


def decided(explained: Explained, **decision: Any) -> Decided:
    uri = evidence.keep(load_problem(PROBLEM), explained, "weighing", Weighing())
    return Decided(**explained.model_dump(), weighing=uri, **decision)


def explanation_of(explained: Explained) -> Explanation:
    return evidence.read(Explanation, explained.explanation or "")


COLD = Finding(kind="covariate shift", evidence="temp is cold", numbers={"temp": 2.0})
DRIFT = Finding(kind="concept drift", evidence="long flights turned", numbers={"gain": 0.1})


def test_a_fault_is_explained_and_every_number_is_found_again(loop_after: Callable[..., str]) -> None:
    loop = loop_after(4)
    harm(loop)
    given = diagnosed(loop, WEEKS[3], COLD, DRIFT)
    told = explain(loop, given)
    assert told.detection == given.detection and told.since == FAULTY[0]
    explained = explanation_of(told)
    assert explained.since == FAULTY[0] and explained.shape == "step" and explained.after == FAULTY
    assert "temp" in [one.feature for one in explained.contributions[:3]]
    total = sum(one.score for one in explained.contributions) + explained.shift.remainder_score  # type: ignore[union-attr]
    assert total == pytest.approx(explained.shift.after - explained.shift.before)  # type: ignore[union-attr]
    assert explained.labelled_after == (WEEKS[2],) and explained.has_held_out
    worst = explained.slices[0]
    assert "distance" in [one["feature"] for one in worst.conditions] and worst.loss > worst.loss_before
    assert "Since the week of 2013-02-25" in explained.paragraph and f"{worst.name} (log loss" in explained.paragraph
    assert explain(loop, given) == told and explanation_of(told) == explained, "a repeated run says the same"

    stage("monitor.estimate")(loop, Profiled(partition=WEEKS[1], version="1"))
    alarm = decided(told, verdict="covariate shift", action=Action.ALERT, reason="cold")
    with pytest.raises(NothingToDo):
        stage("monitor.act")(loop, alarm)
    uri = monitoring_page(loop, alarm)
    assert uri.endswith(f"/reports/{WEEKS[3]}/monitoring.html")
    html = store.read_bytes(uri).decode()
    found = re.search(r'<pre id="numbers">(.*?)</pre>', html, re.DOTALL)
    assert found is not None
    numbers = json.loads(unescape(found.group(1)))
    again = Again(past("1", judgeable(load_problem(loop), WEEKS[3])), explained)
    for one in numbers:
        assert again.value(one) == pytest.approx(one["value"], rel=1e-6, abs=1e-9), one
    tables = {source["table"] for one in numbers for source in one["from"]}
    assert {
        "profiles",
        "predictions",
        "labels",
        "features",
        "estimates",
        "ledger",
        "models/1/reference.json",
        "models/1/held_out.parquet",
    } <= tables
    assert len(numbers) > 300


class Again:
    """Each number of the page once more, from the tables that it says it is from."""

    def __init__(self, what_was: Past, explained: Explanation) -> None:
        self.past, self.explained = what_was, explained
        self.config, self.reference = what_was.problem, what_was.reference
        self.metrics: dict[str, dict[str, float]] = {}
        self.shift = self._shift()

    def value(self, one: dict[str, Any]) -> float | None:
        measure, sources, what = one["measure"], one["from"], one["what"]
        kinds: dict[str, Callable[[], Any]] = {
            "evidence.": lambda: self._ledger(sources[0], measure),
            "change point of ": lambda: self._change(what.rpartition(": ")[0], measure),
            "contribution: ": lambda: self._part(what, measure.removeprefix("contribution: ")),
            "error slice: ": lambda: self._slice(what, measure.removeprefix("error slice: ")),
            "metrics.": lambda: self.reference.metrics[measure.removeprefix("metrics.")],
            "share of ": lambda: self._share(measure, sources),
        }
        for start, function in kinds.items():
            if measure.startswith(start):
                found: float | None = function()
                return found
        if sources[0]["table"] == "estimates":
            return self._estimate(sources[0]["where"], measure)
        if sources[0]["table"] in ("predictions", "models/1/held_out.parquet"):
            return self._metric(sources[0]["where"]["partition"][0], measure)
        return self._profiled(measure, sources)

    def _profiles(self, sources: list[dict[str, Any]]) -> tuple[str, list[ColumnProfile]]:
        found, column = [], ""
        for one in sources:
            where = one["where"]
            if one["table"] == "profiles":
                column = where["column"]
                rows = store.dataset(self.config, "profiles").to_table(
                    filter=pc.field("partition").isin(where["partition"])
                    & (pc.field("slice") == where["slice"])
                    & (pc.field("model_version") == where["model_version"])
                )
                by_key = {key: rows.filter(pc.field("partition") == key) for key in where["partition"]}
                found += [from_rows(part)[column] for part in by_key.values()]
            elif isinstance(where.get("partitions"), list):
                column = where["column"]
                kept = store.read_json(store.store_uri(self.config.name, "models", "1", "reference.json"))["reference"]
                found += [Reference.model_validate(kept).partitions[key][column] for key in where["partitions"]]
        return column, found

    def _profiled(self, measure: str, sources: list[dict[str, Any]]) -> float | None:
        column, found = self._profiles(sources)
        if measure in ("mean", "mean of score"):
            values = [(one.mean, one.valued) for one in found if one.mean is not None]
            return sum(mean * count for mean, count in values) / sum(count for _, count in values)
        if measure in ("null_share", "unseen_share"):
            return {"null_share": found[0].nulls, "unseen_share": found[0].unseen}[measure] / found[0].rows
        usual = since_first_value([each[column] for each in self.reference.partitions.values()])
        known, counts = np.sum([one.counts for one in usual], axis=0), found[0].counts
        bins = self.reference.columns[column].bins
        if len(sources) == 1:  # the series of a category is its distance to the training split
            known = np.asarray(self.reference.columns[column].profile.counts)
        return {
            "psi": lambda: psi(known, counts),
            "js": lambda: jensen_shannon(known, counts),
            "wasserstein": lambda: wasserstein(bins, known, counts),
        }[measure]()  # type: ignore[arg-type, no-any-return]

    def _share(self, measure: str, sources: list[dict[str, Any]]) -> float:
        column, found = self._profiles(sources)
        if not found:
            column = sources[0]["where"]["columns"]
            found = [self.reference.columns[column].profile]
        whole = found[0]
        for one in found[1:]:
            whole = merge(whole, one)
        bins = self.reference.columns[column].bins
        name = measure.removeprefix("share of ").removeprefix("bin ")
        if hasattr(bins, "edges"):
            names = [f"up to {edge:.4g}" for edge in bins.edges] + [
                f"over {bins.edges[-1]:.4g}" if bins.edges else "any"
            ]
        else:
            names = [*bins.kept, "any other"]
        return whole.counts[[*names, "new to the model", "missing"].index(name)] / whole.rows

    def _metric(self, key: str, measure: str) -> float:
        if key not in self.metrics:
            held_out = self.past.held_out()
            assert held_out is not None
            inside = np.asarray(held_out.rows["partition"].to_pylist()) == key
            if inside.any():
                truth = held_out.scored.take(inside)
            else:
                rows = sql.query(
                    f"""SELECT p.score, l.label FROM p JOIN l USING ({self.config.key}) WHERE p.partition = '{key}'
                        AND p.model_version = '1' AND l.known_time < $known_before""",
                    {"p": store.dataset(self.config, "predictions"), "l": store.dataset(self.config, "labels")},
                    {"known_before": self.config.partitions.end(WEEKS[3])},
                )
                truth = scored(self.config, rows["label"].to_numpy(), rows["score"].to_numpy())
            self.metrics[key] = {
                "rows": len(truth.labels),
                "auc": METRICS["auc"].function(truth) or 0,
                "log_loss": METRICS["log_loss"].function(truth) or 0,
                "mean_score": float(truth.scores.mean()),
                "positive_rate": float(truth.labels.mean()),
            }
        return self.metrics[key][measure]

    def _estimate(self, where: dict[str, Any], measure: str) -> float:
        rows = store.dataset(self.config, "estimates").to_table().to_pylist()
        (row,) = [row for row in rows if all(row[name] == value for name, value in where.items())]
        return float(row[measure])

    def _ledger(self, source: dict[str, Any], path: str) -> float:
        rows = store.dataset(self.config, "ledger").to_table().to_pylist()
        (row,) = [row for row in rows if all(row[name] == value for name, value in source["where"].items())]
        value = {"evidence": json.loads(row["evidence"])}
        for step in re.findall(r"(\w+)|\[(\d+)\]|\['([^']*)'\]", path):
            name, place, quoted = step
            value = value[int(place)] if place else value[name or quoted]  # type: ignore[index, assignment]
        return float(value)  # type: ignore[arg-type]

    def _change(self, name: str, measure: str) -> float:
        series = next(one.series for one in self.explained.changes if one.series.name == name)
        values = []
        for key in series.keys:
            made_from = key in self.reference.partitions
            if series.table == "labels":
                values.append(self._metric(key, series.measure))
                continue
            where: dict[str, Any] = {"column": series.column, "slice": "", "model_version": "1"}
            where["partitions" if made_from else "partition"] = [key]
            source = {"table": "models/1/reference.json" if made_from else "profiles", "where": where}
            values.append(self._profiled(series.measure, [source]))
        found = change_point(series.keys, values)
        return float(getattr(found, measure.rpartition(": ")[2]))

    def _shift(self) -> Any:
        profiles = self.past.profiles()
        sides = [
            pooled([profiles[key] for key in keys], self.reference)
            for keys in (self.explained.before, self.explained.after)
        ]
        lineage = store.read_json(store.store_uri(self.config.name, "models", "1", "lineage.json"))
        rows, is_after = self.past.explained_rows(self.explained.before, self.explained.after)
        return score_shift(self.reference, *sides, tracking.load_model(lineage["run_id"]), rows, is_after, 0)

    def _part(self, what: str, part: str) -> float:
        shift, parts = self.shift
        if what.startswith("remainder"):
            return float(getattr(shift, f"remainder_{part}"))
        if what.startswith("all other features"):
            return float(sum(getattr(one, part) for one in parts[10:]))
        return float(next(getattr(one, part) for one in parts if what == f"part of {one.feature}: {part}"))

    def _slice(self, what: str, part: str) -> float:
        one = next(one for one in self.explained.slices if what.startswith(f"{one.name}: "))
        if part in ("excess", "low", "high"):
            return float(getattr(one, part))  # how they are made has tests of its own
        held_out = self.past.held_out()
        assert held_out is not None
        names = list(held_out.rows.column_names)
        rows = sql.query(
            f"""SELECT f.{", f.".join(names)}, p.score, l.label FROM p JOIN l USING ({self.config.key})
                JOIN f USING ({self.config.key}) WHERE l.known_time < $known_before""",
            {
                "p": store.dataset(self.config, "predictions"),
                "l": store.dataset(self.config, "labels"),
                "f": store.dataset(self.config, "features"),
            },
            {"known_before": self.config.partitions.end(WEEKS[3])},
        )
        score, label = rows["score"].to_numpy(), rows["label"].to_numpy()
        is_after = np.isin(rows["partition"].to_pylist(), self.explained.labelled_after)
        inside = mask(rows, list(one.conditions)) & (is_after if part in ("loss", "rows") else ~is_after)
        score, label = score[inside], label[inside]
        if part not in ("loss", "rows"):
            more = mask(held_out.rows, list(one.conditions))
            score = np.concatenate([score, held_out.scored.scores[more]])
            label = np.concatenate([label, held_out.scored.labels[more]])
        loss = -np.log(np.where(label == 1, score, 1 - score))
        return float(len(loss)) if part.startswith("rows") else float(loss.mean())


def test_without_findings_nothing_is_read_and_the_page_stands(
    loop_after: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = loop_after(1)
    given = diagnosed(loop, stage("monitor.profile")(loop, WEEKS[0]).partition)
    with monkeypatch.context() as patch:
        patch.delattr(store, "dataset")
        told = explain(loop, given)
    nothing = explanation_of(told)
    assert nothing.since is None and nothing.contributions == ()
    assert "nothing to explain" in nothing.paragraph
    html = store.read_bytes(monitoring_page(loop, told)).decode()
    assert "nothing to explain" in html and "<svg" in html

    drift = explanation_of(explain(loop, diagnosed(loop, WEEKS[0], DRIFT)))
    assert drift.since is None and drift.slices == () and drift.contributions
    assert any("No labels have come" in note for note in drift.notes)

    def gone(run_id: str, _sha256: str | None) -> Any:
        raise DataError("the run is gone", where=run_id, cure="none")

    monkeypatch.setattr(tracking, "load_model", gone)
    without = explanation_of(explain(loop, diagnosed(loop, WEEKS[0], COLD)))
    assert without.contributions == () and any("could not be read" in note for note in without.notes)
