"""Faults that are planted are found by their names, each with a cure; and where none is, nothing is said."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from pipelines import store, tracking
from pipelines.cli.app import app
from pipelines.embedded.object_store.attributes import METADATA
from pipelines.errors import AccessError, DataError, ServiceUnavailable
from pipelines.maintenance import home, left, services, tables
from pipelines.maintenance.doctor import examine
from pipelines.maintenance.finding import Finding, Said, Unchecked, examined
from pipelines.paths import manifest_uri, train_staging_uri, version_uri
from pipelines.problem import Problem, load_problem
from pipelines.release.versions import version_lineage
from pipelines.store.files import local
from pipelines.store.tables import opened
from pipelines.tracking.client import client
from tests.conftest import ROOT, ToyProblem
from tests.stages.conftest import HISTORY, WEEKS
from tests.stages.conftest import after as after
from tests.stages.conftest import loop_after as loop_after
from tests.store.kettles import statements

LATER = 2 * 86_400.0  # what is planted was written just now, and is to be two days old


def findings(*names: str, folder: Path = Path("/nowhere")) -> list[Finding]:
    said = examine(names, folder, time.time() + LATER, lambda what: None, is_quick=False)
    return [finding for _, finding in said if isinstance(finding, Finding)]


def rows_of(problem: Problem, table: str, key: str) -> pa.Table:
    return store.dataset(problem, table).to_table(filter=pc.field("partition") == key)  # type: ignore[arg-type]


def plant_records(problem: Problem) -> None:
    """One fault each in what tables, manifests and ledger say."""
    scored, later = WEEKS[0], WEEKS[2]
    manifest = store.read_json(manifest_uri(problem, scored))
    store.write_json(manifest_uri(problem, scored), manifest | {"rows": manifest["rows"] - 1})
    predicted = rows_of(problem, "predictions", scored)
    strange = {"model_version": "99", "partition": later}
    for name, value in strange.items():
        constant = pa.array([value] * predicted.num_rows, pa.string())
        predicted = predicted.set_column(predicted.schema.get_field_index(name), name, constant)
    store.write_table(problem, "predictions", predicted, [later])
    empty = store.dataset(problem, "events").schema.empty_table()
    store.write_table(problem, "events", empty, [HISTORY[0]])
    doubled = pa.concat_tables([rows_of(problem, "events", HISTORY[1]).slice(0, 1)] * 2)
    whole = pa.concat_tables([rows_of(problem, "events", HISTORY[1]).slice(1), doubled])
    store.write_table(problem, "events", whole, [HISTORY[1]])
    decision = store.dataset(problem, "ledger").to_table().slice(0, 1)
    opened(store.table_uri(problem, "ledger")).append(decision, ["kind"])
    lost = store.partition_files(problem, "labels", HISTORY[1])[0]
    local(lost).unlink()


def plant_models(problem: Problem) -> None:
    """One fault each in what the registry, the versions' files and the runs say."""
    client().delete_registered_model_alias(problem.name, "champion")
    client().set_registered_model_alias(problem.name, "challenger", "1")
    made_of = version_lineage(problem, "1")
    changed = made_of | {"model_sha256": "0" * 64}
    changed["splits"] = {**made_of["splits"], "test": made_of["splits"]["test"] | {"hash": "0" * 64}}
    store.write_json(version_uri(problem, "1", "lineage.json"), changed)
    store.write_json(version_uri(problem, "9", "lineage.json"), made_of | {"version": "9"})
    store.write_json(
        version_uri(problem, "9", "problem.json"), store.read_json(version_uri(problem, "1", "problem.json"))
    )
    store.delete(version_uri(problem, "1", "reference.json"))
    tracking.start_candidate(problem, "rule", {"training": "gone", "partition": HISTORY[1]})


