"""The registry's aliases without MLflow: which version serves, and which one wants to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import tracking
from pipelines.problem import Problem


class Aliases:
    """Version 3 serves, and version 4 wants to."""

    def __init__(self, champion: str | None = "3", challenger: str = "4") -> None:
        self.champion, self.challenger = champion, challenger

    def install(self, patch: pytest.MonkeyPatch) -> Aliases:
        for name in ("promote", "leave", "challenge"):
            patch.setattr(tracking, name, getattr(self, name))
        for name in ("serving", "champion"):
            patch.setattr(tracking, name, self.version)
        return self

    def promote(self, problem: Problem, version: str) -> str | None:
        before, self.champion = self.champion, version
        return None if before == version else before

    def leave(self, problem: Problem, version: str) -> None:
        self.challenger = "" if self.challenger == version else self.challenger

    def challenge(self, problem: Problem, version: str) -> None:
        self.challenger = version

    def version(self, problem: Problem) -> Any:
        if self.champion is None:
            return None
        return SimpleNamespace(version=self.champion, run_id=f"run of {self.champion}")
