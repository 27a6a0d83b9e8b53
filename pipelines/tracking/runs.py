"""Runs: what a training did and made, with the model."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from pipelines.config import Parameters
from pipelines.documents.evaluation import Evaluation
from pipelines.documents.lineage import Lineage
from pipelines.documents.version import RunFiles
from pipelines.errors import DataError, ServiceUnavailable
from pipelines.problem import Problem
from pipelines.surroundings import environment, git_commit, requirements
from pipelines.temporary import temporary_folder
from pipelines.tracking.client import client, explained, use_experiment
from pipelines.tracking.pages import keep_view, references

if TYPE_CHECKING:
    from pipelines.training.model import Model

MODEL_FILE = "model.skops"
MODEL_SHA256 = "model_sha256"  # tag of a run
LONGEST_PARAMETER = 500  # characters that people still read in a list; MLflow's own limit is 6,000
MOST_TAGS = 100  # that MLflow takes at once; of metrics it takes more
# A trial of a search is a run as well, below its candidate's.
_NO_TRIAL = "tags.`mlflow.parentRunId` IS NULL"


class LoggedModel(NamedTuple):
    """A run with a model."""

    run_id: str
    sha256: str
    """Of the model's file, as this process wrote it."""


def start_candidate(problem: Problem, name: str, tags: dict[str, str]) -> str:
    """Id of the candidate's run, which goes on until `log_candidate` finishes it.

    A run with the same tags `training` and `candidate` that an earlier try did not finish is taken up, and its trials
    with it, unless problem.yaml has changed since. There is one: where MLflow's answer is lost its client asks again,
    and MLflow begins another run, which would go on for ever.
    """
    from mlflow.tracking.context.registry import resolve_tags

    runs, known = client(), {**tags, "candidate": name, "config_hash": problem.config_hash}
    with explained():
        experiment = use_experiment(problem.name)
        keep_view(problem, experiment)
        same = _wanted({tag: known[tag] for tag in ("training", "candidate", "config_hash") if tag in known})
        unfinished = f"{same} AND attributes.status != 'FINISHED' AND {_NO_TRIAL}"
        newest_first = ["attributes.start_time DESC"]
        unfinished_runs = runs.search_runs([experiment], unfinished, order_by=newest_first)
        if unfinished_runs:
            runs.update_run(unfinished_runs[0].info.run_id, status="RUNNING")
        else:
            title = f"{name} {tags['partition']}" if "partition" in tags else name
            if "tested_run" in tags:  # which has the metrics
                title += " refit"
            pages = references(problem, tags.get("training"))
            more = resolve_tags({**known, **pages, "git_commit": git_commit()})
            runs.create_run(experiment, tags=more, run_name=title)
            unfinished_runs = runs.search_runs([experiment], unfinished, order_by=newest_first)
        run, *doubles = unfinished_runs
        for double in doubles:
            runs.delete_run(double.info.run_id)
        return str(run.info.run_id)


def log_candidate(
    problem: Problem,
    name: str,
    model: Model,
    *,
    tags: dict[str, str],
    parameters: Parameters,
    metrics: dict[str, float],
    dataset_uri: str,
    dataset_version: int | None,
    example: pa.Table,
    files: dict[str, bytes],
    run_id: str | None = None,
) -> LoggedModel:
    """Log one fitted candidate and finish its run. Lineage, config and environment go along.

    `run_id` is `start_candidate`'s; without it a run is started here. A parameter too long to be read in a list is cut,
    and stands whole in parameters.json. `files` are kept under their names, byte for byte.
    """
    import mlflow
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.models import Model as LoggedFiles
    from mlflow.models import infer_signature

    from pipelines.training.model import TRUSTED_TYPES

    run_id = run_id or start_candidate(problem, name, tags)
    predict = "predict" if problem.task == "regression" else "predict_proba"
    # JSON, by which a model is asked, knows no 32-bit floats, and a signature takes no wider ones for them.
    types = {field.name: field.type for field in example.schema}
    types |= {name: pa.list_(pa.float64()) for name, kind in types.items() if pa.types.is_list(kind)}
    frame = example.cast(pa.schema(types)).to_pandas()
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("integer"), "float64"))  # integers have no missing values
    runs, flavor = client(), _Flavor()
    with explained():
        use_experiment(problem.name)
        outputs = runs.get_run(run_id).outputs
        for half_written in outputs.model_outputs if outputs else []:  # by a try that was killed while it logged
            runs.delete_logged_model(half_written.model_id)
        with mlflow.start_run(run_id=run_id):
            mlflow.set_tags({**tags, **references(problem, tags.get("training")), "candidate": name})
            source = DeltaDatasetSource(path=dataset_uri, delta_table_version=dataset_version)
            mlflow.log_input(
                MetaDataset(source, name=f"{problem.name} training set", digest=tags["training_set"]), "training"
            )
            mlflow.log_dict(problem.model_dump(mode="json"), "problem.json")
            mlflow.log_text(environment(), "environment.txt")
            _log_files(run_id, files)
            logged = LoggedFiles.log(
                artifact_path=None,
                name="model",
                flavor=flavor,
                flavor_name="mlflow.sklearn",
                sk_model=model,
                serialization_format="skops",
                skops_trusted_types=TRUSTED_TYPES,
                signature=infer_signature(frame, getattr(model, predict)(frame)),
                input_example=frame,
                pyfunc_predict_fn=predict,
                pip_requirements=requirements(),
                validate_serving_input=False,  # it would load the model once more, and only warn where that fails
            )
            mlflow.set_tag(MODEL_SHA256, flavor.sha256)
            # After the model, to which they belong too: MLflow would ask for each metric that it finds there before.
            mlflow.log_metrics(metrics, model_id=logged.model_id)
            mlflow.log_dict(parameters, "parameters.json")
            # Last, as MLflow takes no second value for a parameter: a try that is killed before leaves none.
            mlflow.log_params({name: _cut(str(value)) for name, value in parameters.items()})
    return LoggedModel(run_id, flavor.sha256)


