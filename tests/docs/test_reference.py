"""The reference is whole: settings, environment variables, kinds of decisions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docs.contract import ENVIRONMENT
from docs.settings import paths, undescribed
from pipelines.artifacts import LEDGER_KINDS
from pipelines.problem import ROOT
from tests.docs.blocks import PAGES

# Set by Evergreen for processes that it starts itself, and by nobody else.
INTERNAL = {"EVERGREEN_SERVICE", "EVERGREEN_SUPERVISED", "EVERGREEN_WORKER_SECRET"}


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


def test_each_setting_that_a_page_names_exists() -> None:
    """Such as `gate.ties_pass`: what begins as a section does, and is no file and no stage of the DAG `release`."""
    known = re.compile("|".join(_pattern(path) for path in paths()))
    sections = sorted({path.partition(".")[0] for path in paths() if "." in path})
    assert {"gate", "monitoring", "training"} <= set(sections)
    named = re.compile(rf"`((?:{'|'.join(sections)})(?:\.\w+)+)`")
    others = re.compile(r".*\.(sql|json|html|py)|release\.(assess|ask|step)")
    missing = {
        f"{page.relative_to(ROOT)}: {setting}"
        for page in PAGES
        for setting in named.findall(page.read_text())
        if not known.fullmatch(setting) and not others.fullmatch(setting)
    }
    assert missing == set()


def _pattern(path: str) -> str:
    """A setting's path in which names that people choose are any.

    >>> re.fullmatch(_pattern("sources.<name>.path"), "sources.weather.path") is not None
    True
    """
    return re.escape(path).replace("<name>", r"\w+").replace(r"\[\]", "")
