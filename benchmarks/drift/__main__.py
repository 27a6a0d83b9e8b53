"""Does monitoring alarm when something happened, and only then, and does it say what? On real data, shifts planted.

    python -m benchmarks.drift [folder] [--write] [--only PROBLEM] [--group KIND]

Five problems: the default one; poor visibility at New York's airports (the weather of the same package, which has
seasons too); visits to a doctor (the RAND experiment, from statsmodels, whose rows come in an order of no meaning, so
that nothing ever moves); and two regressions with a linear champion, which does not fit everywhere: how late a flight
that has left will arrive, and the temperature as the other instruments tell it. Of each, one champion is made from the
first partitions and never trained again; it scores all later ones. They are judged as they are, one after the other,
labels coming with their delay: what alarms is false, as far as anybody knows. Then from several onsets on three
partitions are harmed, in many ways and sizes, one at a time, and scored again. A fixed limit on PSI and Evidently's
DataDriftPreset judge the very same rows. With a folder what was played there is kept, and not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.drift.judge import HARM, QUIET, SYMPTOMS, Alarm, Evidently, Monitor, by_columns, by_psi
from benchmarks.drift.page import COSTLY, Played, Trial, page, shown
from benchmarks.drift.plants import Plant, plants
from benchmarks.drift.world import STRETCHES, Stretch, World, folder_of, play
from pipelines.metrics.metrics import SKILL, measure
from pipelines.problem import ROOT
from pipelines.profiles.profile import SCORE

LASTS = 3  # partitions: the labels of the first come after one of them, and two are judged with them
EVIDENTLY_EVERY = 4  # of the unharmed partitions


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift")
    parser.add_argument("folder", nargs="?", type=Path, help="keeps what was ingested and trained; else temporary")
    parser.add_argument("--only", choices=[one.name for one in STRETCHES], help="one problem")
    parser.add_argument("--group", action="append", help="plants of this group alone, such as concept; none: no plants")
    parser.add_argument("--write", action="store_true", help="write docs/measurements/drift.md")
    given = parser.parse_args()
    played = []
    with TemporaryDirectory(prefix="evergreen-drift-") as made:
        folder = (given.folder or Path(made)).resolve()
        for stretch in STRETCHES:
            if given.only in (None, stretch.name):
                with folder_of(folder / stretch.name, stretch):
                    played.append(judged(stretch, play(stretch), given.group))
                    (folder / f"{stretch.name}.json").write_text(json.dumps(asdict(played[-1]), default=list, indent=1))
    print(shown(played))
    if given.write:
        (ROOT / "docs" / "measurements" / "drift.md").write_text(page(played))


def judged(stretch: Stretch, world: World, groups: list[str] | None = None) -> Played:
    monitor, evidently, keys = Monitor(world), Evidently(world), list(world.weeks)
    start = time.process_time()
    unharmed = {key: monitor.diagnosis(key, {}) for key in keys}
    seconds = time.process_time() - start
    columns = {key: by_psi(world, monitor.looks[key]) for key in keys}
    looked_at = keys[::EVIDENTLY_EVERY]
    start = time.process_time()
    reported = {key: evidently.drifted(world.weeks[key]) for key in {*looked_at, keys[stretch.onsets[0]]}}
    evidently_seconds = (time.process_time() - start) / len(reported)

    def trial(plant: Plant, place: int) -> Trial:
        harmed = dict(harmed_rows(world, plant, keys, place))
        cost = costs(world, harmed)
        first, alarm, delay = keys[place], None, 0
        for key in harmed if cost > COSTLY else [first]:
            so_far = {one: rows for one, rows in harmed.items() if one <= key}
            if told := monitor.alarm(monitor.diagnosis(key, so_far), unharmed[key]):
                delay = delay if alarm else keys.index(key) - place
                alarm = told if alarm is None or told.kind not in SYMPTOMS else alarm
            if alarm and alarm.kind not in SYMPTOMS:
                break
        preset: Alarm | str | None = "not run"
        if cost > COSTLY and place == stretch.onsets[0]:
            preset = by_columns(evidently.drifted(harmed[first]), reported[first])
        fixed = by_columns(by_psi(world, world.look(harmed[first])), columns[first])
        return Trial(plant.name, plant.group, plant.kinds, plant.features, first, cost, alarm, delay, fixed, preset)

    false = {
        key: tuple(f"{one.kind}: {one.evidence}" for one in found.findings if one.kind not in (*QUIET, *HARM))
        for key, found in unharmed.items()
    }
    return Played(
        name=world.problem.name,
        rows=sum(rows.num_rows for rows in world.weeks.values()),
        columns=len(world.reference.columns) - 1,
        known=len(world.reference.partitions),
        partitions=tuple(keys),
        false=false,
        harm={key: tuple(one.kind for one in found.findings if one.kind in HARM) for key, found in unharmed.items()},
        psi=tuple(key for key in keys if columns[key]),
        evidently={key: len(reported[key]) for key in looked_at},
        trials=tuple(
            trial(plant, place)
            for plant in plants(world)
            if groups is None or plant.group in groups
            for place in stretch.onsets
        ),
        seconds=seconds / len(keys),
        evidently_seconds=evidently_seconds,
    )


def harmed_rows(world: World, plant: Plant, keys: list[str], place: int) -> Iterator[tuple[str, pa.Table]]:
    for at in range(place, min(place + LASTS, len(keys))):
        rows = plant.harm(world.weeks[keys[at]], world.weeks[keys[at - 1]])
        yield keys[at], world.rescored(rows) if plant.is_scored_after else rows


def costs(world: World, harmed: dict[str, pa.Table]) -> float:
    """AUC lost, of a regression R2, on average over the harmed partitions; rows without a score count as chance."""
    metric = SKILL[world.problem.task]
    chance = 0.0 if metric == "r2" else 0.5
    lost = []
    for key, rows in harmed.items():
        was, now = (measure(world.truth(one).scored)[metric] or chance for one in (world.weeks[key], rows))
        scored = pc.sum(pc.is_finite(rows[SCORE])).as_py() / rows.num_rows
        lost.append(was - (scored * now + (1 - scored) * chance))
    return float(np.mean(lost))


if __name__ == "__main__":
    main()
