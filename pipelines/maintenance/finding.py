"""What the doctor says: a finding has a name, a place and a cure; and there is what could not be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipelines.errors import AccessError, EvergreenError, NothingToDo, TransientError


class Finding(NamedTuple):
    """Two things that ought to agree and do not, or one that is not as it has to be."""

    name: str
    """What kind of fault it is, in a few words that never change."""
    where: str
    what: str
    cure: str


class Unchecked(NamedTuple):
    """What could not be looked at, and what to do so that it can."""

    where: str
    what: str
    cure: str


Said = Finding | Unchecked
Check = Callable[[], Iterator[Said]]


def examined(check: Check, where: str) -> Iterator[Said]:
    """What a check says. One that ends in an error says that: what was to be looked at cannot even be read."""
    try:
        yield from check()
    except NothingToDo:
        return
    except TransientError as error:
        yield Unchecked(error.where or where, error.what, error.cure)
    except AccessError as error:
        yield Finding("credentials refused", error.where or where, error.what, error.cure)
    except EvergreenError as error:
        yield Finding("unreadable", error.where or where, error.what, error.cure)
    except Exception as error:  # a file that is none of its kind: each reader has errors of its own
        cure = "bring the file back from a backup, or run the stage again that writes it"
        yield Finding("unreadable", where, f"a file is not what it has to be: {error!r}", cure)