class _Flavor:
    """As MLflow's own for scikit-learn; keeps the hash of the file that it writes, before anybody else has it."""

    def __init__(self) -> None:
        self.sha256 = ""

    def save_model(self, path: str, *, validate_serving_input: bool, **options: Any) -> None:
        """`validate_serving_input` is for MLflow's `log`, which hands all of its options on."""
        import mlflow

        mlflow.sklearn.save_model(path=path, **options)
        self.sha256 = _sha256(Path(path, MODEL_FILE))


def fail(run_id: str, reason: str) -> None:
    """Mark a run that came to nothing; the next try takes it up."""
    runs = client()
    with explained():
        runs.set_tag(run_id, "error", reason[:LONGEST_PARAMETER])
        runs.set_terminated(run_id, "FAILED")


def log_files(problem: Problem, title: str, *, tags: dict[str, str], files: dict[str, bytes]) -> str:
    """A finished run of its own that only holds files; gives its id."""
    import mlflow

    with explained():
        use_experiment(problem.name)
        with mlflow.start_run(run_name=title, tags={**tags, "git_commit": git_commit()}) as run:
            _log_files(run.info.run_id, files)
    return str(run.info.run_id)


def find_run(problem: Problem, tags: dict[str, str]) -> tuple[str, dict[str, float]] | None:
    """Id and metrics of the finished run that carries all `tags`: what an earlier try of a task has done.

    Trials of a search are not looked at.
    """
    import mlflow

    with explained():
        experiment = mlflow.get_experiment_by_name(problem.name)
        if experiment is None:  # nothing was ever trained, which is no reason for a warning
            return None
        runs = mlflow.search_runs(
            experiment_ids=[experiment.experiment_id],
            filter_string=f"{_wanted(tags)} AND attributes.status = 'FINISHED' AND {_NO_TRIAL}",
            max_results=1,
            output_format="list",
        )
    return (str(runs[0].info.run_id), dict(runs[0].data.metrics)) if runs else None


def annotate(
    run_id: str,
    *,
    metrics: dict[str, float] | None = None,
    tags: dict[str, str] | None = None,
    files: RunFiles | None = None,
) -> None:
    """Add metrics, tags and files to a finished run: bytes as they are, anything else as JSON."""
    from mlflow.entities import Metric, RunTag

    runs, now = client(), int(time.time() * 1000)
    added = [Metric(name, value, now, 0) for name, value in (metrics or {}).items()]
    tagged = [RunTag(name, value) for name, value in (tags or {}).items()]
    with explained():
        for start in range(0, max(len(added), len(tagged)), MOST_TAGS):
            part = slice(start, start + MOST_TAGS)
            runs.log_batch(run_id, metrics=added[part], tags=tagged[part])
        for name, content in (files or {}).items():
            if not isinstance(content, bytes):
                runs.log_dict(run_id, content, name)
        _log_files(run_id, {name: content for name, content in (files or {}).items() if isinstance(content, bytes)})


def run_tag(run_id: str, name: str) -> str | None:
    """A tag of a run; None when it has none of that name."""
    with explained():
        value: str | None = client().get_run(run_id).data.tags.get(name)
        return value


def run_experiment(run_id: str) -> str:
    """Id of the experiment that a run belongs to."""
    with explained():
        return str(client().get_run(run_id).info.experiment_id)


def run_file(run_id: str, name: str) -> Any:
    """A JSON file of a run."""
    from mlflow.artifacts import load_dict

    with explained():
        return load_dict(f"{client().get_run(run_id).info.artifact_uri}/{name}")


