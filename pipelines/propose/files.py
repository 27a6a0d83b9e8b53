"""A draft as files: problem.yaml with a comment on each choice, events.sql, labels.sql."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import yaml

from pipelines import sql
from pipelines.config import DELIVERED, LOSS_OF
from pipelines.config.written_out import CANDIDATES, GATES
from pipelines.propose import words
from pipelines.propose.draft import LARGE, SMALL, Draft
from pipelines.propose.rhythm import LENGTH, Rhythm

SCHEMA = "problem.schema.json"  # beside the shipped problems' folders, for editors
WIDTH = 110
MATURE = 4  # one part in so many of the history may be too young to learn from
ENDS_A_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
RARE_CLASS = 0.03  # share of rows: the class may be missing among those of a test
NOTABLE_SHIFT = 0.3  # PSI


def files_of(draft: Draft, owner: str, has_schema: bool = False) -> dict[str, str]:
    """The files' texts by name; `has_schema` as for `problem_yaml`."""
    return {
        "problem.yaml": problem_yaml(draft, owner, has_schema),
        "events.sql": events_sql(draft),
        "labels.sql": labels_sql(draft),
    }


def problem_yaml(draft: Draft, owner: str, has_schema: bool = False) -> str:
    """What `evergreen check` accepts as it stands; lines with `look` are guesses that a person should read first.

    `has_schema`: SCHEMA lies in the folder of problems.
    """
    blocks = [
        _head(draft, owner, has_schema),
        _partitions(draft),
        _sources(draft),
        _columns(draft),
        _validation(draft),
        _labels(draft),
        _dataset(draft),
        _features(draft),
        _training(draft),
        _gate(draft),
        _replay(draft),
    ]
    return "\n".join(block for block in blocks if block)


def events_sql(draft: Draft) -> str:
    """One row per event: the key, the event's time, the columns."""
    lines = [f"{draft.key.expression} AS {sql.quote(draft.key.name)}"]
    lines.append(f"{draft.time.expression if draft.time else DELIVERED} AS event_time")
    lines += [f"{feature.expression} AS {sql.quote(feature.name)}" for feature in draft.features]
    beside = [f"-- left out: {_one_line(name)}: {_one_line(reason)}" for name, reason in draft.left_out.items()]
    where = f"\nWHERE {draft.time.given} IS NOT NULL" if draft.time and not draft.time.is_whole else ""
    return "\n".join([*beside, f"SELECT\n    {_listed(lines)}\nFROM {sql.quote(draft.table.origin.name)}{where}", ""])


def labels_sql(draft: Draft) -> str:
    """One row per label that is known."""
    lines = [f"{draft.key.expression} AS {sql.quote(draft.key.name)}"]
    conditions = [f"{draft.target.expression} IS NOT NULL"]
    if draft.time is not None:
        lines += [f"{draft.time.expression} AS event_time", f"{draft.known.expression} AS known_time"]
        if draft.known.column is not None:
            conditions.append(f"{draft.known.expression} IS NOT NULL")
    else:
        lines += [f"{DELIVERED} AS event_time", f"{DELIVERED} AS known_time"]
    lines.append(f"{draft.target.expression} AS label")
    conditions += [f"{draft.time.given} IS NOT NULL"] if draft.time and not draft.time.is_whole else []
    source = sql.quote(draft.table.origin.name)
    selected = f"SELECT\n    {_listed(lines)}\nFROM {source}\nWHERE {' AND '.join(conditions)}\n"
    return f"-- {_one_line(draft.known.why)}\n{selected}"


def _listed(lines: list[str]) -> str:
    return ",\n    ".join(lines)


def _head(draft: Draft, owner: str, has_schema: bool) -> str:
    target = draft.target
    return "\n".join(
        [
            *([f"# yaml-language-server: $schema=../{SCHEMA}"] if has_schema else []),
            f"# Proposed by `evergreen new` from {draft.rows:,} rows. What says `look` is a guess: read it first.",
            f"description: {_quoted(target.asks)}",
            f"owner: {_quoted(owner)} # look: who answers for it",
            f"task: {target.task} # {_one_line(target.why)}",
            f"key: {_flow(draft.key.name)} # {_one_line(draft.key.why)}",
            "",
        ]
    )


