"""What was measured, as it passes between the parts of this benchmark and from their processes: JSON, a model each."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Frozen; a process prints it as one line of JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cost(Record):
    """What something took: seconds of wall time, and CPU seconds (user and system) of all its processes."""

    wall: float
    cpu: float


class Week(Record):
    """One week of the demo; `services` is what is in `cost.cpu` of processes other than the one that does the work."""

    key: str
    cost: Cost
    services: dict[str, float] = {}
    peak_mib: float | None = None


class Stage(Record):
    """One stage of one week, in one process with the others."""

    week: str
    name: str
    """as `monitor.detect`"""
    cost: Cost


class Alone(Record):
    """The stages of weeks one after another in one process."""

    weeks: list[Week]
    stages: list[Stage]


class Services(Record):
    """The embedded services from their start to the rest after the last week."""

    first_start: Cost
    second_start: Cost
    weeks: list[Week]
    script: list[Week]
    """the plain script's weeks, on the same services"""
    rest_mib: dict[str, float]
    """memory by service, each shared page counted once (PSS)"""
    rest_cores: dict[str, float]


class Peer(Record):
    """What a peer took for the work that one of Evergreen's stages does; or why it did not."""

    name: str
    version: str = ""
    stage: str
    """Evergreen's stage that answers the same question"""
    ours: Cost
    work: Cost | None = None
    """after its imports"""
    imports: Cost | None = None
    found: str = ""
    failure: str = ""


class Measured(Record):
    """All of one run."""

    machine: str
    load: float
    """of the machine when the run began, over five minutes: what others made of it"""
    day: str
    command: str
    rows: int
    services: Services | None
    alone: Alone
    peers: list[Peer]
