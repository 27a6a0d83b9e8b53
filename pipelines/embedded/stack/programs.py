"""PostgreSQL and Redis of the system: found, or installed by apt where that may be done. Their own instances stay as
they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from pipelines.embedded.processes.supervisor import Progress
from pipelines.errors import ConfigError, ServiceUnavailable

VERSIONS = Path("/usr/lib/postgresql")  # where Debian and Ubuntu put each version's programs
PACKAGES = {"initdb": "postgresql", "redis-server": "redis-server", "redis-cli": "redis-tools"}
OF_HOSTS = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "setpriv": "util-linux"}
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
APT_TIMEOUT_S = 900


def search_path() -> str:
    """PATH of PostgreSQL's and Redis' processes: the newest PostgreSQL first."""
    folders = sorted(VERSIONS.glob("[0-9]*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    return ":".join([*map(str, folders), SYSTEM, os.environ.get("PATH", "")])


def missing(*, is_root: bool) -> list[str]:
    """Debian's packages that are not there; as root those that make hosts of network namespaces too."""
    wanted = PACKAGES | (OF_HOSTS if is_root else {})
    return sorted({package for program, package in wanted.items() if not shutil.which(program, path=search_path())})


def require(progress: Progress, *, is_root: bool) -> None:
    """Install what is not there, where this is root on a system with apt.

    Raises:
        ConfigError: something is missing, and may not be installed from here.
        ServiceUnavailable: apt could not install it.
    """
    if not find_spec("airflow.providers.celery"):
        raise ConfigError(
            "Airflow's Celery provider is not installed",
            where=sys.prefix,
            cure="`make stack` installs it; by hand: `uv sync --inexact --extra celery`",
        )
    packages = missing(is_root=is_root)
    if not packages:
        return
    install = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if not is_root or not shutil.which("apt-get"):
        raise ConfigError(
            f"the full stack needs {' and '.join(packages)}, which this system does not have",
            where="PATH",
            cure=f"`sudo {install}`, or the like on another system; then run this again",
        )
    progress(f"installing {' and '.join(packages)} with apt-get (once; what Debian starts of them is not used)")
    for command in (["apt-get", "update"], [*install.split(), "--yes"]):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, timeout=APT_TIMEOUT_S
        )
        if done.returncode:
            raise ServiceUnavailable(
                f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}",
                where="apt",
                cure="see that this machine reaches its packages, then run this again",
            )
