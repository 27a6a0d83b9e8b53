"""python -m benchmarks.bad_files [--of GROUP,GROUP] [--only WORD] [--by ingest|read|new] [--keep FILE]"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.bad_files import avro, parquet, places, text
from benchmarks.bad_files.kinds import COLUMNS, Kind, csv_text, in_file
from benchmarks.bad_files.outcomes import GOOD, MOST_CPU_S, MOST_MB, Outcome
from benchmarks.bad_files.page import PAGE, page
from pipelines.artifacts import TableName
from pipelines.errors import EvergreenError

MOST_WALL_S = 600
NOBODY = 65_534
# What a good CSV needs none of.
NOT_IN_EACH = ("deltalake", "mmap", *(f"encodings.{name}" for name in ("utf_16", "utf_16_le", "utf_16_be", "latin_1")))


class Written(NamedTuple):
    """A kind of file that lies in a folder, with a problem that reads it."""

    name: str
    format: str
    folder: Path


Job = Callable[[Path], str]

MODULES = {"text": text, "avro": avro, "parquet": parquet, "places": places}


def every_kind(modules: Sequence[str] = tuple(MODULES)) -> Iterator[Kind]:
    for name in modules:
        yield from MODULES[name].kinds()


def problem_folder(kind: Kind, folder: Path) -> Path:
    """A problem whose source is the kind's file."""
    problem = folder / "problems" / "kettle"
    problem.mkdir(parents=True)
    data = folder / "data"
    data.mkdir(mode=0o777)
    kind.write(data)
    path = kind.source.get("path") or next((file.name for file in data.iterdir()), ".")
    source = {**kind.source, "path": str(data / path)}
    if kind.declares:
        source["columns"] = COLUMNS
    columns = {name: {"type": COLUMNS[name], "available": "cutoff"} for name in ("litres", "age")}
    settings = {
        "description": "Does the kettle boil over?",
        "owner": "kitchen",
        "key": "id",
        "partitions": {"every": "day", "first": "2024-01-01"},
        "sources": {"kettles": source},
        "columns": columns,
        "features": {"columns": ["litres", "age"]},
        "validation": {"max_quarantined_share": 1, "max_refused_share": 1, "allow_empty": True, "shape": None},
    }
    (problem / "problem.yaml").write_text(yaml.safe_dump(settings))
    (problem / "events.sql").write_text('SELECT id, "at" AS event_time, litres, age FROM kettles')
    (problem / "labels.sql").write_text(
        'SELECT id, "at" AS event_time, "at" AS known_time, is_hot AS label FROM kettles'
    )
    return problem


PARTITION = "2024-01-01"


def extracted(folder: Path) -> str:
    """The first stage of an ingest; raises AssertionError where a row that its source has is not accounted for."""
    result = _stage(folder, "extract", PARTITION, PARTITION)
    count = result.sources["kettles"]
    good = count["rows"] - count["rejected"]
    if result.read != 2 * good + count["rejected"]:  # an event and a label each: some are of other partitions
        given = [sum(by_partition.values()) for by_partition in _by_partition()]
        assert given == [good, good] and result.read < 2 * good + count["rejected"], (
            f"{count} became {result.read} rows"
        )
    return f"{result.read} rows"


def _by_partition() -> list[dict[str, int]]:
    """How many rows each query gives, of whatever time."""
    from pipelines.ingest.arrivals import counted
    from pipelines.ingest.sources import opened
    from pipelines.problem import load_problem

    problem = load_problem("kettle")
    with opened(problem, PARTITION, PARTITION) as sources:
        return [counted(problem, query, sources.database, PARTITION) for query in problem.queries]


def validated(folder: Path) -> str:
    result = _stage(folder, "validate", _handed_on(folder, "extract"))
    return f"{result.quarantined} set aside"


def published(folder: Path) -> str:
    """The last stage; raises AssertionError where the tables do not hold each row that was read."""
    from pipelines import store
    from pipelines.problem import load_problem

    result = _stage(folder, "publish", _handed_on(folder, "validate"))
    problem = load_problem("kettle")
    tables: tuple[TableName, ...] = ("events", "labels", "quarantine")
    held = {name: store.dataset(problem, name).count_rows() for name in tables}
    read = _handed_on(folder, "validate").read
    assert read == sum(held.values()) + result.held + result.outside, f"{read} rows were read, and {held} are there"
    return f"{held['events']} events, {held['quarantine'] + result.held} set aside, {result.outside} outside"


