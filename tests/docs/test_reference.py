"""The reference is whole: settings, environment variables, kinds of decisions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docs.contract import ENVIRONMENT
from docs.settings import undescribed
from pipelines.artifacts import LEDGER_KINDS
from pipelines.problem import ROOT

# Set by Evergreen for processes that it starts itself, and by nobody else.
INTERNAL = {"EVERGREEN_SERVICE", "EVERGREEN_SUPERVISED"}


def sources(*folders: str) -> Iterator[str]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.read_text()


def test_each_setting_says_what_it_is() -> None:
    assert undescribed() == [], "give the field a description (pipelines/config)"


def test_each_environment_variable_is_in_the_reference() -> None:
    code = "\n".join(sources("pipelines", "include", "dags", "plugins"))
    named = set(re.findall(r"\bEVERGREEN_[A-Z_]*[A-Z]\b", code)) - INTERNAL
    assert named == {name for name in ENVIRONMENT if name.startswith("EVERGREEN_")}, "docs/contract.py lists them"


def test_each_kind_of_decision_is_in_the_reference() -> None:
    recorded = re.compile(
        r"ledger\.record\((?:[^()]|\([^()]*\))*?kind=\"(\w+)\"|\"kind\": \"(\w+)\",\n\s+\"partition\""
    )
    kinds = {first or second for text in sources("pipelines") for first, second in recorded.findall(text)}
    assert len(kinds) >= 8
    assert kinds | {"rollout"} == set(LEDGER_KINDS), "pipelines/artifacts.py lists them"
