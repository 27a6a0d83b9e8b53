"""What the middlewares in front of Airflow's and MLflow's servers share: the words of ASGI, and an answer in JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

CLOSE: Header = (b"connection", b"close")
"""Of an answer to a request of which the rest may still be on its way."""


def json_answer(status: int, content: Mapping[str, object], *headers: Header) -> list[Message]:
    """The messages of an answer whose body is JSON."""
    body = json.dumps(content).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return [
        {"type": "http.response.start", "status": status, "headers": [*own, *headers]},
        {"type": "http.response.body", "body": body},
    ]
