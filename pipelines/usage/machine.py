"""What the operating system knows of this process and its children, and of the machine's memory.

Linux says all of it; elsewhere what is not known counts as nothing, and memory is the most so far.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
MEMORY = re.compile(rb"^Vm(HWM|RSS):\s+(\d+) kB$", re.MULTILINE)
IO = re.compile(rb"^([rw])char: (\d+)$", re.MULTILINE)
OOM_KILLS = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)


class Reading(NamedTuple):
    """So far."""

    cpu_s: float = 0.0
    """User and system time of this process, all its threads."""
    children_cpu_s: float = 0.0
    """Of its child processes, and of theirs: of those that it has waited for, and of those that run."""
    now_bytes: int = 0
    """Resident memory of this process now."""
    children_bytes: int = 0
    """Of its children that run, now."""
    most_bytes: int = 0
    """The most that this process has ever held."""


class FileTraffic(NamedTuple):
    """Bytes that this process has read and written through the system's calls, its ended children too."""

    bytes_read: int = 0
    bytes_written: int = 0


def reading() -> Reading:
    own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    running = list(_running(os.getpid()))
    memory = {name: int(size) * 1024 for name, size in MEMORY.findall(_content(PROC / "self" / "status"))}
    most = own.ru_maxrss * RSS_UNIT
    return Reading(
        cpu_s=own.ru_utime + own.ru_stime,
        children_cpu_s=ended.ru_utime + ended.ru_stime + sum(child.cpu_s for child in running),
        now_bytes=memory.get(b"RSS", most),
        children_bytes=sum(child.now_bytes for child in running),
        most_bytes=memory.get(b"HWM", most),
    )


def file_traffic() -> FileTraffic:
    sizes = {name: int(size) for name, size in IO.findall(_content(PROC / "self" / "io"))}
    return FileTraffic(sizes.get(b"r", 0), sizes.get(b"w", 0))


def out_of_memory_kills() -> int:
    """How many processes the machine has ended since it started because its memory, or a container's, was full."""
    counts = OOM_KILLS.search(_content(PROC / "vmstat"))
    return int(counts[1]) if counts else 0


def age_s() -> float:
    """Seconds since this process began; 0 where nobody knows."""
    fields = _stat(os.getpid())
    if fields is None:
        return 0.0
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK"), 0.0)


class _Child(NamedTuple):
    cpu_s: float
    now_bytes: int


def _running(process: int) -> Iterator[_Child]:
    """The children of a process that run, and theirs."""
    for child in _children(process):
        fields = _stat(child)
        if fields is None:  # it has ended
            continue
        ticks = sum(int(field) for field in fields[11:15])  # its own, and those of children that it has waited for
        yield _Child(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
        yield from _running(child)


def _children(process: int) -> Iterable[int]:
    threads: list[str] = []
    with suppress(OSError):
        threads = os.listdir(f"/proc/{process}/task")  # noqa: PTH208 - of names alone, each second
    for thread in threads:
        yield from map(int, _content(PROC / str(process) / "task" / thread / "children").split())


def _stat(process: int) -> list[bytes] | None:
    """The fields behind the name, which may hold spaces and brackets: the first is the state."""
    content = _content(PROC / str(process) / "stat")
    return content.rpartition(b")")[2].split() or None


def _content(path: Path) -> bytes:
    """Empty where there is no such file."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
