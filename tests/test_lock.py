"""uv.lock: what an install gets, on every Python that is supported."""

from __future__ import annotations

import tomllib
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipelines.problem import ROOT

LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
PACKAGES: list[dict[str, Any]] = LOCK["package"]
EVERGREEN = next(package for package in PACKAGES if package["name"] == "evergreen")


def dependencies(package: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [package.get("optional-dependencies", {}), package.get("dev-dependencies", {})]
    return [*package.get("dependencies", []), *(one for group in groups for names in group.values() for one in names)]


@pytest.mark.parametrize("build", ["xgboost-cpu", "xgboost"])
def test_every_supported_python_gets_the_same_xgboost(build: str) -> None:
    locked = [package for package in PACKAGES if package["name"] == build]
    assert [package["version"] for package in locked] == ["3.2.0"]
    assert "resolution-markers" not in locked[0], "it is locked for some Pythons only"


def test_no_python_gets_libraries_for_several_gpus() -> None:
    for package in PACKAGES:
        for needed in dependencies(package):
            if needed["name"].startswith("nvidia"):
                assert needed.get("marker") == "sys_platform == 'never'", f"{package['name']} brings {needed['name']}"


def test_xgboost_without_a_gpu_is_the_default_and_its_other_build_an_extra_in_its_place() -> None:
    default = {one["name"]: one.get("marker") for one in EVERGREEN["dev-dependencies"]["cpu"]}
    assert default == {"xgboost-cpu": "sys_platform != 'darwin'", "xgboost": "sys_platform == 'darwin'"}
    assert "cpu" in EVERGREEN["default-groups"]
    assert [one["name"] for one in EVERGREEN["optional-dependencies"]["gpu"]] == ["xgboost"]
    both = [{"package": "evergreen", "extra": "gpu"}, {"package": "evergreen", "group": "cpu"}]
    assert both in LOCK["conflicts"], "both write the package xgboost"
    assert not {"xgboost", "xgboost-cpu"} & {one["name"] for one in EVERGREEN["dependencies"]}


def test_the_lock_names_public_addresses_only() -> None:
    registries = {package["source"].get("registry") for package in PACKAGES} - {None}
    assert registries == {"https://pypi.org/simple"}
    files = [
        one["url"] for package in PACKAGES for one in [*package.get("wheels", []), package.get("sdist", {})] if one
    ]
    assert {urlsplit(url).netloc for url in files} == {"files.pythonhosted.org"}