def _stage(folder: Path, name: str, *handed_on: Any) -> Any:
    from pipelines import local_run

    os.environ["EVERGREEN_PROBLEMS"] = str(folder / "problems")
    os.environ["EVERGREEN_STORE_URI"] = (folder / "store").as_uri()
    result = local_run.logged(f"ingest.{name}", "kettle", *handed_on)
    (folder / f"{name}.json").write_text(result.model_dump_json())
    return result


def _handed_on(folder: Path, name: str) -> Any:
    from pipelines.handoffs.ingestion import Extracted, Validated

    kind = Extracted if name == "extract" else Validated
    return kind.model_validate_json((folder / f"{name}.json").read_text())


def read_through(folder: Path) -> str:
    """Read the source to its end, as the first stage of an ingest does: raises where rows are lost."""
    from pipelines.ingest.extract import extract
    from pipelines.ingest.sources import opened
    from pipelines.problem import load_problem

    os.environ["EVERGREEN_PROBLEMS"] = str(folder / "problems")
    problem = load_problem("kettle")
    with opened(problem, "2024-01-01", "2024-01-01") as sources:
        for query in problem.queries:
            for _ in extract(problem, query, sources.database, "2024-01-01", "2024-01-01", sources.batch_rows):
                pass
        rejected, count = sources.rejected().read_all().num_rows, sources.counts["kettles"]
        (served,) = sources.database.sql("SELECT count(*) FROM kettles").fetchall()[0]
    assert (count.rows, count.rejected) == (served + rejected, rejected), "rows were lost"
    return f"{served} rows, {rejected} set aside"


def proposed(folder: Path) -> str:
    """What `evergreen new` says of the file."""
    from pipelines.propose.origin import origin
    from pipelines.propose.table import read

    source = yaml.safe_load((folder / "problems/kettle/problem.yaml").read_text())["sources"]["kettles"]
    problem = folder / "problems" / "proposed"
    with read(origin(source["path"], None, problem), problem) as rows:
        return f"{rows.count} rows of {len(rows.columns)} columns"


def written(modules: Sequence[str], only: str, base: Path, done: Collection[str]) -> Iterator[Written]:
    """The kinds, one after the other. Another process writes them: this one stays small."""
    wanted, names = multiprocessing.Pipe()
    writer = multiprocessing.get_context("fork").Process(target=_write, args=(modules, only, base, done, names))
    writer.start()
    names.close()
    try:
        while (named := wanted.recv()) is not None:
            yield Written(named[0], named[1], base / "kind")
            _remove(base / "kind")
            wanted.send(None)
    finally:
        writer.kill()
        writer.join()


def _write(modules: Sequence[str], only: str, base: Path, done: Collection[str], names: Any) -> None:
    for kind in every_kind(modules):
        if re.search(only, kind.name) and kind.name not in done:
            problem_folder(kind, base / "kind")
            names.send((kind.name, kind.format))
            names.recv()
    names.send(None)


def _remove(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


def measured(kind: Written, jobs: Sequence[Job], user: int | None = None) -> Outcome:
    """Run jobs on a kind of file one after the other, each in a process of its own, as far as they go well."""
    for path in (kind.folder, *kind.folder.rglob("*")):
        if user is not None and not path.is_symlink():
            os.chown(path, user, user)
    outcome = Outcome(kind.name, kind.format, "read", "", 0, 0)
    for job in jobs:
        outcome = outcome.then(_measured(kind, job, user))
        if outcome.verdict != "read":
            break
    verdict = outcome.verdict
    if outcome.mb > MOST_MB:
        verdict = f"large, {verdict}"
    if outcome.cpu_s > MOST_CPU_S:
        verdict = f"slow, {verdict}"
    return outcome._replace(verdict=verdict)


def _measured(kind: Written, job: Job, user: int | None) -> Outcome:
    answer = kind.folder / "answer.json"
    answer.write_text("")
    answer.chmod(0o666)
    child = os.fork()
    if child == 0:
        _child(job, kind.folder, answer, user)
    deadline = time.monotonic() + MOST_WALL_S
    ended = status = 0
    while not ended:
        if time.monotonic() > deadline or _resident_kb(child) > 4 * MOST_MB * 1024:
            os.kill(child, signal.SIGKILL)
        ended, status, used = os.wait4(child, os.WNOHANG)
        time.sleep(0.02)
    cpu_s, mb = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    content = answer.read_text()
    if status or not content:
        return Outcome(kind.name, kind.format, "crashed", f"{job.__name__}: status {status}", mb, cpu_s)
    said = json.loads(content)
    return Outcome(kind.name, kind.format, said["verdict"], said["detail"], mb - said["before_kb"] / 1024, cpu_s)


def _child(job: Job, folder: Path, answer: Path, user: int | None) -> None:
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    os.environ["TMPDIR"] = str(folder / "temporary")
    tempfile.tempdir = None
    (folder / "temporary").mkdir(exist_ok=True)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (4 * MOST_CPU_S, 4 * MOST_CPU_S))
    before_kb = _resident_kb(os.getpid())
    try:
        said = {"verdict": "read", "detail": job(folder)}
    except EvergreenError as error:
        said = _of_error(error, folder)
    except BaseException as error:
        last = traceback.format_exc(limit=-2).replace("\n", " | ")
        said = {"verdict": "traceback", "detail": f"{type(error).__name__}: {str(error)[:300]} {last[-300:]}"}
    answer.write_text(json.dumps(said | {"before_kb": before_kb}))
    os._exit(0)


