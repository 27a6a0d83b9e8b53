"""Benchmarks that stand on the problems and stages of today run, on few rows; what they measure is for docs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from benchmarks.loop.page import page
from benchmarks.loop.peers import compare
from benchmarks.loop.records import Alone, Cost, Measured, Peer, Services, Stage, Week
from pipelines.problem import ROOT

if TYPE_CHECKING:
    import pandas as pd


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ("scoring 2000", "ratio"),
        ("overhead 3000", "the same trees"),
        ("etl 20000", "same rows, same features"),
    ],
)
def test_a_benchmark_runs_to_its_end(arguments: str, printed: str) -> None:
    command = [sys.executable, "-m", *f"benchmarks.{arguments}".split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout


HELPERS = {"chaos.proxy", "other_host", "loop.peers.measure"}  # processes that benchmarks start


def test_every_benchmark_says_what_it_does_and_takes() -> None:
    folder = ROOT / "benchmarks"
    files = [path for path in folder.rglob("*.py") if 'if __name__ == "__main__"' in path.read_text()]
    modules = {".".join(path.relative_to(folder).with_suffix("").parts) for path in files}
    program = """
import contextlib, io, runpy, sys
for name in sys.argv[1:]:
    sys.argv, said, code = [name, "--help"], io.StringIO(), None
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    assert code == 0 and "usage:" in said.getvalue(), f"{name} --help: {code}"
"""
    assert len(modules) > 30 and modules > HELPERS
    command = [sys.executable, "-W", "ignore", "-c", program, *sorted(modules - HELPERS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200, check=False)
    assert done.returncode == 0, done.stderr


def test_ways_are_reported_without_the_one_they_are_held_against() -> None:
    from benchmarks import engines

    one = engines.Measured(2.0, 300.0, 100.0, 4.0, 1, "hash", 0.5, np.zeros(2))
    assert "2.0 CPU s, peak   300 MB, who watches 100 MB, 4 s" in engines.report(9, {"processes": one}, [])
    assert "(1.00 of bare's CPU, 100% of its peak)" in engines.report(9, {"bare": one, "processes": one}, [])


def frame(days: int) -> pd.DataFrame:
    """Two airlines, ten flights a day; every second of AA's is late, none of UA's."""
    import pandas as pd

    rows = [
        {
            "day_date": pd.Timestamp("2013-01-01") + pd.Timedelta(days=day),
            "carrier": carrier,
            "flight": flight,
            "origin": "JFK",
            "dest": "LAX",
            "sched_dep_time": 900,
            "dep_hour": 9.0,
            "distance": 2475,
            "temp": 40.0,
            "dewp": 30.0,
            "plane_age": 3.0,
            "label": float(carrier == "AA" and flight % 2),
        }
        for day in range(days)
        for carrier in ("AA", "UA")
        for flight in range(5)
    ]
    return pd.DataFrame(rows)


def test_the_plain_script_refuses_rows_that_break_its_rules() -> None:
    import pandas as pd

    from benchmarks.loop import script

    rows = frame(2)
    script.check(rows)
    with pytest.raises(ValueError, match=r"rules are broken: keys are unique$"):
        script.check(pd.concat([rows, rows.head(1)]))
    with pytest.raises(ValueError, match="distance lies in"):
        script.check(rows.assign(distance=7))


def test_the_plain_scripts_rates_know_only_labels_that_were_there() -> None:
    import pandas as pd

    from benchmarks.loop import script

    rows = frame(20)
    known = script.with_rates(rows).set_index(["day_date", "carrier", "flight"])
    newest = known.loc[pd.Timestamp("2013-01-20")]
    assert newest.loc["AA", "carrier_rate"].unique() == pytest.approx([0.4])
    assert newest.loc["UA", "carrier_rate"].unique() == pytest.approx([0.0])
    assert known.loc[pd.Timestamp("2013-01-08"), "carrier_rate"].isna().all()
    is_unknown = rows["day_date"] > pd.Timestamp("2013-01-12")
    other = script.with_rates(rows.assign(label=rows["label"].where(~is_unknown, 1.0)))
    pd.testing.assert_frame_equal(
        other.set_index(["day_date", "carrier", "flight"]).loc[[pd.Timestamp("2013-01-20")], list(script.RATES)],
        known.loc[[pd.Timestamp("2013-01-20")], list(script.RATES)],
    )


def stage(week: str, name: str, cpu: float) -> Stage:
    return Stage(week=week, name=name, cost=Cost(wall=2 * cpu, cpu=cpu))


def test_a_stage_is_told_by_the_weeks_after_the_one_that_imports() -> None:
    stages = [stage(week, "monitor.detect", cpu) for week, cpu in (("a", 9.0), ("b", 1.0), ("c", 2.0), ("d", 3.0))]
    assert compare.median(stages, "monitor.detect") == Cost(wall=4.0, cpu=2.0)
    assert compare.median(stages[:1], "monitor.detect") == Cost(wall=18.0, cpu=9.0)


def test_a_tool_that_cannot_be_installed_has_a_row_that_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stages = [stage("a", candidate.stage, 1.0) for candidate in compare.CANDIDATES]
    monkeypatch.setattr(compare, "uv", lambda: "")
    peers = compare.compare(tmp_path, stages)
    assert [peer.name for peer in peers] == [candidate.name for candidate in compare.CANDIDATES]
    assert {peer.failure for peer in peers} == {"not run: there is no uv to install it with"}
    text = page(measured(stages, peers))
    for peer in peers:
        assert f"| {peer.name} |  | | | | {peer.failure} | `{peer.stage}` | 2.0 | 1.0 |" in text


def measured(stages: list[Stage], peers: list[Peer]) -> Measured:
    """A run of one week."""
    cost = Cost(wall=40.0, cpu=30.0)
    week = Week(key="2013-04-01", cost=cost, services={"tasks": 22.0, "mlflow": 8.0}, peak_mib=1500.0)
    services = Services(
        first_start=cost,
        second_start=cost,
        weeks=[week],
        script=[week],
        rest_mib={"mlflow": 200.0, "object_store": 50.0},
        rest_cores={"mlflow": 0.01, "object_store": 0.002},
    )
    return Measured(
        machine="2 cores",
        load=1.0,
        day="2026-11-29",
        command="python -m benchmarks.loop",
        rows=6592,
        services=services,
        alone=Alone(weeks=[week], stages=stages),
        peers=peers,
    )


def test_the_page_shows_a_run_that_went_through_json() -> None:
    stages = [stage("2013-04-01", name, 1.0) for name in ("ingest.extract", "monitor.detect")]
    work = Cost(wall=3.0, cpu=2.5)
    peer = Peer(
        name="Evidently", version="0.7", stage="monitor.detect", ours=work, work=work, imports=work, found="2 drifted"
    )
    run = measured(stages, [peer])
    text = page(Measured.model_validate_json(run.model_dump_json()))
    for line in (
        "| at rest, memory of all services (PSS) | 250 MiB |",
        "| at rest, CPU of all services | 0.012 of a core |",
        "| 2013-04-01 | 40.0 s, 30.0 CPU s | 1,500 MiB | 40.0 s, 30.0 CPU s | 40.0 s, 30.0 CPU s |",
        "| tasks | 22.0 | 0.000 | 0 |",
        "| ingest.extract | 2.0 | 1.0 |",
        "| Evidently | 0.7 | 3.0 | 2.5 | 2.5 | 2 drifted | `monitor.detect` | 3.0 | 2.5 |",
    ):
        assert line in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "found"),
    [("evidently_drift", "1 of 2 columns drifted"), ("great_expectations_validate", "24 of 25 rules held")],
)
def test_a_tool_that_is_installed_here_answers(module: str, found: str, tmp_path: Path) -> None:
    import pandas as pd

    random = np.random.default_rng(1)
    rows = {
        "partition": ["1"] * 500 + ["2"] * 500,
        "event_time": [1] * 1000,
        "flight_id": [str(number) for number in range(1000)],
        "moved": np.concatenate([random.normal(0, 1, 500), random.normal(3, 1, 500)]),
        "same": np.tile(random.normal(0, 1, 500), 2),
    }
    pd.DataFrame(rows).to_parquet(tmp_path / "features.parquet")
    filled = {name: ["JFK"] * 1000 for name in great_expectations_columns()}
    ranges = {name: [float(low)] * 1000 for name, low in great_expectations_columns(numbers=True).items()}
    ranges["humid"] = [101.0] * 1000
    pd.DataFrame({**rows, **filled, **ranges}).to_parquet(tmp_path / "events.parquet")
    command = [sys.executable, "-W", "ignore", str(Path(compare.__file__).parent / "measure.py"), module, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.strip().split("\n")[-1])
    assert result["found"] == found
    assert result["work"]["cpu"] > 0
    assert result["imports"]["cpu"] > 0


def great_expectations_columns(numbers: bool = False) -> dict[str, int]:
    """Columns that the peer's rules name: texts, or numbers with the least that each may be."""
    raw = yaml.safe_load((ROOT / "include" / "problems" / "flight_delay" / "problem.yaml").read_text())["columns"]
    return {name: column.get("min", 0) for name, column in raw.items() if (column["type"] != "string") == numbers}
