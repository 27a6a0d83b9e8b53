"""What MLflow keeps of a problem: all versions, all runs of its trainings, and how many bytes the runs' files take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pipelines.problem import Problem
from pipelines.tracking.client import client, explained

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

NO_FILES = "files_deleted"  # tag of a run


class Registered(NamedTuple):
    """A version of the registry."""

    number: str
    run_id: str
    created: float
    """Unix seconds."""


class TrainingRun(NamedTuple):
    """A run of a training: a candidate, or a trial of a candidate's search."""

    run_id: str
    name: str
    training: str
    """Id of the training; empty of a trial."""
    candidate: str | None
    """Run that it is a trial of; None: it is a candidate's own."""
    status: str
    started: float
    """Unix seconds."""
    has_files: bool
    """False: they were deleted here."""


class Size(NamedTuple):
    """How much something takes."""

    files: int
    bytes: int


def versions(problem: Problem) -> list[Registered]:
    """All versions of the problem's model, oldest first."""
    with explained():
        pages, token = [], None
        while True:
            page = client().search_model_versions(f"name = '{problem.name}'", max_results=1000, page_token=token)
            pages += page
            token = page.token
            if not token:
                break
    registered = [
        Registered(str(version.version), str(version.run_id), version.creation_timestamp / 1000) for version in pages
    ]
    return sorted(registered, key=lambda version: int(version.number))


def aliases(problem: Problem) -> dict[str, str]:
    """The version that each alias of the problem's model names; none where nothing was ever registered."""
    from mlflow.exceptions import MlflowException

    with explained():
        try:
            model = client().get_registered_model(problem.name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
    return {alias: str(version) for alias, version in model.aliases.items()}


def training_runs(problem: Problem) -> Iterator[TrainingRun]:
    """All runs of the problem's trainings, newest first; those that only hold a page are none."""
    with explained():
        experiment = client().get_experiment_by_name(problem.name)
        token = None
        while experiment is not None:
            page = client().search_runs(
                [experiment.experiment_id], order_by=["attributes.start_time DESC"], page_token=token
            )
            for run in page:
                tags = run.data.tags
                trial_of = tags.get("mlflow.parentRunId")
                if trial_of or "training" in tags:
                    yield TrainingRun(
                        str(run.info.run_id),
                        str(run.info.run_name),
                        tags.get("training", ""),
                        trial_of,
                        run.info.status,
                        run.info.start_time / 1000,
                        NO_FILES not in tags,
                    )
            token = page.token
            if not token:
                return


def run_files(run_id: str) -> Size:
    """How many files a run has, its model's among them, and how large they are."""
    with explained():
        sizes = [size for place in _places(run_id) for size in _sizes(place)]
    return Size(len(sizes), sum(sizes))


def delete_run_files(run_id: str, reason: str) -> None:
    """Delete the files of a run, its model's among them; its parameters, metrics and tags stay."""
    with explained():
        for place in _places(run_id):
            place.delete_artifacts()
        client().set_tag(run_id, NO_FILES, reason)


def delete_run(run_id: str) -> None:
    """Delete a run, as MLflow does: it is to be seen no more, and `mlflow gc` frees its rows."""
    with explained():
        client().delete_run(run_id)


def _places(run_id: str) -> list[ArtifactRepository]:
    """Where a run's files lie, and those of the models that it has logged."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    run: Run = client().get_run(run_id)
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [client().get_logged_model(output.model_id).artifact_location for output in outputs]
    return [get_artifact_repository(place) for place in [run.info.artifact_uri, *models]]


def _sizes(place: ArtifactRepository, folder: str | None = None) -> Iterator[int]:
    for entry in place.list_artifacts(folder):
        if entry.is_dir:
            yield from _sizes(place, entry.path)
        else:
            yield entry.file_size or 0


def check_login() -> None:
    """Ask for something that needs a login.

    Raises:
        AccessError: MLflow refuses it.
        ServiceUnavailable: it does not answer.
    """
    with explained():
        client().search_experiments(max_results=1)