def plant_leftovers(problem: Problem) -> None:
    store.write_bytes(f"{train_staging_uri(problem, 'gone')}/labelled/only.arrow", b"rows")
    store.write_bytes(store.store_uri(problem.name, "reports", WEEKS[0], "monitoring.html"), b"<p>")
    broken = problem.folder.parent / "broken"
    broken.mkdir()
    (broken / "problem.yaml").write_text("description: nothing but that\n")


PLANTED = {
    "manifest against table",
    "predictions of no version",
    "manifest missing",
    "partition without events",
    "row twice",
    "decision twice",
    "table file lost",
    "training data lost",
    "champion against ledger",
    "challenger against ledger",
    "model file changed",
    "training set changed",
    "version without files",
    "version not in MLflow",
    "run left running",
    "staging left over",
    "report without ledger",
    "problem broken",
}


@pytest.mark.slow
def test_each_planted_fault_is_found_by_its_name(
    loop_after: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.maintenance.models.LOOK_AGAIN_S", 0.0)
    problem = load_problem(loop_after(1))
    assert findings(problem.name) == [], "nothing is out of step"
    for plant in (plant_records, plant_models, plant_leftovers):
        plant(problem)
    found = findings(problem.name, "broken")
    assert {finding.name for finding in found} == PLANTED
    assert all(finding.where and finding.what and finding.cure for finding in found)
    by_name = {finding.name: finding for finding in found}
    assert by_name["partition without events"].cure == (
        f"evergreen run ingest {problem.name} --first {WEEKS[2]} --last {WEEKS[2]}"
    )
    assert f"score {problem.name} --partition {WEEKS[0]}" in by_name["manifest against table"].cure


def test_what_cannot_be_asked_is_said_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No service, a home that others can read, and a broken problem: as after a crash of the machine."""
    problems, folder = tmp_path / "problems", tmp_path / "home"
    (problems / "broken").mkdir(parents=True)
    (problems / "broken" / "problem.yaml").write_text("description: nothing but that\n")
    folder.mkdir(mode=0o700)
    (folder / "secrets.json").write_text("{}")
    (folder / "secrets.json").chmod(0o644)
    for name in services.PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("EVERGREEN_PROBLEMS", f"{problems}:{tmp_path / 'gone'}")
    monkeypatch.setenv("EVERGREEN_HOME", str(folder))
    said = list(examine(["broken"], folder, time.time(), lambda what: None, is_quick=False))
    names = {(problem, finding.name) for problem, finding in said if isinstance(finding, Finding)}
    assert {
        ("", "open to others"),
        ("", "service down"),
        ("broken", "problem broken"),
        ("", "place without problems"),
    } <= names
    unchecked = [part.what for _, part in said if isinstance(part, Unchecked)]
    assert unchecked == ["object store: nothing says where it is"]
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1 and '"name": "open to others"' in result.output
    assert "not looked at" in CliRunner().invoke(app, ["doctor"]).output


def test_a_table_that_cannot_be_read_hides_no_other(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy()
    for table in ("labels", "shadow_predictions"):
        rows = statements("2024-01-01", 2)
        opened(store.store_uri(problem.name, table)).append(rows, ["partition"])
    (store_folder / "kettle" / "labels" / "_delta_log" / f"{0:020}.json").write_text("no JSON")
    for path in (store_folder / "kettle" / "shadow_predictions").glob("partition=*/*.parquet"):
        path.write_bytes(path.read_bytes()[:-1])
    found = {Path(finding.where).name: finding for finding in tables.files(problem) if isinstance(finding, Finding)}
    names = {table: finding.name for table, finding in found.items()}
    assert names == {"labels": "unreadable", "shadow_predictions": "table file lost"}


def test_tables_of_a_problem_that_was_renamed_are_named(
    toy: ToyProblem, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy()
    (problem.folder / "problem.yaml").touch()
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(problem.folder.parent))
    for name in (problem.name, "pot"):
        opened(store.store_uri(name, "labels")).append(statements("2024-01-01", 2), ["partition"])
    (store_folder / "mlflow" / "1").mkdir(parents=True)
    (finding,) = left.orphans()
    assert isinstance(finding, Finding) and finding.name == "tables of no problem"
    assert finding.where == store.store_uri("pot") and "name its folder pot again" in finding.cure


def test_what_the_home_lacks(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert list(home.modes(tmp_path)) == list(home.secrets(tmp_path)) == list(home.attributes(tmp_path)) == []
    tmp_path.chmod(0o755)
    (finding,) = home.modes(tmp_path)
    assert finding.name == "open to others" and finding.cure == f"chmod 700 {tmp_path}"
    data = tmp_path / "object_store" / "devices" / "d1" / "objects" / "1" / "abc" / "hash" / "1.data"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"rows")
    (lost,) = home.secrets(tmp_path)
    assert isinstance(lost, Finding) and lost.name == "secrets lost" and "store_path_salt" in lost.what
    (bare,) = home.attributes(tmp_path)
    assert isinstance(bare, Finding) and bare.name == "attributes lost" and "cp -a" in bare.cure
    os.setxattr(data, METADATA, b"{}")
    assert list(home.attributes(tmp_path)) == []


def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "MIN_FREE_BYTES", 2**60)
    (finding,) = home.disk(tmp_path)
    assert isinstance(finding, Finding) and finding.name == "disk nearly full" and "vacuum" in finding.cure


def answer(name: str, response: httpx.Response | None, asked: float = 0.0) -> services.Answer:
    service = services.Service(name, "X", True, "http://127.0.0.1:9", "/health", "mlflow", False)
    return services.Answer(service, response, asked)


def test_clocks_and_components() -> None:
    date = {"date": "Thu, 01 Jan 1970 01:00:00 GMT"}
    (skew,) = services.clocks([answer("MLflow", httpx.Response(200, headers=date))])
    assert isinstance(skew, Finding) and skew.name == "clock skew" and "3,600 s ahead" in skew.what
    assert list(services.clocks([answer("MLflow", httpx.Response(200, headers=date), 3590.0)])) == []
    health = {
        "scheduler": {"status": "unhealthy"},
        "triggerer": {"status": None},
        "dag_processor": {"status": "healthy"},
    }
    (down,) = services.components([answer(services.AIRFLOW, httpx.Response(200, json=health))])
    assert isinstance(down, Finding) and "scheduler is unhealthy" in down.what


def test_every_finding_stands_in_the_documentation() -> None:
    folder = ROOT / "pipelines" / "maintenance"
    names = {name for path in folder.glob("*.py") for name in re.findall(r'Finding\("([^"]+)"', path.read_text())}
    assert len(names) > 20 and names >= PLANTED
    page = (ROOT / "docs" / "howto" / "maintain.md").read_text()
    assert {name for name in names if f"| {name} |" not in page} == set()


def test_versions_that_are_not_those_of_the_lock() -> None:
    lock: dict[str, list[dict[str, object]]] = {
        "package": [
            {"name": "evergreen", "source": {"editable": "."}, "dependencies": [{"name": "httpx"}, {"name": "rich"}]},
            {"name": "httpx", "version": httpx.__version__},
            {"name": "rich", "version": "0.0.1"},
        ]
    }
    (wrong,) = services._unlocked(lock)
    assert wrong.startswith("rich ") and wrong.endswith(", not 0.0.1")
    assert list(services.versions(Path("/nowhere"))) == [], "here they are"


@pytest.mark.parametrize(
    ("error", "kind", "name"),
    [
        (ServiceUnavailable("no answer", cure="later"), Unchecked, None),
        (AccessError("refused"), Finding, "credentials refused"),
        (DataError("gone", where="there"), Finding, "unreadable"),
        (ValueError("no JSON"), Finding, "unreadable"),
    ],
)
def test_a_check_that_fails_says_so_and_stops_no_other(error: Exception, kind: type, name: str | None) -> None:
    def check() -> Iterator[Said]:
        raise error
        yield

    (said,) = examined(check, "here")
    assert isinstance(said, kind) and getattr(said, "name", None) == name
