"""A problem's versions: whether registry, store, ledger and predictions know the same ones, with the same files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipelines import ledger, store, tracking
from pipelines.dataset import training_sets
from pipelines.dataset.fingerprint import fingerprint
from pipelines.dataset.label import SPLITS
from pipelines.errors import DataError
from pipelines.handoffs.training import training_set_of
from pipelines.maintenance.finding import Finding, Said
from pipelines.maintenance.pins import lineages
from pipelines.maintenance.tables import RESTORE, scored_versions
from pipelines.paths import version_uri
from pipelines.problem import Problem
from pipelines.release import ladder
from pipelines.release.versions import registered_sha256, version_problem

if TYPE_CHECKING:
    from pipelines.documents.lineage import VersionLineage

FILES = ("problem.json", "reference.json", "lineage.json")  # without which a version does not score
UNDER_WAY_S = 3600.0  # in which a training registers a version, writes its files and promotes it
LEFT_RUNNING_S = 86_400.0
LOOK_AGAIN_S = 2.0


def aliases(problem: Problem, now: float, is_idle: bool) -> Iterator[Said]:
    """Whether the registry's aliases are those that the ledger's decisions have come to."""
    if list(_aliases(problem, now, is_idle)):
        time.sleep(LOOK_AGAIN_S)  # the registry is told first, and then the ledger, or the other way round
        yield from _aliases(problem, now, is_idle)


def _aliases(problem: Problem, now: float, is_idle: bool) -> Iterator[Said]:
    named, promotions = tracking.aliases(problem), ledger.decisions(problem, "promotion")
    where = f"registered model {problem.name} in MLflow"
    champion = named.get("champion")
    serves = str(promotions[-1]["model_version"]) if promotions else None
    if champion != serves:
        says = f"version {champion} has the alias" if champion else "no version has the alias"
        decided = f"version {serves} serves ({promotions[-1]['action']})" if promotions else "nothing has ever served"
        what = f"{says} champion, and by the ledger {decided}"
        yield Finding("champion against ledger", where, what, _set_alias(problem, "champion", serves))
    current = ladder.read(problem).current
    challenger = named.get("challenger")
    if current is not None and challenger != current.challenger:
        says = f"version {challenger} has the alias" if challenger else "no version has the alias"
        what = f"{says} challenger, and by the ledger version {current.challenger} is under release {current.name}"
        yield Finding("challenger against ledger", where, what, _set_alias(problem, "challenger", current.challenger))
    elif current is None and challenger is not None and not _is_entering(problem, challenger, now, is_idle):
        what = f"version {challenger} has the alias challenger, and by the ledger no release is under way"
        cure = f"clear the task promote of {problem.name}.train in Airflow, or take the alias from it: "
        cure += f"in MLflow's UI, Models, {problem.name}, version {challenger}, Aliases"
        yield Finding("challenger against ledger", where, what, cure)


def versions(problem: Problem, now: float, is_idle: bool) -> Iterator[Said]:
    """Whether each version of the registry has its files in the store, and the other way round."""
    registered = {version.number: version for version in _known(problem)}
    kept = lineages(problem)
    for number, version in registered.items():
        if number not in kept and _is_entering(problem, number, now, is_idle):
            continue
        lacking = [name for name in FILES if not store.exists(version_uri(problem, number, name))]
        uri = store.store_uri(problem.name, "models", number)
        if lacking:
            what = f"version {number} is registered, and the store has no {', '.join(lacking)} of it: it cannot score"
            cure = f"{RESTORE}, or let another serve: evergreen fall-back {problem.name} --reason '...'"
            yield Finding("version without files", uri, what, cure)
        elif number in kept and kept[number]["run_id"] != version.run_id:
            what = f"version {number} is of MLflow run {version.run_id}, and by its lineage of {kept[number]['run_id']}"
            cure = f"find out who wrote either; evergreen roll-back {problem.name} --reason '...' if it serves"
            yield Finding("version of another run", uri, what, cure)
    named = {row["model_version"] for row in ledger.decisions(problem, "promotion")} | set(kept)
    for number in sorted(str(number) for number in named if number is not None and number not in registered):
        what = f"the ledger or the store names version {number}, and MLflow has no such version of {problem.name}"
        cure = f"{RESTORE}, of the same moment as the store; or train a new one: evergreen run train {problem.name}"
        yield Finding("version not in MLflow", store.store_uri(problem.name, "models", number), what, cure)


def predictions(problem: Problem) -> Iterator[Said]:
    """Whether the versions exist that have given the predictions."""
    existing = {version.number for version in _known(problem)} | set(lineages(problem))
    for version, keys in scored_versions(problem).items():
        if version not in existing:
            first = f"evergreen run score {problem.name} --partition {keys[0]}"
            some = f"{keys[0]} to {keys[-1]} ({len(keys)})" if len(keys) > 1 else keys[0]
            what = f"predictions of {some} are of version {version}, and there is no such version"
            yield Finding("predictions of no version", store.table_uri(problem, "predictions"), what, first)


def model_files(problem: Problem) -> Iterator[Said]:
    """Whether the files of the versions' models are those that were registered."""
    for number, made_of in lineages(problem).items():
        for run_id in (made_of["run_id"], *made_of.get("beside_sha256", {})):
            registered = registered_sha256(made_of, run_id)
            if registered is None:
                continue
            where, is_own = f"runs:/{run_id}/model", run_id == made_of["run_id"]
            which = f"the model of version {number}" if is_own else f"a model beside version {number}"
            cure = f"find out who wrote it; {RESTORE}"
            if is_own:
                cure += f"; if it serves: evergreen roll-back {problem.name} --reason '...'"
            try:
                sha256 = tracking.model_sha256(run_id)
            except DataError as error:
                yield Finding("model file lost", where, f"{which} is gone: {error.what}", cure)
                continue
            if sha256 != registered:
                what = f"{which} is another file than was registered: SHA-256 {sha256[:12]}, not {registered[:12]}"
                yield Finding("model file changed", where, what, cure)


