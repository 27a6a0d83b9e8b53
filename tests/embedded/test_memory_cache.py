"""What the object store remembers of accounts and buckets: for how long, how much, and what never."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipelines.embedded.object_store.memory_cache import Memory, RequestCache, filter_factory


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> Memory:
    return Memory(max_entries=3, clock=clock)


def test_values_are_kept_for_their_time(memory: Memory, clock: Clock) -> None:
    cache = RequestCache(memory)
    cache.set("short", {"status": 200}, time=60)
    cache.set("long", [1, "two"])
    clock.now += 59
    assert RequestCache(memory).get("short") == {"status": 200}
    clock.now += 2
    assert cache.get("short", raise_on_error=True) is None
    assert cache.get("long") == [1, "two"]
    assert cache.get("never") is None


def test_what_a_reader_changes_is_its_own(memory: Memory) -> None:
    cache, info = RequestCache(memory), {"meta": {"a": "b"}}
    cache.set("key", info)
    info["meta"]["a"] = "changed by the writer"
    cache.get("key")["meta"]["a"] = "changed by a reader"
    assert cache.get("key") == {"meta": {"a": "b"}}


def test_several_at_once(memory: Memory, clock: Clock) -> None:
    cache = RequestCache(memory)
    cache.set_multi({"a": 1, "b": b"text"}, "server", time=10)
    assert cache.get_multi(["a", "b", "c"], "server") == [1, "text", None]
    clock.now += 11
    assert cache.get_multi(["a", "b", "c"], "server") == [None, None, None]


def test_numbers_count_and_do_not_fall_below_nothing(memory: Memory, clock: Clock) -> None:
    cache = RequestCache(memory)
    assert [cache.incr("n"), cache.incr("n", delta=4), cache.decr("n", 2)] == [1, 5, 3]
    assert cache.decr("n", delta=10) == 0
    assert cache.incr("timed", 2, time=5) == 2
    clock.now += 6
    assert cache.incr("timed", 2, time=5) == 2


def test_it_is_bounded_and_the_oldest_goes(memory: Memory) -> None:
    cache = RequestCache(memory)
    for number in range(5):
        cache.set(str(number), number)
    assert [cache.get(str(number)) for number in range(5)] == [None, None, 2, 3, 4]


def test_what_was_found_out_before_a_deletion_is_not_remembered(memory: Memory) -> None:
    early, deleting = RequestCache(memory), RequestCache(memory)
    deleting.delete("bucket")
    early.set("bucket", {"status": 200})
    assert early.get("bucket") is None
    early.set("another", 1)
    assert early.get("another") == 1
    late = RequestCache(memory)
    late.set("bucket", {"status": 404})
    assert late.get("bucket") == {"status": 404}


def test_what_is_found_out_while_a_bucket_is_deleted_is_forgotten_when_it_is(memory: Memory) -> None:
    """Swift forgets a bucket before it deletes it: who asks in between is told that it is there."""
    deleting = RequestCache(memory)
    deleting.delete("bucket")
    between, later = RequestCache(memory), RequestCache(memory)
    between.set("bucket", {"status": 200})
    deleting.end()
    later.set("bucket", {"status": 200})
    assert RequestCache(memory).get("bucket") is None


def test_many_deletions_keep_a_slow_request_from_remembering(memory: Memory) -> None:
    slow = RequestCache(memory)
    for number in range(5):
        RequestCache(memory).delete(str(number))
    slow.set("0", "out of date")
    assert slow.get("0") is None
    quick = RequestCache(memory)
    quick.set("0", "of now")
    assert quick.get("0") == "of now"


def test_threads_lose_no_count() -> None:
    memory = Memory()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: RequestCache(memory).incr("n"), range(4000)))
    assert RequestCache(memory).get("n") == 4000


@pytest.mark.parametrize("fails", [False, True])
def test_requests_share_a_memory_and_each_ends_what_it_deleted(fails: bool) -> None:
    caches: list[Any] = []

    def app(environ: dict[str, Any], _start: Callable[..., Any]) -> Iterable[bytes]:
        cache = environ["swift.cache"]
        caches.append(cache)
        if environ["REQUEST_METHOD"] == "DELETE":
            cache.delete("bucket")
            wrapped({"REQUEST_METHOD": "HEAD"}, lambda *_: None)
            if fails:
                raise OSError("disk")
        else:
            cache.set("bucket", {"status": 200})
        return []

    wrapped = filter_factory({})(app)
    wrapped({"REQUEST_METHOD": "HEAD"}, lambda *_: None)
    assert caches[0].get("bucket") == {"status": 200}
    try:
        wrapped({"REQUEST_METHOD": "DELETE"}, lambda *_: None)
    except OSError:
        assert fails
    assert caches[0].get("bucket") is None
