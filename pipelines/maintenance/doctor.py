"""doctor: all that ought to agree, held against each other: the home, the services, and of each problem its records.

Nothing is written, but what this machine has noted of tries that ended: of killed ones too, which say nothing of
themselves. What needs a service that is down is left out, and said to be.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipelines.errors import EvergreenError
from pipelines.maintenance import home as folder
from pipelines.maintenance import left, models, services, tables
from pipelines.maintenance.finding import Check, Finding, Said, Unchecked, examined
from pipelines.problem import Problem, load_problem
from pipelines.problem_folders import place_faults

Tell = Callable[[str], None]


class Reach(NamedTuple):
    """Which services can be asked, and whether nothing is at work."""

    store: bool
    tracking: bool
    active: set[str] | None
    """DAGs with a run that is under way; None: nobody knows."""


def examine(names: Sequence[str], home: Path, now: float, tell: Tell, *, is_quick: bool) -> Iterator[tuple[str, Said]]:
    """What is out of step, and what could not be looked at: each with its problem's name, or none.

    Args:
        names: problems.
        home: folder of the embedded services; it need not be there.
        now: Unix seconds.
        tell: told what is looked at.
        is_quick: read no training rows and no models.
    """
    for fault in place_faults():
        yield "", Finding("place without problems", fault.where, fault.what, fault.cure)
    reach = yield from _surroundings(home, now, tell)
    if reach.store:
        yield from _of_all(left.orphans, services.STORE)
    for name in names:
        try:
            problem = load_problem(name)
        except EvergreenError as error:
            yield name, Finding("problem broken", error.where, error.what, error.cure)
            continue
        for said in _records(problem, reach, now, tell, is_quick):
            yield name, said


def _surroundings(home: Path, now: float, tell: Tell) -> Generator[tuple[str, Said], None, Reach]:
    tell("home and services")
    if home.exists():
        for of_home in (folder.modes, folder.secrets, folder.attributes, folder.disk):
            yield from _of_all(partial(of_home, home), str(home))
    yield from _of_all(partial(services.versions, home), "uv.lock")
    named = services.services(home)
    for service in named:
        if not service.is_named and service.name != services.AIRFLOW:  # stages run without it, too
            cure = f"start the embedded services with `evergreen up`, or set {service.variable}"
            yield "", Unchecked("environment", f"{service.name}: nothing says where it is", cure)
    answers = [services.ask(service, now) for service in named if service.url]
    yield from _of_all(partial(services.running, home, answers), str(home))
    yield from _of_all(partial(services.components, answers), str(home))
    yield from _of_all(partial(services.clocks, answers), str(home))
    silent = {answer.service.name for answer in answers if answer.response is None}
    has = {service.name: service.is_named and service.name not in silent for service in named}
    for name, check in {services.STORE: services.store_login, services.TRACKING: services.tracking_login}.items():
        refusals = list(examined(check, name)) if has[name] else []
        has[name] = has[name] and not refusals
        yield from (("", said) for said in refusals)
    active: set[str] | None = None
    if has[services.AIRFLOW]:
        refusals = []
        try:
            token = services.airflow_token()
            refusals = list(services.dag_files(token))
            active = services.active_dags(token)
        except EvergreenError as error:
            refusals = list(examined(partial(_raise, error), services.AIRFLOW))
        yield from (("", said) for said in refusals)
    return Reach(has[services.STORE], has[services.TRACKING], active)


def _records(problem: Problem, reach: Reach, now: float, tell: Tell, is_quick: bool) -> Iterator[Said]:
    """What there is to say of a problem, as far as the services can be asked."""
    active = reach.active
    is_idle = active is not None and not any(dag.startswith(f"{problem.name}.") for dag in active)
    checks: dict[str, Check] = {}
    if reach.store:
        checks |= {
            "tables": partial(tables.files, problem),
            "pinned versions of tables": partial(tables.pinned_files, problem),
            "manifests": partial(tables.manifests, problem, now),
            "events": partial(tables.events, problem),
            "ledger": partial(tables.ledger, problem),
            "runs": partial(tables.runs, problem),
            "staging": partial(left.staging, problem, now, is_idle),
            "reports": partial(left.reports, problem, now, is_idle),
        }
        if not is_quick:
            checks["training sets"] = partial(models.training_data, problem)
    if reach.store and reach.tracking:
        checks |= {
            "aliases": partial(models.aliases, problem, now, is_idle),
            "versions": partial(models.versions, problem, now, is_idle),
            "predictions": partial(models.predictions, problem),
            "runs": partial(models.runs, problem, now),
        }
        if not is_quick:
            checks["model files"] = partial(models.model_files, problem)
    for what, check in checks.items():
        tell(f"{problem.name}: {what}")
        yield from examined(check, f"problem {problem.name}, {what}")


def _of_all(check: Check, where: str) -> Iterator[tuple[str, Said]]:
    return (("", said) for said in examined(check, where))


def _raise(error: EvergreenError) -> Iterator[Said]:
    raise error
