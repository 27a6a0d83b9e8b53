"""Where what is kept of each problem lies in the store, and how a server reads it.

All problems' files lie in one folder, a small one and a long one each: `_health/<problem>/health.json`, `history.json`.
Nothing rests on them: what is lost is derived anew by the next run, or by `evergreen status`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

from pydantic import ValidationError

from pipelines import store
from pipelines.health.document import FORMAT, Health, History

FOLDER = "_health"  # no problem is called so
HEALTH, HISTORY = "health.json", "history.json"
FETCHED_AT_ONCE = 16
HISTORIES = 16  # in memory

K = TypeVar("K", Health, History)


def kept_uri(problem_name: str, name: str) -> str:
    return store.store_uri(FOLDER, problem_name, name)


def find(kind: type[K], problem_name: str) -> K | None:
    """What is kept of a problem; None where nothing is, or another version of this code has kept it in another form."""
    content = store.find_bytes(kept_uri(problem_name, HEALTH if kind is Health else HISTORY))
    if content is None:
        return None
    try:
        parsed = kind.model_validate_json(content)
    except ValidationError:
        return None
    return parsed if parsed.format == FORMAT else None


class _Read(NamedTuple, Generic[K]):
    """What was read, and the stamp that the listing had of it."""

    stamp: str
    content: K | None


class Shelf:
    """What is kept of all problems, as one process reads it: each look lists the folder, and fetches what has changed.

    Each process has its own, and none is behind the store.
    """

    def __init__(self) -> None:
        self._healths: dict[str, _Read[Health]] = {}
        self._histories: OrderedDict[str, _Read[History]] = OrderedDict()
        self._turn = threading.Lock()

    def healths(self) -> dict[str, Health]:
        """How the problems stand of which anything is kept, by name."""
        with self._turn:
            stamps = _stamps(HEALTH)
            unchanged = {name: read for name, read in self._healths.items() if stamps.get(name) == read.stamp}
            changed = [name for name in stamps if name not in unchanged]
            with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
                contents = list(pool.map(lambda name: find(Health, name), changed))
            fetched = {name: _Read(stamps[name], content) for name, content in zip(changed, contents, strict=True)}
            self._healths = unchanged | fetched
            return self.last_read()

    def last_read(self) -> dict[str, Health]:
        """The same as of the last look, for when the store does not answer."""
        return {name: read.content for name, read in self._healths.items() if read.content is not None}

    def history(self, problem_name: str) -> History | None:
        """How a problem came to stand as it does; None where nothing is kept of it."""
        with self._turn:
            stamp = _stamps(HISTORY, problem_name).get(problem_name)
            read = self._histories.pop(problem_name, None)
            if stamp is None:
                return None
            if read is None or read.stamp != stamp:
                read = _Read(stamp, find(History, problem_name))
            self._histories[problem_name] = read
            while len(self._histories) > HISTORIES:
                self._histories.popitem(last=False)
            return read.content


def _stamps(name: str, *within: str) -> dict[str, str]:
    """The stamp of each problem's file of a name; `within`: of that problem alone."""
    folder = f"{store.store_uri(FOLDER)}/"
    files = {file.uri.removeprefix(folder): file.stamp for file in store.listing(store.store_uri(FOLDER, *within))}
    return {path.removesuffix(f"/{name}"): stamp for path, stamp in files.items() if path.endswith(f"/{name}")}
