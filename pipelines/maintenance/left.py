"""What runs have left in the store and nothing follows: staging, and pages that no decision was taken on."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines import ledger, store
from pipelines.artifacts import TABLES
from pipelines.maintenance.finding import Finding, Said
from pipelines.maintenance.vacuum import staging as staged
from pipelines.problem import Problem
from pipelines.problem_folders import problem_places
from pipelines.store.staging import DONE

QUIET_S = 120.0  # where it is known that no run is under way
SILENT_S = 6 * 3600.0  # elsewhere: a task that is at work writes more often than that
PAGES = ("monitoring.html", "drift.html")  # of a partition, which monitoring has decided about


def staging(problem: Problem, now: float, is_idle: bool) -> Iterator[Said]:
    """What runs have handed on between two tasks, and no run is there that would take it."""
    for uri, files in staged(problem).items():
        rows = [file for file in files if not file.uri.endswith(DONE)]
        age = now - max((file.modified for file in files), default=now)
        if rows and age > (QUIET_S if is_idle else SILENT_S):
            size, dag = sum(file.size for file in rows), uri.split("/staging/")[-1].partition("/")[0]
            what = f"{len(rows)} files, {size / 1e6:,.1f} MB, of a run of {dag} that has written nothing for "
            what += f"{age / 3600:,.1f} hours"
            cure = f"where a run of {problem.name}.{dag} failed in Airflow, clear it, and it goes on with this; where "
            cure += "none did, as of stages that evergreen run ran one by one, nothing wants it: once it is a day old, "
            cure += f"evergreen vacuum {problem.name} --older-than 1"
            yield Finding("staging left over", uri, what, cure)


def orphans() -> Iterator[Said]:
    """Tables of no problem that there is: it was renamed or removed, or lies where nobody looks."""
    names = problem_places()
    for name in store.folders(store.store_uri()):
        if name in names or not TABLES.keys() & set(store.folders(store.store_uri(name))):
            continue
        cure = f"name its folder {name} again, or add its place to EVERGREEN_PROBLEMS; if it is gone for good, delete "
        cure += f"this folder of the store, and experiment and versions {name} in MLflow"
        yield Finding("tables of no problem", store.store_uri(name), f"there is no problem {name!r}", cure)


def reports(problem: Problem, now: float, is_idle: bool) -> Iterator[Said]:
    """Pages about partitions on which monitoring has decided nothing."""
    folder = store.store_uri(problem.name, "reports")
    judged = {row["partition"] for row in ledger.decisions(problem, "monitoring")}
    for file in store.listing(folder):
        key, _, page = file.uri.removeprefix(f"{folder}/").partition("/")
        is_young = now - file.modified < (QUIET_S if is_idle else SILENT_S)
        if page in PAGES and key not in judged and not is_young:
            what = f"there is a page about {key}, and the ledger has no decision of monitoring about it"
            cure = f"evergreen run monitor {problem.name} --partition {key}; or delete the page"
            yield Finding("report without ledger", file.uri, what, cure)
