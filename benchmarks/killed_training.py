"""A training that Airflow runs is killed in mid-training: does its retry go on from the last state, to the same model?

    python -m benchmarks.killed_training [--times N]

The embedded services run the problem of `benchmarks.chaos` with ROUNDS trees, boosted by two processes, with a state
kept every EVERY rounds. It is trained once undisturbed. Then, N times, all processes that run the task of its candidate
are killed (-9) after two states were kept; the two that boost are left to themselves. Airflow misses the task after a
minute and tries it again. It has to end with the same model, and to have kept no state twice.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.chaos import world
from benchmarks.stack import tasks_of
from pipelines import tracking
from pipelines.cli import replay
from pipelines.cli.airflow_client import AirflowClient, Run
from pipelines.embedded import Embedded
from pipelines.paths import train_staging_uri
from pipelines.problem import Problem, load_problem
from pipelines.stages.train.checkpoints import StoredCheckpoint

NAME, CANDIDATE, ROUNDS, EVERY = "pots", "xgboost", 2000, 100
STATES = 2  # that are kept before the kill
MISSED_S = 60
ENDS_S = 1800.0


def write_problem(problems: Path) -> None:
    world.write_problem(problems, NAME)
    path = problems / NAME / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    del raw["release"]
    raw["training"]["candidates"][CANDIDATE]["parameters"] |= {"n_estimators": ROUNDS, "max_depth": 3}
    raw["training"] |= {"refit": False, "threads": 2}
    raw["training"]["engine"] = {"kind": "processes", "workers": 2, "checkpoint_rounds": EVERY}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


class Training:
    """One that Airflow runs; the states that it keeps are looked at while it does."""

    def __init__(self, client: AirflowClient, problem: Problem, run: Run) -> None:
        self.run = run
        self.states: list[int] = []
        """Rounds of those that were seen, one after the other."""
        self.killed_at: int | None = None
        """Rounds of the last state that was seen before the kill."""
        self._client, self._problem = client, problem
        self._is_over = threading.Event()

    def follow(self, *, kill: bool) -> None:
        """To its end; with `kill` its task is killed once."""
        looks = threading.Thread(target=self._look, args=[kill], daemon=True)
        looks.start()
        try:
            self._client.follow(self.run, lambda *_: None, ENDS_S)
        finally:
            self._is_over.set()
            looks.join()
        if (state := self.task()["state"]) != "success":  # whether the gate lets one in that is no better is not asked
            raise SystemExit(f"{self.run['dag_run_id']}: the task of {CANDIDATE} ended as {state}")

    def task(self) -> dict[str, Any]:
        """Airflow's, of the candidate."""
        tasks = tasks_of(self._client, self.run)
        return next(each for each in tasks if (each["task_id"], each["rendered_map_index"]) == ("train", CANDIDATE))

    def model(self) -> str:
        """Hash of the trees."""
        found = self._client.xcom(self.run, "train", map_index=self.task()["map_index"])
        booster = tracking.load_model(found["run_id"]).estimator.booster_
        return hashlib.sha256(bytes(booster.save_raw("ubj"))).hexdigest()

    def _look(self, kill: bool) -> None:
        checked = None
        while not self._is_over.wait(0.1):
            checked = checked or self._client.xcom(self.run, "check")
            if checked is None:
                continue
            uri = f"{train_staging_uri(self._problem, checked['training'])}/{CANDIDATE}.checkpoint"
            state = StoredCheckpoint(uri, self._problem).load()
            if state and state[0] not in self.states[-1:]:
                self.states.append(state[0])
            if kill and self.killed_at is None and len(self.states) >= STATES:
                self.killed_at = self.states[-1]
                for process in runners(str(self.task()["id"])):
                    process.kill()


def runners(instance: str) -> Iterator[psutil.Process]:
    """The processes that run a task instance, but for the workers that they have started."""
    for process in psutil.process_iter(["cmdline"]):
        if instance in " ".join(process.info["cmdline"] or []):
            yield process


def trained(client: AirflowClient, problem: Problem, name: str, *, kill: bool) -> tuple[str, list[str]]:
    """The hash of a training's model, and what is wrong with how it came about."""
    run = client.trigger(f"{NAME}.train", name, partition=world.HISTORY[1])
    training, start = Training(client, problem, run), time.monotonic()
    training.follow(kill=kill)
    tries, seconds = training.task()["try_number"], time.monotonic() - start
    was = "nothing was done to it"
    wrong = []
    if kill:
        was = f"killed after {training.killed_at} rounds"
        if training.killed_at is None:
            return training.model(), [f"{name} ended before it could be killed: give it more rounds"]
        later = training.states[training.states.index(training.killed_at) + 1 :]
        if tries < 2 or not later:
            wrong.append(f"{name} was not tried again, or no state of its second try was seen")
        if training.states != sorted(set(training.states)):
            wrong.append(f"{name} went back to an earlier state")
    print(f"{name}: {was}, {tries} tries, {seconds:.0f} s, states seen after rounds {training.states}", flush=True)
    return training.model(), wrong


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--times", type=int, default=1, help="how many trainings are killed")
    times = arguments.parse_args().times
    with tempfile.TemporaryDirectory(prefix="evergreen-killed-") as name:
        folder = Path(name).resolve()
        write_problem(folder / "problems")
        for variable in [each for each in os.environ if each.startswith(("AIRFLOW", "AWS_", "MLFLOW_", "EVERGREEN_"))]:
            del os.environ[variable]
        os.environ["EVERGREEN_PROBLEMS"] = str(folder / "problems")
        os.environ["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"] = str(MISSED_S)
        with Embedded(folder / "home") as embedded:
            embedded.start(print)
            os.environ.update(embedded.environment())
            client, problem = AirflowClient(), load_problem(NAME)
            replay.prepare(client, problem)
            first, last = world.HISTORY
            history = client.trigger(f"{NAME}.ingest", "history", conf={"first": first, "last": last})
            client.follow(history, lambda *_: None, ENDS_S)
            model, _ = trained(client, problem, "undisturbed", kill=False)
            wrong = []
            for number in range(1, times + 1):
                again, found = trained(client, problem, f"killed-{number}", kill=True)
                wrong += [*found, *([f"killed-{number} came to another model"] if again != model else [])]
        if wrong:
            raise SystemExit("; ".join(wrong))
        print(f"{times} killed: each tried again from the last state, to the undisturbed model")


if __name__ == "__main__":
    main()
