"""Swift middleware that makes `PUT` with `If-None-Match: *` create an object exactly once.

Swift looks whether the object exists and then writes it; two writers that look at once both win, and a table
format that commits by this header loses a commit. This filter stands in front of s3api in the only proxy
process and lets such requests for one path through one at a time. It runs in the object store's own
environment, so it imports the standard library alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

# Two paths that share a turn only wait for each other; a path never has two.
TURNS = 256


class CreateOnce:
    """WSGI middleware around `app`."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._turns = [threading.Lock() for _ in range(TURNS)]

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" not in environ or environ["REQUEST_METHOD"] not in ("PUT", "POST"):
            return self.app(environ, start_response)
        with self._turns[hash(environ["PATH_INFO"]) % TURNS]:
            answer = self.app(environ, start_response)
            try:
                return list(answer)
            finally:
                if hasattr(answer, "close"):
                    answer.close()


def filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Callable[[App], App]:
    """Entry point for PasteDeploy."""
    return CreateOnce
