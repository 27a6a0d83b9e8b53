"""The object store's own Python environment: made once, remade when its requirements change or an install broke off."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

from pipelines.embedded.processes.environment import surroundings
from pipelines.embedded.processes.supervisor import Progress, Supervisor
from pipelines.errors import ConfigError, ServiceUnavailable

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
LOG = "object_store_install"


def install(supervisor: Supervisor, venv: Path, progress: Progress) -> None:
    """Make the environment if it is not there, with uv where there is one, else with venv and pip.

    A stamp is written last, so a half-made environment is never taken for a whole one.

    Raises:
        ConfigError: this Python cannot make environments.
        ServiceUnavailable: the packages could not be fetched.
    """
    if is_complete(venv):
        return
    progress("object store: installing OpenStack Swift into an environment of its own (once)")
    shutil.rmtree(venv, ignore_errors=True)
    uv = find_uv()
    python = str(venv / "bin" / "python")
    environment = surroundings(os.environ, "UV_", "PIP_")
    try:
        make = [uv, "venv", "--python", sys.executable, str(venv)] if uv else venv_command(venv)
        supervisor.run(LOG, make, environment)
    except ServiceUnavailable as error:
        raise ConfigError(
            f"this Python ({sys.executable}) could not make an environment for the object store: {error.what}",
            where=str(venv),
            cure="install uv, or your system's package for `python -m venv` (python3-venv on Debian and Ubuntu)",
        ) from error
    pip = [uv, "pip", "install", "--python", python, "--compile-bytecode"] if uv else [python, "-m", "pip", "install"]
    try:
        supervisor.run(LOG, [*pip, "-r", str(REQUIREMENTS)], environment, timeout_s=1800)
    except ServiceUnavailable as error:
        error.cure += "; if it speaks of the network, see that this machine reaches its package index"
        raise
    (venv / "stamp").write_text(stamp())


def venv_command(venv: Path) -> list[str]:
    """What makes an environment where there is no uv."""
    return [sys.executable, "-m", "venv", str(venv)]


def find_uv() -> str | None:
    """uv as $UV names it, next to this Python, or on PATH."""
    beside = Path(sys.executable).with_name("uv")
    return os.environ.get("UV") or (str(beside) if beside.exists() else None) or shutil.which("uv")


def stamp() -> str:
    """Names what an environment was made of: the locked requirements and the Python's version."""
    return hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()


def is_complete(venv: Path) -> bool:
    """Whether an install ran to its end, with these requirements and this Python."""
    written = venv / "stamp"
    return written.exists() and written.read_text() == stamp() and (venv / "bin" / "python").exists()
