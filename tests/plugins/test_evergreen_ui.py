"""The plugin registers pages that exist, and builds them only where they are served."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from airflow._shared.plugins_manager import is_valid_plugin
from starlette.routing import Match

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


def test_registers_what_the_app_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PLUGINS)
    from evergreen_ui import EvergreenUI

    assert is_valid_plugin(EvergreenUI)
    [mounted] = EvergreenUI().fastapi_apps
    assert [(view["name"], view["destination"]) for view in EvergreenUI.external_views] == [
        ("Health", "nav"),
        ("Evidence", "dag_run"),
    ]
    for view in EvergreenUI.external_views:
        path = view["href"].removeprefix(mounted["url_prefix"]).format(DAG_ID="p.train", RUN_ID="manual__1")
        scope = {"type": "http", "method": "GET", "path": path}
        assert any(route.matches(scope)[0] is Match.FULL for route in mounted["app"].routes)


def test_loading_it_builds_no_app() -> None:
    code = "import sys, evergreen_ui; sys.exit('include.evidence_app' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PLUGINS, check=False).returncode == 0