def _partitions(draft: Draft) -> str:
    rhythm, time = draft.rhythm, draft.time
    if rhythm is None or time is None:
        years = [c.source for c in draft.table.columns if words.of(c.name) & words.YEAR and c.kind == "integer"]
        only = f" more than the year ({_one_line(years[0])}), and none is cut by years" if years else ""
        return f"partitions:\n  every: delivery # no column says when{only}: each file, or each load, is one\n"
    lines = [
        f"partitions: # by {', '.join(time.columns)}: {_one_line(time.why)}",
        f"  every: {rhythm.every} # {_one_line(rhythm.why)}",
        f"  timezone: {draft.zone[0]} # {_one_line(draft.zone[1])}",
        f"  first: {rhythm.first}",
        f"  last: {rhythm.last} # {_why_last(rhythm)}; without it more is expected" if rhythm.last else "",
    ]
    return "\n".join([*filter(None, lines), ""])


def _why_last(rhythm: Rhythm) -> str:
    why = "the table ends there"
    if rhythm.last != rhythm.last_events:
        why = f"the newest label of the events up to {rhythm.last_events} is known there"
    if rhythm.later_labels:
        why += f"; look: {rhythm.later_labels:,} that are known long after are left out"
    return why


def _sources(draft: Draft) -> str:
    origin, table = draft.table.origin, draft.table
    declared = {c.source: c.declared for c in table.columns if c.declared is not None}
    settings = dict(origin.settings)
    if len(declared) < len(table.columns):
        settings["extra_columns"] = "ignore"
    notes = "".join(f" # {_one_line(note)}\n   " for note in origin.notes)
    lines = ["sources:", f"  {_flow(origin.name)}:{notes.rstrip()}"]
    lines += [f"    {name}: {_flow(value)}" for name, value in settings.items()]
    lines.append(f"    columns:\n{_wrapped(declared, 6)}")
    return "\n".join([*lines, ""])


def _columns(draft: Draft) -> str:
    lines = ["columns: # of events.sql; cutoff: its value is there when the prediction is due"]
    for feature in draft.features:
        rules = {"type": feature.type, "available": "cutoff", **feature.rules}
        lines.append(f"  {_flow(feature.name)}: {_flow(rules)} # {_one_line(feature.note)}")
    return "\n".join([*lines, ""])


def _validation(draft: Draft) -> str:
    lines = ["validation:"]
    if draft.rhythm is not None and draft.rhythm.last != draft.rhythm.last_events:
        lines.append("  allow_empty: true # the last partitions are there for their labels")
    if not draft.accepted and not draft.ignored:
        return "\n".join([*lines, ""]) if lines[1:] else ""
    lines.append("  shape: # of a dry run: what looked unlike the partitions before it")
    if draft.accepted:
        lines.append(f"    accepted: {_flow(draft.accepted)} # look at these: is the feed sound?")
    if draft.ignored:
        lines.append("    ignore:")
        lines += [f"      - {_quoted(name)} # {_one_line(why)}" for name, why in draft.ignored.items()]
    return "\n".join([*lines, ""])


def _labels(draft: Draft) -> str:
    lines = []
    if draft.target.classes:
        lines.append(f"  classes: {_flow(list(draft.target.classes))}")
    if draft.time is not None:
        lines.append(f"  delay_days: 0 # {_one_line(draft.known.why)} (labels.sql)")
        days, rhythm = math.ceil(draft.known.waited_days), draft.rhythm
        if rhythm is not None and 0 < days < rhythm.partitions * LENGTH[rhythm.every] / MATURE / timedelta(days=1):
            why = f"19 of 20 labels are known {days} days after the event: younger partitions are not learnt from"
            lines.append(f"  maturity_days: {days} # {why}")
    return "\n".join(["labels:", *lines, ""]) if lines else ""


