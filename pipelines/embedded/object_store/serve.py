"""Run Swift's four servers in one process, of which only the proxy listens, in the object store's own environment.

python serve.py FOLDER, where FOLDER has their configuration.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from swift.common import utils, wsgi  # type: ignore[import-not-found]
from swift.obj.updater import ObjectUpdater  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from pipelines.embedded.object_store.in_process import App, replace_http
    from pipelines.embedded.object_store.rings import SERVERS
else:
    from in_process import App, replace_http
    from rings import SERVERS


def load(etc: Path, kind: str) -> tuple[App, Mapping[str, str]]:
    """The app of a server, and its configuration; its log goes where this process's output goes."""
    app, configuration, *_ = wsgi.init_request_processor(str(etc / f"{kind}.conf"), f"{kind}-server", verbose=True)
    return app, configuration


def bring_listings_up_to_date(configuration: Mapping[str, str]) -> None:
    """Put into the listings of buckets what an unclean end kept out of them."""
    for device in Path(configuration["devices"]).iterdir():
        if any(device.glob("async_pending*/*/*")):
            ObjectUpdater(configuration).object_sweep(str(device))


def main(etc: Path) -> int:
    """Serve until a signal ends the process."""
    utils.monkey_patch()
    loaded = {kind: load(etc, kind) for kind in SERVERS}
    replace_http({SERVERS[kind]: app for kind, (app, _) in loaded.items()})
    bring_listings_up_to_date(loaded["object"][1])
    status: int = wsgi.run_wsgi(str(etc / "proxy.conf"), "proxy-server", verbose=True)
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
