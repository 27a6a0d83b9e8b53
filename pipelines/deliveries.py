"""Deliveries: which have come, in which order, and when. The ledger remembers them, each once.

A delivery gets its number when it is first looked at, and keeps it: so that keys sort as they came, whatever comes
later, and a run of an old one reads what it read before. What a source holds is compared with that by name; where a
source is one file, which is overwritten by the next delivery, by its content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pipelines import ledger
from pipelines.errors import ConfigError
from pipelines.handoffs.ingestion import Delivery

if TYPE_CHECKING:
    from pipelines.problem import Problem

SHOWN = 5


class Offer(NamedTuple):
    """What a source holds of one delivery."""

    name: str
    """Of its file, of its value in `partitions.column`, or of the source where that is one delivery as a whole."""
    stamp: str
    """What tells without reading it that it has not changed, such as size and date; of no other use."""
    content: Callable[[], str]
    """Hash of what it holds."""


class Offered(NamedTuple):
    """What a source holds."""

    offers: list[Offer]
    """In the order in which they are numbered."""
    is_overwritten: bool
    """Whether the source holds one delivery at a time, which the next one takes the place of."""


class Look(NamedTuple):
    """What a source holds beside what is remembered."""

    deliveries: dict[str, Delivery]
    """All that have come, by key, as they were when they came or were last ingested."""
    new: list[str]
    """Keys of those that were not known before."""
    changed: dict[str, Delivery]
    """Those that hold something else than then, as they are now, by key."""
    gone: list[str]
    """Keys of those that are not there any more."""


def registered(problem: Problem) -> dict[str, Delivery]:
    """All deliveries that have come, by key, in their order."""
    deliveries: dict[str, Delivery] = {}
    for row in ledger.decisions(problem, "delivery"):
        evidence, key = row["evidence"], row["partition"]
        before = deliveries.get(key)
        came = before.came if before else row["decided_time"]
        deliveries[key] = Delivery(key, evidence["name"], evidence["stamp"], evidence["content"], came)
    return dict(sorted(deliveries.items()))


def numbered(problem: Problem, offers: Sequence[Offer]) -> dict[str, Delivery]:
    """The deliveries of a source as they would be numbered if none had come before; nothing is kept."""
    parts = problem.partitions
    keys = [parts.shift(parts.first_key, place) for place in range(len(offers))]
    return {key: Delivery(key, offer.name, offer.stamp, "", None) for key, offer in zip(keys, offers, strict=True)}


def look(problem: Problem, offered: Offered) -> Look:
    """Number what has come since the last look, and compare the rest with what came.

    Safe to repeat, and while another look goes on: a number is given once.
    """
    before = registered(problem)
    deliveries = before
    while missing := [offer for offer in offered.offers if _known(offer, deliveries, offered.is_overwritten) is None]:
        parts = problem.partitions
        next_key = parts.shift(max(deliveries), 1) if deliveries else parts.first_key
        came = [
            Delivery(parts.shift(next_key, place), offer.name, offer.stamp, offer.content(), None)
            for place, offer in enumerate(missing)
        ]
        ledger.record_all(problem, [_entry(delivery, delivery.key, "came") for delivery in came])
        deliveries = registered(problem)
    changed, there = {}, set()
    for offer in offered.offers:
        delivery = _known(offer, deliveries, offered.is_overwritten)
        assert delivery is not None
        there.add(delivery.key)
        is_same = offered.is_overwritten or offer.stamp == delivery.stamp or offer.content() == delivery.content
        if not is_same:
            changed[delivery.key] = delivery._replace(stamp=offer.stamp, content=offer.content())
    gone = [] if offered.is_overwritten else [key for key in deliveries if key not in there]
    return Look(deliveries, [key for key in deliveries if key not in before], changed, gone)


def taken_in(problem: Problem, deliveries: Sequence[Delivery]) -> None:
    """Remember what changed deliveries hold, once they are ingested again, or refused again."""
    if not deliveries:
        return
    entries = Counter(row["partition"] for row in ledger.decisions(problem, "delivery"))
    ledger.record_all(problem, [_entry(each, f"{each.key}:{entries[each.key]}", "changed") for each in deliveries])


def named(problem: Problem, text: str) -> str:
    """The key of the delivery that a person means by its key or its name.

    Raises:
        ConfigError: none of the deliveries that have come is called so.
    """
    deliveries = registered(problem)
    for key, delivery in deliveries.items():
        if text in (key, delivery.name):
            return key
    raise ConfigError(
        f"no delivery {text!r} has come",
        where=f"problem {problem.name}",
        cure=f"those that have: {in_words(list(deliveries.values()))}; `evergreen run ingest {problem.name}` looks for "
        "new ones",
    )


def key_of(problem: Problem, text: str) -> str:
    """The key of the partition that a person means: of a delivery, which may be named by its name, or `text` itself."""
    return named(problem, text) if problem.partitions.by_delivery else text


def require_partition(problem: Problem, key: str, *, may_come: bool = False) -> None:
    """Let no key pass that is none of the problem's: of another form or rhythm, outside of its time, of no delivery.

    `may_come`: a delivery that has not come yet passes, too.

    Raises:
        ConfigError: it is none; the message says which there are.
    """
    partitions = problem.partitions
    partitions.parse(key)
    if partitions.by_delivery:
        if not may_come:
            named(problem, key)
    elif not partitions.holds(key):
        last = f"end with {partitions.last_key}" if partitions.last_key else "have no last one"
        raise ConfigError(
            f"{key} is none of the problem's partitions",
            where=f"problem {problem.name}, partitions",
            cure=f"they begin with {partitions.first_key} and {last}; name one of them, or correct first or last",
        )


def require(problem: Problem, known: dict[str, Delivery], keys: Sequence[str]) -> None:
    """Raises ConfigError where one of the partitions `keys` is a delivery that has not come."""
    for key in keys:
        if key not in known:
            raise ConfigError(
                f"the delivery {key} has not come",
                where=f"problem {problem.name}, source {problem.delivered}",
                cure=f"those that have: {in_words(list(known.values()))}; put the next one there, and run ingest again",
            )


def shown(problem: Problem, key: str) -> str:
    """A partition as a person knows it: of deliveries with their name."""
    if not problem.partitions.by_delivery:
        return key
    delivery = registered(problem).get(key)
    return f"{key} ({delivery.name})" if delivery else key


def in_words(deliveries: Sequence[Delivery]) -> str:
    """Deliveries with their names, the newest last; of many the newest alone.

    >>> in_words([Delivery(f"d0000{n}", f"{n}.csv", "", "", None) for n in (1, 2)])
    'd00001 (1.csv), d00002 (2.csv)'
    """
    if not deliveries:
        return "none"
    shown = ", ".join(f"{delivery.key} ({delivery.name})" for delivery in deliveries[-SHOWN:])
    return f"{len(deliveries) - SHOWN} more, {shown}" if len(deliveries) > SHOWN else shown


def _known(offer: Offer, deliveries: dict[str, Delivery], is_overwritten: bool) -> Delivery | None:
    if not is_overwritten:
        return next((delivery for delivery in deliveries.values() if delivery.name == offer.name), None)
    if not deliveries:
        return None
    newest = deliveries[max(deliveries)]
    is_same = offer.stamp == newest.stamp or offer.content() == newest.content
    return newest if is_same else None


def _entry(delivery: Delivery, decision: str, verdict: str) -> ledger.Entry:
    return {
        "decision": f"delivery:{decision}",
        "kind": "delivery",
        "partition": delivery.key,
        "verdict": verdict,
        "action": "numbered" if verdict == "came" else "ingested again",
        "reason": delivery.name,
        "evidence": {"name": delivery.name, "stamp": delivery.stamp, "content": delivery.content},
    }
