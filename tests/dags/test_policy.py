"""What every DAG owes the people who operate it; each message says how to mend a breach."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from include.alerts import alerted, failed, held_back, promoted, requested, stepped
from include.boundary import last_word
from include.wiring import keep_health
from pipelines.embedded.orchestrator import POOLS
from pipelines.problem import load_problem
from pipelines.problem_folders import problem_names

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

DAGS = Path(__file__).resolve().parents[2] / "dags"
KINDS = ("ingest", "train", "score", "monitor")
ON_REQUEST = ("annotate", "release")  # of problems that ask for labels, and that release by steps


def test_parses(bag: DagBag) -> None:
    assert not bag.import_errors, "mend these files:\n" + "\n".join(f"{f}:\n{e}" for f, e in bag.import_errors.items())


def _on_request(name: str) -> list[str]:
    problem = load_problem(name)
    asked_for = {"annotate": problem.labels.are_made, "release": problem.release.by_steps}
    return [kind for kind in ON_REQUEST if asked_for[kind]]


def test_each_problem_has_its_dags(bag: DagBag) -> None:
    expected = {f"{name}.{kind}" for name in problem_names() for kind in (*KINDS, *_on_request(name))}
    assert {f"flight_delay.{kind}" for kind in ON_REQUEST} <= expected, "the demo shows all of them"
    assert set(bag.dags) == expected, "every DAG is built for each problem by a loop over include.wiring.problems()"


def test_files_are_wiring() -> None:
    files = sorted(DAGS.glob("*.py"))
    assert {file.stem for file in files} == {*KINDS, *ON_REQUEST, "broken_problems"}, (
        "one file a DAG: put helpers into include/"
    )
    for file in files:
        lines = len(file.read_text().splitlines())
        assert lines < 100, f"{file.name} has {lines} lines; move what is not wiring to include/ or pipelines/"


def test_docs_help_the_operator(bag: DagBag) -> None:
    for dag in bag.dags.values():
        text = dag.doc_md or ""
        assert dag.description, f"{dag.dag_id}: give it a description of one line, shown in the list of DAGs"
        for part in ("**What it does.**", "**What makes it run.**", "**Triage.**"):
            assert part in text, f"{dag.dag_id}: add {part} to the file's docstring and pass it to options()"


def test_owner_and_tags_come_from_the_problem(bag: DagBag) -> None:
    for dag in bag.dags.values():
        problem = load_problem(dag.dag_id.partition(".")[0])
        wanted = {"evergreen", problem.name, problem.owner, *problem.tags}
        assert wanted <= dag.tags, f"{dag.dag_id}: build it with **options(problem, __doc__), which sets its tags"
        for task in dag.tasks:
            assert task.owner == problem.owner, f"{task}: leave its owner to options(problem, __doc__)"


def test_one_run_at_a_time_and_no_catching_up(bag: DagBag) -> None:
    for dag in bag.dags.values():
        if dag.dag_id.endswith(".release"):
            assert dag.max_active_runs > 1, "a run that waits for people keeps no later partition waiting"
        else:
            assert dag.max_active_runs == 1, f"{dag.dag_id}: a partition rests on those before it; use options()"
        assert not dag.catchup, f"{dag.dag_id}: `airflow backfill create` loads the past, not unpausing; use options()"


def test_retries_back_off_and_time_out(bag: DagBag) -> None:
    for task in (task for dag in bag.dags.values() for task in dag.tasks):
        assert task.retries >= 2, f"{task}: servers go away for a minute; leave retries to options()"
        assert task.retry_exponential_backoff >= 2, f"{task}: retries without growing pauses hammer a sick server"
        assert task.execution_timeout, f"{task}: a task that hangs holds its slot for ever; set execution_timeout"
        assert task.execution_timeout <= timedelta(hours=2), f"{task}: cut it into shards instead of waiting longer"


def test_errors_pass_the_boundary(bag: DagBag) -> None:
    for task in (task for dag in bag.dags.values() for task in dag.tasks):
        assert task.task_id == "ask" or hasattr(task.python_callable, "__wrapped__"), (
            f"{task}: decorate its body with @boundary, or make it with stage()"
        )
        assert task.on_failure_callback == [last_word, failed, keep_health], f"{task}: leave its callbacks to options()"
        assert task.on_retry_callback in (last_word, [last_word]), f"{task}: leave its callbacks to options()"


def test_decisions_are_told(bag: DagBag) -> None:
    for name in problem_names():
        act = bag.dags[f"{name}.monitor"].get_task("act")
        assert (act.on_skipped_callback, act.on_success_callback) == ([alerted], [requested])
        assert bag.dags[f"{name}.train"].get_task("promote").on_success_callback == [promoted]
        if "release" in _on_request(name):
            assert bag.dags[f"{name}.release"].get_task("step").on_success_callback == [stepped]
        assert bag.dags[f"{name}.ingest"].get_task("publish").on_success_callback == [held_back]


def test_what_serves_goes_before_what_learns(bag: DagBag) -> None:
    urgency = {"ingest": 2, "score": 2, "monitor": 1, "release": 1, "train": 0, "annotate": 0}
    for task in (task for dag in bag.dags.values() for task in dag.tasks):
        name, _, kind = task.dag_id.partition(".")
        expected = 100 * urgency[kind] + load_problem(name).scheduling.priority
        assert (task.priority_weight, task.weight_rule) == (expected, "absolute"), (
            f"{task}: leave its priority to options(), which has trainings wait for the others"
        )


def test_a_training_leaves_slots_to_those_of_other_problems(bag: DagBag) -> None:
    slots, _ = POOLS["training"]
    for name in problem_names():
        at_once = bag.dags[f"{name}.train"].get_task("train").max_active_tis_per_dagrun
        assert at_once == load_problem(name).scheduling.trainings_at_once < slots


def test_training_takes_the_training_pool(bag: DagBag) -> None:
    for name in problem_names():
        pool = bag.dags[f"{name}.train"].get_task("train").pool
        assert pool == "training", f"{name}.train: trainings that share cores slow each other down; pool='training'"
