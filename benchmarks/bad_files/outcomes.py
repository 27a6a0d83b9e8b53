"""What became of a kind of file."""

from __future__ import annotations

from typing import NamedTuple

MOST_MB, MOST_CPU_S = 512, 30
GOOD = ("read", "refused")


class Outcome(NamedTuple):
    """What became of one kind of file."""

    name: str
    format: str
    verdict: str
    """read, refused, or what is wrong: crashed, traceback, rows lost, without a name, slow, large"""
    detail: str
    mb: float
    """above what a process had before it began, of the one that took most"""
    cpu_s: float
    """of all"""

    def then(self, later: Outcome) -> Outcome:
        """This one and what came of the next job."""
        return later._replace(mb=max(self.mb, later.mb), cpu_s=self.cpu_s + later.cpu_s)