def run_lineage(run_id: str) -> Lineage:
    """What the model of a run is made of."""
    lineage: Lineage = run_file(run_id, "lineage.json")
    return lineage


def run_evaluation(run_id: str) -> Evaluation:
    """What was found out about the model of a run."""
    evaluation: Evaluation = run_file(run_id, "evaluation.json")
    return evaluation


def logged_sha256(run_id: str) -> str | None:
    """SHA-256 that the model's file had when it was logged, as the run itself says; None: it does not say.

    MLflow's database says so, not the place where the file lies.
    """
    return run_tag(run_id, MODEL_SHA256)


def model_sha256(run_id: str) -> str:
    """SHA-256 of the file that the model of a run is kept in."""
    with temporary_folder() as folder, explained():
        return _sha256(_fetched(run_id, folder))


def load_model(run_id: str, sha256: str | None = None) -> Model:
    """The model of a run.

    Args:
        run_id: of the run that has it.
        sha256: of its file as it was logged or registered; None: nobody kept it, and any file is taken.

    Raises:
        DataError: the run has none, its file is another than was logged, or holds types that are not trusted.
    """
    from skops.io import load
    from skops.io.exceptions import UntrustedTypesFoundException

    from pipelines.training.model import TRUSTED_TYPES
    from pipelines.training.trusted_trees import require_sound

    with temporary_folder() as folder, explained():
        file = _fetched(run_id, folder)
        try:
            require_same(run_id, _sha256(file), sha256)
            return require_sound(load(file, trusted=TRUSTED_TYPES))
        except UntrustedTypesFoundException as error:
            raise DataError(
                f"the model's file is not to be trusted: {error}",
                where=_model_uri(run_id),
                cure="find out who wrote it; add a type of your own to TRUSTED_TYPES",
            ) from error


def require_same(run_id: str, sha256: str, expected: str | None) -> None:
    """Raises:
    DataError: the file of a run's model has another hash than was kept; with None nothing was.
    """
    if expected is not None and sha256 != expected:
        raise DataError(
            f"the model's file is another than was logged: its SHA-256 is not {expected}",
            where=_model_uri(run_id),
            cure="find out who wrote it; train a new model, or where this one serves, `evergreen roll-back`",
        )


def _fetched(run_id: str, folder: str) -> Path:
    """The file of a run's model, fetched into `folder`: from where it lies, and not by an address of the kind runs:/,
    for which MLflow asks in vain among the run's own files first, again and again. What MLflow keeps beside it is for
    other readers: each file is a request.

    Raises:
        DataError: it is not there.
        ServiceUnavailable: it is there, and did not come.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    place = f"{model_place(run_id).uri}/{MODEL_FILE}"
    try:
        return Path(mlflow.artifacts.download_artifacts(place, dst_path=folder))
    except (MlflowException, OSError) as error:
        there = {Path(entry.path).name for entry in client().list_artifacts(run_id, "model")}
        if MODEL_FILE not in there:
            raise DataError(
                f"the run has no {MODEL_FILE}" if there else "the run has no model",
                where=_model_uri(run_id),
                cure="train and register a new model",
            ) from error
        raise ServiceUnavailable(
            "the run has it, and it could not be fetched",
            where=_model_uri(run_id),
            cure=f"is MLflow up, and is there room in {gettempdir()} (TMPDIR)?",
        ) from error


def _model_uri(run_id: str) -> str:
    return f"runs:/{run_id}/model"


class ModelPlace(NamedTuple):
    """Where a model lies. `model_id`: what MLflow keeps it as; None: it is a folder of its run."""

    uri: str
    model_id: str | None


def model_place(run_id: str) -> ModelPlace:
    """Where the model of a run lies. The page of a version asks MLflow's server for files there, and by an address such
    as `runs:/` ours serves none."""
    from mlflow.exceptions import MlflowException

    run = client().get_run(run_id)
    for output in run.outputs.model_outputs if run.outputs else ():
        try:
            logged = client().get_logged_model(output.model_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue  # of a try that was killed: the next one removed it
        if logged.name == "model":
            return ModelPlace(logged.artifact_location, logged.model_id)
    return ModelPlace(f"{run.info.artifact_uri}/model", None)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _wanted(tags: dict[str, str]) -> str:
    return " AND ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())


def _cut(text: str) -> str:
    """
    >>> _cut("7"), len(_cut("7" * 9000)), _cut("7" * 9000)[-40:]
    ('7', 500, '7 ... (9000 characters: parameters.json)')
    """
    if len(text) <= LONGEST_PARAMETER:
        return text
    note = f" ... ({len(text)} characters: parameters.json)"
    return text[: LONGEST_PARAMETER - len(note)] + note


def _log_files(run_id: str, files: dict[str, bytes]) -> None:
    with temporary_folder() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if files:
            client().log_artifacts(run_id, folder)
