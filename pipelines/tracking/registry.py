"""The registered model of a problem: its versions, and the aliases that say which one serves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipelines.errors import NothingToDo
from pipelines.problem import Problem
from pipelines.surroundings import evidence_page
from pipelines.tracking.client import client, explained
from pipelines.tracking.runs import model_place

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

LONGEST_DESCRIPTION = 1_500  # characters of a card: about a screen


def champion(problem: Problem) -> ModelVersion | None:
    """The registry version that serves; None when none does yet."""
    return _named(problem, "champion")


def previous(problem: Problem) -> ModelVersion | None:
    """The registry version that served before the champion; None when none did, or it was left for harm."""
    return _named(problem, "previous")


def _named(problem: Problem, alias: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    with explained():
        try:
            return client().get_model_version_by_alias(problem.name, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def serving(problem: Problem) -> ModelVersion:
    """The champion; raises NothingToDo when there is none yet."""
    version = champion(problem)
    if version is None:
        raise NothingToDo(
            "no champion serves yet", where=f"registered model {problem.name}", cure=f"run the DAG {problem.name}.train"
        )
    return version


def register(problem: Problem, run_id: str, tags: dict[str, str]) -> str:
    """Make the run's model a registry version with the alias challenger; the same run is registered once, although
    MLflow's client asks again where an answer is lost, and MLflow then makes another version."""
    from mlflow.exceptions import MlflowException

    registry = client()
    with explained():
        try:
            registry.create_registered_model(problem.name, description=problem.description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        of_run = f"name = '{problem.name}' and run_id = '{run_id}'"
        registered = registry.search_model_versions(of_run)
        if not registered:
            place = model_place(run_id)
            registry.create_model_version(
                problem.name, source=place.uri, run_id=run_id, tags=tags, model_id=place.model_id
            )
            registered = registry.search_model_versions(of_run)
        version, *doubles = sorted(registered, key=lambda registered_version: int(registered_version.version))
        for double in doubles:
            registry.delete_model_version(problem.name, double.version)
    _point(problem, "challenger", str(version.version))
    return str(version.version)


def describe(problem: Problem, version: str, card: str) -> None:
    """Put the beginning of the model card where MLflow's registry shows it, with a link to the whole."""
    page = evidence_page(problem.name, f"models/{version}/card.html")
    link = f"[The whole model card]({page})\n\n" if page else ""
    with explained():
        client().update_model_version(problem.name, version, description=link + _beginning(card))


def _beginning(card: str) -> str:
    """As many of a card's sections as a screen holds.

    >>> _beginning("# Card\\n\\n## The model\\n\\nIt is one.\\n\\n## Data\\n\\n" + "many words " * 500)
    '# Card\\n\\n## The model\\n\\nIt is one.\\n'
    """
    if len(card) <= LONGEST_DESCRIPTION:
        return card
    return card[: card.rfind("\n## ", 0, LONGEST_DESCRIPTION)]


def _point(problem: Problem, alias: str, version: str) -> None:
    """Point an alias at a version, and tag that with when it came to it. Where it had it already nothing changes; a try
    that was killed between the two leaves a date that the next one replaces."""
    current = _named(problem, alias)
    if current is not None and str(current.version) == version:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with explained():
        client().set_model_version_tag(problem.name, version, f"{alias}_since", now)
        client().set_registered_model_alias(problem.name, alias, version)


def promote(problem: Problem, version: str) -> str | None:
    """Point the alias champion at `version`, and previous at what served before; gives the latter, if another did."""
    before = champion(problem)
    replaced = None if before is None or str(before.version) == version else str(before.version)
    if replaced is not None:
        _point(problem, "previous", replaced)
    _point(problem, "champion", version)
    with explained():
        client().delete_registered_model_alias(problem.name, "challenger")
    return replaced


def challenge(problem: Problem, version: str) -> None:
    """Point the alias challenger at `version`."""
    _point(problem, "challenger", version)


def leave(problem: Problem, version: str) -> None:
    """Take the alias challenger from `version`; where another has it by now, it stays there."""
    challenger = _named(problem, "challenger")
    if challenger is not None and str(challenger.version) == version:
        with explained():
            client().delete_registered_model_alias(problem.name, "challenger")


def roll_back(problem: Problem, version: str) -> None:
    """Point the alias champion at `version`; what served is not kept as previous: it was left because it does harm."""
    _point(problem, "champion", version)
    with explained():
        client().delete_registered_model_alias(problem.name, "previous")
