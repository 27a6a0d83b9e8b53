"""The alert rules ask for metrics and labels that there are, and each is played by promtool's tests."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from pipelines.health.exposition import FAMILIES
from pipelines.problem import ROOT

RULES = ROOT / "include" / "prometheus" / "alerts.yaml"
PLAYED = Path(__file__).with_name("alerts_promtool.yaml")
# What a family is told by, beside the problem.
LABELS = {
    "evergreen_table_end_timestamp_seconds": {"table"},
    "evergreen_source_newest_timestamp_seconds": {"source"},
    "evergreen_source_arrived_timestamp_seconds": {"source"},
    "evergreen_source_behind": {"source"},
    "evergreen_metric_realised": {"metric"},
    "evergreen_metric_gate": {"metric"},
    "evergreen_metric_beyond_gate": {"metric"},
    "evergreen_last_verdict": {"verdict", "action"},
    "evergreen_champion_info": {"version", "how"},
    "evergreen_dag_runs": {"state"},
    "evergreen_task_cpu_seconds": {"stage"},
    "evergreen_task_wall_seconds": {"stage"},
    "evergreen_task_peak_memory_bytes": {"stage"},
    "evergreen_task_ended_timestamp_seconds": {"stage"},
    "evergreen_task_tries": {"stage", "outcome"},
    "evergreen_partition_cost": {"currency"},
}
WITHOUT_PROBLEM = {"evergreen_store_up"}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def test_rules_ask_for_what_there_is() -> None:
    assert len(rules()) >= 10
    for rule in rules():
        families = re.findall(r"evergreen_\w+", rule["expr"])
        assert families and set(families) <= set(FAMILIES), rule["alert"]
        known = {label for family in families for label in LABELS.get(family, set())}
        known |= set() if WITHOUT_PROBLEM & set(families) else {"problem"}
        selected = re.findall(r"(\w+)\s*(?:!=|=~|!~|=)\s*\"", rule["expr"])
        assert set(selected) <= known, rule["alert"]
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= known, rule["alert"]


def test_rules_have_what_whoever_is_woken_needs() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))


def test_each_rule_is_set_off_in_a_test_and_stays_quiet_in_another() -> None:
    played = yaml.safe_load(PLAYED.read_text())["tests"]
    checks = [check for test in played for check in test["alert_rule_test"]]
    for name in (rule["alert"] for rule in rules()):
        expected = [bool(check.get("exp_alerts")) for check in checks if check["alertname"] == name]
        assert set(expected) == {True, False}, name


def test_promtool_agrees_where_it_is() -> None:
    promtool = shutil.which("promtool")
    commands = [["check", "rules", str(RULES)], ["test", "rules", str(PLAYED)]] if promtool else []
    for command in commands:
        done = subprocess.run([str(promtool), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    (path,) = yaml.safe_load(PLAYED.read_text())["rule_files"]
    assert (PLAYED.parent / path).resolve() == RULES
