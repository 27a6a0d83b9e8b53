"""What is told to a Prometheus is read back as it was, whatever the data says."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.health import filled
from pipelines.health.document import (
    Champion,
    Cost,
    FailedGate,
    Fresh,
    Health,
    Held,
    Point,
    Release,
    SourceFresh,
    StageUse,
    Turn,
)
from pipelines.health.exposition import FAMILIES, Sample, _family, exposition
from pipelines.health.in_flight import InFlight, Question, Run
from pipelines.health.state import health_of
from tests.conftest import ToyProblem

NOW = datetime(2026, 11, 30, tzinfo=UTC)
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """Reads the text format, version 0.0.4, to the letter; a family's lines stand together, below its HELP and TYPE."""
    assert text.endswith("\n") or not text
    samples: Samples = {}
    families: list[str] = []
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            families.append(line.split(" ")[2])
            continue
        if line.startswith("# TYPE "):
            assert line == f"# TYPE {families[-1]} gauge"
            continue
        name = NAME.match(line)
        assert name is not None and name[0] == families[-1], line
        labels, _, value = line[name.end() :].rpartition(" ")
        pairs = list(LABEL.finditer(labels[1:-1])) if labels else []
        assert not labels or labels == "{" + "".join(pair[0] for pair in pairs) + "}"
        said = frozenset((pair[1], re.sub(r"\\.", lambda sign: UNESCAPED[sign[0]], pair[2])) for pair in pairs)
        assert (name[0], said) not in samples
        samples[name[0], said] = float(value)
    assert len(set(families)) == len(families)
    return samples


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["\\n", '\\"', "\n", '"', "\\", ","]
)


@given(
    st.dictionaries(st.sampled_from(["problem", "verdict", "action"]), TEXT, min_size=1),
    st.floats() | st.integers(-(10**15), 10**15) | st.booleans(),
)
def test_labels_and_values_come_back_as_they_were(labels: dict[str, str], value: float) -> None:
    name = "evergreen_last_verdict"
    (((told, said), number),) = parsed(_family(name, [Sample(name, labels, value)])).items()
    assert told == name and dict(said) == labels
    assert number == value or (math.isnan(number) and math.isnan(value))


def turn(verdict: str) -> Turn:
    return Turn(
        decision="d",
        kind="monitoring",
        partition="2026-11-23",
        verdict=verdict,
        action="alert",
        reason="r",
        version="2",
        decided=NOW,
    )


def whole(problem: str, word: str) -> Health:
    """Everything that there can be to say."""
    return Health(
        problem=problem,
        every="week",
        derived=NOW,
        metric="auc",
        gate=0.6,
        higher_is_better=True,
        champion=Champion(version=word, since=NOW, partition="p", how=word, trained_on="p", age=3),
        points=(Point(partition="2026-11-16", realised=0.5), Point(partition="2026-11-23", estimated=0.7)),
        judged=turn(word),
        held=(Held(partition="p", reason=word, since=NOW),),
        quarantined_rows=5,
        event_rows=95,
        release=Release(name="r", challenger="3", where=word, next_step=word, is_held=False, asked="p"),
        waiting=(),
        failed_gate=FailedGate(partition="p", reason=word, decided=NOW, training="t"),
        gate_failures=2,
        tables=(Fresh(name="events", partition="p", until=NOW), Fresh(name="labels", partition=None, until=None)),
        sources=(SourceFresh(name=word, columns="at", newest=NOW, arrived=NOW, partition="p", until=NOW, allowed_s=0),),
        lies_in_past=False,
        next_due=NOW,
        missed=word,
        cost=Cost(per_partition=0.25, unit=word),
        stages=(StageUse(stage=word, ended=NOW, wall_s=2, cpu_s=3, peak_bytes=4, outcomes={"done": 1, "killed": 2}),),
    )


def airflow() -> InFlight:
    question = Question("release", "r", "s", NOW, ())
    return InFlight(
        (Run("score", "r", "p", NOW),), ("train",), (Run("ingest", "r", None, NOW),), (question,), ("train",)
    )


@given(TEXT.filter(bool))
def test_every_family_is_told_of_and_no_text_breaks_the_page(word: str) -> None:
    samples = parsed(exposition({"kettle": whole("kettle", word), "teapot": None}, {"kettle": airflow()}))
    assert {name for name, _ in samples} == set(FAMILIES)
    assert samples["evergreen_quarantine_share", frozenset({("problem", "kettle")})] == 0.05
    assert samples["evergreen_metric_beyond_gate", frozenset({("problem", "kettle"), ("metric", "auc")})] == 1
    killed = frozenset({("problem", "kettle"), ("stage", word), ("outcome", "killed")})
    assert samples["evergreen_task_tries", killed] == 2
    assert samples["evergreen_questions_open", frozenset({("problem", "teapot")})] == 0


def test_of_a_problem_that_has_not_begun_and_without_airflow(toy: ToyProblem, store_folder: Path) -> None:
    samples = parsed(exposition({"kettle": health_of(toy(), NOW)}, is_store_up=False))
    names = {name for name, _ in samples}
    assert samples["evergreen_store_up", frozenset()] == 0
    assert not names & {"evergreen_champion_info", "evergreen_questions_open", "evergreen_quarantine_share"}
    assert samples["evergreen_gate_failures", frozenset({("problem", "kettle")})] == 0


def test_of_a_problem_that_has_been_at_work(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy()
    filled(problem, 3)
    health = health_of(problem)
    text = exposition({"kettle": health})
    champion = frozenset({("problem", "kettle"), ("version", "1"), ("how", "promoted")})
    assert parsed(text)["evergreen_champion_info", champion] == 1
    promtool = shutil.which("promtool")
    for command in [[promtool, "check", "metrics"]] if promtool else []:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
