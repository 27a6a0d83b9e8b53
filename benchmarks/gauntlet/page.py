"""What the gauntlet found, as text and as docs/gauntlet.md."""

from __future__ import annotations

from typing import Any


def summary(rows: list[dict[str, Any]]) -> str:
    faults = [row for row in rows if row["kind"] == "fault"]
    lines = []
    for row in faults:
        caught = bool(row["stage"]) and not row["is_crash"]
        if not caught:
            lines.append(f"MISSED seed {row['seed']} {row['name']}: {row['stage']} {row['by']} {row['reason'][:200]}")
    caught = sum(bool(row["stage"]) and not row["is_crash"] for row in faults)
    lines.append(f"{caught} of {len(faults)} caught")
    clean = [row for row in rows if row["kind"] == "clean"]
    for row in clean:
        if row["stage"]:
            lines.append(f"ALARM seed {row['seed']} start {row['start']} {row['name']}: {row['stage']} {row['by']} {row['reason'][:300]}")
    lines.append(f"{sum(bool(row['stage']) for row in clean)} alarms in {len(clean)} clean runs")
    return "\n".join(lines)


def page(rows: list[dict[str, Any]]) -> str:
    return summary(rows)