def training_data(problem: Problem) -> Iterator[Said]:
    """Whether the training sets hold the rows that the versions were made of."""
    for number, made_of in lineages(problem).items():
        try:
            changed = _changed_splits(version_problem(problem, number), made_of)
        except DataError as error:
            yield Finding("training set lost", error.where, f"of version {number}: {error.what}", error.cure)
            continue
        if changed:
            what = f"the rows of {', '.join(changed)} are not those that version {number} was made of: other SHA-256"
            cure = f"see what differs: evergreen reproduce {problem.name}@{number}; {RESTORE}"
            yield Finding("training set changed", store.table_uri(problem, "training_sets"), what, cure)


def runs(problem: Problem, now: float) -> Iterator[Said]:
    """Whether a run goes on in MLflow that nobody works on any more."""
    for run in tracking.training_runs(problem):
        if run.status == "RUNNING" and now - run.started > LEFT_RUNNING_S:
            hours = (now - run.started) / 3600
            what = f"{run.name} has been running for {hours:,.0f} hours"
            cure = (
                f"clear its task train in Airflow, which takes it up; or evergreen vacuum {problem.name} --older-than 1"
            )
            yield Finding("run left running", f"MLflow run {run.run_id}", what, cure)


def _changed_splits(trained_problem: Problem, made_of: VersionLineage) -> list[str]:
    pins, changed = training_set_of(made_of), []
    for split in SPLITS:
        recorded = made_of["splits"].get(split, {}).get("hash")
        if recorded is None:
            continue
        _, batches = training_sets.stream(trained_problem, pins, split)
        if fingerprint(trained_problem, batches)["hash"] != recorded:
            changed.append(split)
    return changed


def _known(problem: Problem) -> list[tracking.Registered]:
    return tracking.versions(problem)


def _is_entering(problem: Problem, number: str, now: float, is_idle: bool) -> bool:
    """Whether a training may still be at work on a version that it has registered."""
    young = (version for version in _known(problem) if now - version.created < UNDER_WAY_S)
    return not is_idle and any(version.number == number for version in young)


def _set_alias(problem: Problem, alias: str, version: str | None) -> str:
    if version is None:
        return f"in MLflow's UI, Models, {problem.name}: take the alias {alias} away, then evergreen run train"
    return f"in MLflow's UI, Models, {problem.name}, version {version}, Aliases: add {alias}"
