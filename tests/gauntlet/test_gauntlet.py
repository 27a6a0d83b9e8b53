"""The short gauntlet: one stretch of the year, and a fault or two for each stage and kind of check that stops one.

What it finds is a stage that no longer stops what it is there to stop, or that stops a clean run. Critical faults that
the same check stops at the same place as another one here are in the whole gauntlet alone, as are the rates:
`make gauntlet`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gauntlet.faults import FAULTS
from benchmarks.gauntlet.page import is_caught
from benchmarks.gauntlet.run import read
from pipelines.problem import ROOT
from tests.mlflow_database import mlflow_in

# By what stops each of them; those that need no more than a gate are all here.
STOPPED_AT = {
    "extract": ["a column renamed"],
    "a rule": ["labels known before the event", "temperature in Celsius"],
    "a shape": ["labels flipped in the new weeks", "all weather frozen", "an old delivery with new dates"],
    "check: labels as published": ["labels flipped in the test rows"],
    "check: single features": ["the label as a feature"],
    "check: features as defined": ["the future in a history feature"],
    "check: availability": ["time in the air as a feature"],
    "gate: what was learnt": ["arrival time as a feature", "learnt from 2 % of the rows", "scores inverted"],
    "gate: its evidence and settings": [fault.name for fault in FAULTS.values() if fault.state == "evaluated"],
}


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_no_fault_comes_through_and_nothing_else_is_stopped(tmp_path: Path) -> None:
    names = [name for stopped in STOPPED_AT.values() for name in stopped]
    (tmp_path / "sources").mkdir()
    mlflow_in(tmp_path / "sources")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.gauntlet",
        "--quick",
        "--seeds",
        "1",
        "--workers",
        "1",
        "--keep",
        str(tmp_path),
        "--faults",
        ",".join(names),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1190, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = read(tmp_path / "results.jsonl")
    faults = [row for row in rows if row["kind"] == "fault"]
    assert {row["name"] for row in faults} == {*names}
    missed = {row["name"]: row["reason"] for row in faults if not is_caught(row)}
    assert not missed, "python -m benchmarks.gauntlet --seeds 1 --faults ... shows more"
    assert [row["reason"] for row in rows if row["kind"] == "clean" and row["stage"]] == []
