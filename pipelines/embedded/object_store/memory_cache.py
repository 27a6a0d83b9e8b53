"""Swift middleware that remembers accounts and buckets in memory, where Swift wants a memcached server.

Without a cache Swift asks the account server and the container server about every request before it works on it.
One process answers all requests (see `create_once`), so a dict in that process is right: nobody else changes what
it remembers. It runs in the object store's own environment, so it imports the standard library alone.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

MAX_ENTRIES = 10_000


class Memory:
    """Keys to JSON texts, each with the time at which it is forgotten; past `max_entries` the oldest written goes.

    Every operation counts up `moment`. A key that is deleted keeps the moment of its deletion, so that what was found
    out earlier about it is not remembered (see `RequestCache.set`); past `max_entries` such moments, the oldest is
    let go and counts for every key.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.RLock()
        self.moment = 0
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._deleted: OrderedDict[str, int] = OrderedDict()
        self._deleted_before = 0

    def read(self, key: str) -> Any:
        """A copy of the value, None when there is none."""
        with self.lock:
            text, end = self._entries.get(key, ("null", 0.0))
            if end < self._clock():
                self._entries.pop(key, None)
                return None
        return json.loads(text)

    def write(self, key: str, value: Any, seconds: float) -> None:
        """Remember a value that JSON can write; 0 seconds: until it has to make room."""
        text = json.dumps(value.decode() if isinstance(value, bytes) else value)
        with self.lock:
            self.moment += 1
            self._entries.pop(key, None)
            self._entries[key] = text, self._clock() + seconds if seconds else float("inf")
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def delete(self, key: str) -> None:
        """Forget a key, and whatever is still on its way about it."""
        with self.lock:
            self.moment += 1
            self._entries.pop(key, None)
            self._deleted.pop(key, None)
            self._deleted[key] = self.moment
            if len(self._deleted) > self._max_entries:
                _, self._deleted_before = self._deleted.popitem(last=False)

    def is_deleted_since(self, key: str, moment: int) -> bool:
        """Whether the key was, or may have been, deleted after `moment`."""
        return self._deleted.get(key, self._deleted_before) > moment


class RequestCache:
    """What one request sees of a `Memory`, with the methods and arguments of Swift's memcached client.

    A bucket that is deleted or made while another request looks at it must not be remembered as it was before: a value
    is dropped when its key was deleted since this request began. `end` deletes again what the request deleted,
    since Swift forgets a bucket just before it deletes it.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._began = memory.moment
        self._deleted: set[str] = set()

    def get(self, key: str, raise_on_error: bool = False) -> Any:
        return self._memory.read(key)

    def set(
        self,
        key: str,
        value: Any,
        serialize: bool = True,
        time: float = 0,
        min_compress_len: int = 0,
        raise_on_error: bool = False,
    ) -> None:
        with self._memory.lock:
            if not self._memory.is_deleted_since(key, self._began):
                self._memory.write(key, value, time)

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """The new value; memcached's numbers never fall below 0."""
        with self._memory.lock:
            value: int = max(0, int(self._memory.read(key) or 0) + int(delta))
            self._memory.write(key, value, time)
            return value

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        return self.incr(key, -delta, time)

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._memory.delete(key)
        self._deleted.add(key)

    def set_multi(
        self,
        mapping: Mapping[str, Any],
        server_key: str,
        serialize: bool = True,
        time: float = 0,
        min_compress_len: int = 0,
    ) -> None:
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: Sequence[str], server_key: str) -> list[Any]:
        return [self.get(key) for key in keys]

    def end(self) -> None:
        """The request has done its work."""
        for key in self._deleted:
            self._memory.delete(key)


class MemoryCache:
    """WSGI middleware around `app`."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._memory = Memory()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        cache = environ["swift.cache"] = RequestCache(self._memory)
        try:
            return self.app(environ, start_response)
        finally:
            cache.end()


def filter_factory(_global_conf: dict[str, str], **_local_conf: str) -> Callable[[App], App]:
    """Entry point for PasteDeploy."""
    return MemoryCache