def _dataset(draft: Draft) -> str:
    """Enough rows to test on that the gate can tell a model from chance, and not more than a fifth."""
    lines = []
    if draft.time is not None and draft.labelled < 5 * SMALL:
        rows = min(max(50, draft.labelled // 5), SMALL)
        why = f"of {draft.labelled:,} rows with a label: a fifth for each of validation and test"
        lines.append(f"  split: {{min_rows: {rows}}} # {why}")
    if draft.no_leaks:
        why = "tells the label well, and names what the row is of"
        if draft.near_leaks:
            why = f"look: is {', '.join(draft.near_leaks)} known before the label? Alone it tells it well"
        lines.append(f"  leaks: {{accepted: {_flow(draft.no_leaks)}}} # {_one_line(why)}")
    return "\n".join(["dataset:", *lines, ""]) if lines else ""


def _features(draft: Draft) -> str:
    lines = ["features:", "  columns: all"]
    if excluded := [
        feature.name for feature in draft.features if not feature.is_learnt_from and feature.type != "timestamp"
    ]:
        lines.append(f"  exclude: {_flow(excluded)}")
    if draft.parts:
        lines.append(f"  datetime: {_flow(draft.parts)}")
    if draft.history:
        lines.append("  history: # what is known of the same value's past at the cut-off")
        lines += [f"    {_flow(name)}: {_flow(settings)}" for name, settings in draft.history.items()]
    return "\n".join([*lines, ""])


def _training(draft: Draft) -> str:
    task, labelled = draft.target.task, draft.labelled
    candidates: dict[str, Any] = {name: dict(settings) for name, settings in CANDIDATES[task].items()}
    why = ""
    if labelled < SMALL:
        candidates["forest"] = {"model": "forest"}
        why = " # few rows: trees that are averaged beside those that are boosted"
    elif labelled >= LARGE:
        candidates["xgboost"]["parameters"] = {"max_bin": 128}
        why = " # many rows: coarser bins"
    lines = [f"training:{why}", f"  select_by: {LOSS_OF[task]}", "  candidates:"]
    lines += [f"    {name}: {_flow(settings)}" for name, settings in candidates.items()]
    return "\n".join([*lines, ""])


def _gate(draft: Draft) -> str:
    gate: dict[str, Any] = dict(GATES[draft.target.task])
    if draft.target.task == "multiclass" and draft.rarest < RARE_CLASS:
        # A class that is in no test row leaves AUC without a value, and a gate without evidence refuses.
        chance = round(math.log(len(draft.target.classes)), 3)
        gate = {"limits": {"log_loss": {"max": chance}}, "gain_over_baselines": {"log_loss": 0.0}}
        gate |= {"gain_over_champion": {"log_loss": -0.02}, "max_jump": None, "max_champion_fall": None}
        gate |= {"max_forgotten": None}
    lines = ["gate: # to serve, a model has to beat the baselines for sure and not fall behind the champion"]
    if "max_jump" in gate:
        lines.append("  # a class is rare: AUC, which has no value where it is in no test row, decides nothing")
    lines += [f"  {name}: {_flow(value)}" for name, value in gate.items()]
    if draft.shift > NOTABLE_SHIFT:
        allowed = round(1 + 2 * draft.shift, 1)
        why = f"labels moved by a PSI of {draft.shift:.2f} before, and scores have to follow"
        lines.append(f"  max_prediction_shift: {allowed} # {why}")
    if draft.labelled < 5 * 100:
        lines.append(f"  min_rows: {max(20, draft.labelled // 10)} # look: so few test rows prove little")
    return "\n".join([*lines, ""])


def _replay(draft: Draft) -> str:
    rhythm = draft.rhythm
    if rhythm is None or rhythm.history_until is None:
        return ""
    return "\n".join(
        [
            f"replay: # `evergreen demo {draft.name}` plays what comes after the history",
            f"  history_until: {rhythm.history_until}",
            f"  until: {rhythm.until}",
            "",
        ]
    )


class _OneLine(yaml.SafeDumper):
    """Texts with a sign that ends a line are quoted so that it is written as an escape."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if ENDS_A_LINE.search(text) else None)


_OneLine.add_representer(str, _text)


def _flow(value: Any) -> str:
    text: str = yaml.dump(
        value, Dumper=_OneLine, default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True
    )
    return text.strip().removesuffix("...").strip()


def _wrapped(mapping: Mapping[str, Any], indent: int) -> str:
    """A flow mapping over several lines."""
    pairs = [f"{_flow({name: value})[1:-1]}" for name, value in mapping.items()]
    lines, line = [], ""
    for pair in pairs:
        if line and indent + len(line) + len(pair) > WIDTH:
            lines.append(line)
            line = ""
        line += f"{pair}, "
    lines.append(line.rstrip(", "))
    space = " " * indent
    return f"{space}{{" + f"\n{space} ".join(text.rstrip() for text in lines) + "}"


def _quoted(text: str) -> str:
    return _flow(text)


def _one_line(text: str) -> str:
    """For a comment: data must not end it."""
    return ENDS_A_LINE.sub(" ", text)
