"""Which calls of a loop are struck, and how: by a seed, from what the undisturbed loop has asked its services."""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmarks.chaos.proxy import WRITING, Blow, Kind, Service
from benchmarks.chaos.worker import RETRIES, Call, Fault, Faults, Shortage

STRUCK_SHARE = 0.85  # of the calls of a loop
SHORT_SHARE = 0.45  # of its short form
KILLED_AGAIN_SHARE = 0.45  # of those tries that were struck: the next try is killed, too
# By kind, how often it is drawn; which is what may befall a stage at all.
BLOWS: dict[Kind, float] = {
    "kill before": 20,
    "kill after": 20,
    "refused": 30,
    "unavailable": 12,
    "lost": 8,
    "reset": 5,
    "cut off": 4,
    "slow": 2,
    "skewed": 1,
    "full": 1,
    "silent": 0.5,
}
AT_A_MOMENT = 12.0
SHORTAGES: dict[Shortage, float] = {
    "memory": 2,
    "handles": 2,
    "temporary disk": 1,
    "read-only disk": 1,
    "clock": 1,
    "source": 6,  # of the one stage that reads it
}
OUTAGE_S = ((1.0, 3.0, 0.7), (3.0, 10.0, 0.24), (10.0, 30.0, 0.05), (30.0, 120.0, 0.01))
"""From, to, and how often."""
WRITES_SHARE = 0.7
SILENT_S = 70.0  # longer than clients wait


def plan(calls: Sequence[Call], seed: int, share: float = STRUCK_SHARE) -> Faults:
    """The faults of a loop, by the number of the call whose tries they befall, one after the other."""
    draws = random.Random(seed)  # noqa: S311 - a plan, no secret
    return {number: _faults(draws, call) for number, call in enumerate(calls) if draws.random() < share}


def _faults(draws: random.Random, call: Call) -> list[Fault]:
    """One, and kills of the tries after it: fewer than tries, so that the stage can end well by itself."""
    faults = [_fault(draws, call)]
    while len(faults) < RETRIES and draws.random() < KILLED_AGAIN_SHARE:
        fault = _fault(draws, call)
        while not fault.is_kill:
            fault = _fault(draws, call)
        faults.append(fault)
    return faults


def _fault(draws: random.Random, call: Call) -> Fault:
    asked = {service: [each for each in call.asked if each.service == service] for service in ("store", "mlflow")}
    services: list[Service] = [service for service in ("store", "mlflow") if asked[service]]
    shortages = [lack for lack in SHORTAGES if lack != "source" or call.stage == "ingest.extract"]
    of_service, of_task = sum(BLOWS.values()) * bool(services), sum(SHORTAGES[lack] for lack in shortages)
    group = draws.choices(("service", "task", "moment"), (of_service, of_task, AT_A_MOMENT))[0]
    if group == "moment":
        return Fault(kill_at_s=draws.uniform(0, call.seconds))
    if group == "task":
        return Fault(lacks=draws.choices(shortages, [SHORTAGES[lack] for lack in shortages])[0])
    kind = draws.choices([*BLOWS], [*BLOWS.values()])[0]
    service = draws.choice(services)
    requests = asked[service]
    writes = [number for number, request in enumerate(requests, 1) if request.method in WRITING]
    places = writes if writes and draws.random() < WRITES_SHARE else range(1, len(requests) + 1)
    low, high = draws.choices([span[:2] for span in OUTAGE_S], [span[2] for span in OUTAGE_S])[0]
    return Fault(
        blow=Blow(
            service=service,
            kind=kind,
            at=draws.choice(places),
            count=draws.choice((1, 1, 2, 3, 8)) if kind != "slow" else 8,
            seconds=SILENT_S if kind == "silent" else round(draws.uniform(low, high), 1),
        )
    )