def _of_error(error: EvergreenError, folder: Path) -> dict[str, str]:
    text_of = str(error)
    is_named = str(folder / "data") in text_of or error.where.endswith((".sql", ".sql, sources.kettles"))
    verdict = "refused" if is_named and error.cure else "without a name"
    if len(text_of) > 5_000:
        verdict = "a message without end"
    return {"verdict": verdict, "detail": text_of[:400]}


def _resident_kb(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() // 1024


JOBS: dict[str, Sequence[Job]] = {
    "ingest": (extracted, validated, published),
    "read": (read_through,),
    "new": (proposed,),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bad_files")
    parser.add_argument("--only", default="", help="regular expression of kinds' names")
    parser.add_argument("--of", default=",".join(MODULES), help="groups of kinds, by commas")
    parser.add_argument("--by", choices=JOBS, default="ingest", help="read: its first stage; new: as `evergreen new`")
    parser.add_argument("--keep", type=Path, help="write the outcomes there, as JSON Lines, and leave out those there")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help=f"write {PAGE.name} of the outcomes kept there")
    chosen = parser.parse_args(arguments)
    if chosen.write:
        PAGE.write_text(page({by: outcomes_in(chosen.write / f"{by}.jsonl") for by in ("ingest", "new")}))
        return
    outcomes = outcomes_in(chosen.keep) if chosen.keep else []
    done = {outcome.name for outcome in outcomes}
    jobs, user = JOBS[chosen.by], NOBODY if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="evergreen-bad-") as name:
        Path(name).chmod(0o755)
        preload(jobs, Path(name))
        for kind in written(chosen.of.split(","), chosen.only, Path(name), done):
            outcome = measured(kind, jobs, user)
            outcomes.append(outcome)
            shown = outcome.detail.replace("\n", " | ").replace("\x1b", "\\e").replace(name, "")
            print(
                f"{outcome.verdict}\t{kind.name}\t{outcome.mb:.0f} MB\t{outcome.cpu_s:.1f} s\t{shown[:260]}", flush=True
            )
            if chosen.keep:
                with chosen.keep.open("a") as kept:
                    kept.write(json.dumps(outcome._asdict()) + "\n")
    print(dict(Counter(outcome.verdict for outcome in outcomes)))
    if outcomes:
        print("most memory:", max(outcomes, key=lambda outcome: outcome.mb))
        print("most CPU:", max(outcomes, key=lambda outcome: outcome.cpu_s))
    if not outcomes or any(outcome.verdict not in GOOD for outcome in outcomes):
        sys.exit(1)


def outcomes_in(kept: Path) -> list[Outcome]:
    """What earlier runs have kept."""
    return [Outcome(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []


def preload(jobs: Sequence[Job], base: Path) -> None:
    """Import what jobs need to their end, as it is told by a process that did them with a good file.

    So each process starts with it, and what it takes beyond that is due to its file. Whoever they run as may not be
    able to read where the modules lie.
    """
    folder = base / "good"
    problem_folder(Kind("good", in_file("k.csv", csv_text().encode())), folder)
    listing = folder / "modules.json"
    child = os.fork()
    if child == 0:
        for job in jobs:
            job(folder)
        listing.write_text(json.dumps([*sys.modules]))
        os._exit(0)
    os.waitpid(child, 0)
    for name in [*json.loads(listing.read_text()), *NOT_IN_EACH]:
        if name not in sys.modules:
            with contextlib.suppress(ImportError):  # a name that a package made up
                importlib.import_module(name)
    _remove(folder)


if __name__ == "__main__":
    main()
