"""The object store's software for the tests that run it: installed once, and kept for the next run of the tests."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pipelines.embedded.object_store.installation import install
from pipelines.embedded.processes.home import prepare
from pipelines.embedded.processes.supervisor import Supervisor
from pipelines.problem import ROOT

HOME = Path(os.environ.get("EVERGREEN_HOME") or ROOT / ".evergreen") / "tests"


def installed() -> Path:
    """Its environment. Who comes while another test process installs it waits."""
    venv = HOME / "object_store" / "venv"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with (HOME / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepare(HOME)
        install(Supervisor(HOME), venv, print)
    return venv
