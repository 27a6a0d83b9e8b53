"""check: leaks, the datasheet, and what the held-out rows can show."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc
from pydantic import BaseModel

from pipelines import store
from pipelines.dataset import training_sets
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import Checked, Featurized, FeaturizedShare, HeldOutPower, Leaks
from pipelines.paths import datasheet_uri, facts_uri, feature_schema_uri, labelled_uri, train_staging_uri
from pipelines.problem import Problem
from pipelines.temporary import temporary_folder

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.dataset.leaks import Finding

log = logging.getLogger(__name__)


def check(problem_name: str, shares: list[FeaturizedShare]) -> Checked:
    """Look for leaks before anything learns from the set, whose features were computed in `shares`, and write its
    datasheet and its feature schema.

    Raises:
        DataError: a feature knows too much, or a row stands on both sides of a split; the datasheet is written anyway.
    """
    from pipelines.dataset import leaks
    from pipelines.dataset.datasheet import datasheet
    from pipelines.evaluation.gate import power
    from pipelines.features.schema import feature_schema

    problem = problem_of(problem_name, shares[0])
    featurized = _whole(problem, shares)
    staging = train_staging_uri(problem, featurized.training)
    uri = datasheet_uri(problem, featurized.training_set)
    if done := store.finished(staging, _Noted):
        return Checked(**featurized.model_dump(), datasheet=uri, leaks=done.leaks, power=done.power)
    labelled = store.staged(labelled_uri(problem, featurized.training))
    as_of = datetime.fromisoformat(featurized.as_of)
    with temporary_folder() as folder:
        schema, batches = training_sets.with_features(problem, featurized, labelled)
        rows = store.spilled(Path(folder, "rows.arrow"), batches, schema)
        findings = [*leaks.check(problem, rows, as_of, labelled), *_audit(problem, featurized, as_of, labelled)]
        features = feature_schema(problem, rows.filter(pc.field("split") == "train"))
        shows = power.held_out_power(problem, rows)
        facts = training_sets.facts(problem, featurized, rows, features, findings, shows)
    for warning in shows.warnings:
        log.warning("%s: %s", problem_name, warning)
    sheet = datasheet(problem, facts)
    store.write_json(facts_uri(problem, featurized.training_set), asdict(facts))
    store.write_json(feature_schema_uri(problem), features)
    store.write_bytes(uri.replace(".html", ".md"), sheet.markdown.encode())
    store.write_bytes(uri, sheet.html)
    leaks.require_clean(problem, findings)
    accepted = [finding.reason for finding in findings if not finding.passed]
    checked = Checked(
        **featurized.model_dump(), datasheet=uri, leaks=Leaks(checked=True, findings=accepted), power=shows
    )
    store.finish(staging, checked)
    return checked


def _whole(problem: Problem, shares: list[FeaturizedShare]) -> Featurized:
    """The set with one version of the table that has the features of all shares, as their tasks have written them.

    Each has written a version of its own. Where others, such as a partition's scoring, have replaced a share's rows
    before the last of these, they are computed again.
    """
    first = shares[0]
    pins = Featurized(**first.model_dump(exclude={"partitions"}))
    written = {key: share.features_version for share in shares for key in share.partitions}
    newest = max((share.features_version or 0 for share in shares), default=None)
    while late := store.rewritten(problem, "features", written, newest):
        newest = training_sets.write_features(problem, pins, late)
        written |= dict.fromkeys(late, newest)
    return pins.model_copy(update={"features_version": newest})


class _Noted(BaseModel):
    """What an earlier try noted: `power` came later than `leaks`."""

    leaks: Leaks
    power: HeldOutPower | None = None


def _audit(problem: Problem, pins: Featurized, as_of: datetime, labelled: ds.Dataset) -> list[Finding]:
    from pipelines.dataset.audit import Made, audit
    from pipelines.dataset.label import Sizes, splits

    rows = problem.dataset.leaks.audit_rows
    if rows is None:
        return []
    made = Made(
        labelled=labelled,
        training_sets=training_sets.members(problem, pins),
        features=store.dataset(problem, "features", pins.features_version),
    )
    events = store.dataset(problem, "events", pins.events_version)
    labels = store.dataset(problem, "labels", pins.labels_version)
    available = store.partition_keys(problem, "events", pins.events_version)
    sizes = Sizes(**pins.held_out.model_dump()) if pins.held_out else None
    passed_over = {*pins.held, *pins.waiting}
    split = splits(problem, pins.partition, available, pins.window_from, passed_over, sizes=sizes)
    return audit(problem, events, labels, as_of, split, made, rows)
