"""What pictures of a monitoring page show, by the words in them."""

from __future__ import annotations

from pipelines.monitoring.page.plots import estimates, timeline

WEEKS = [f"week {number}" for number in range(6)]


def shown(picture: str | None) -> list[str]:
    return [week for week in WEEKS if week in (picture or "")]


def test_a_picture_begins_with_the_first_partition_of_which_it_shows_something() -> None:
    values = dict(zip(WEEKS, [None, float("nan"), 0.5, None, 0.6, 0.7], strict=True))
    assert shown(timeline("t", "T", WEEKS, values, None, WEEKS[5:])) == WEEKS[2:]
    assert shown(estimates("e", "E", WEEKS, {WEEKS[4]: (0.5, 0.4, 0.6)}, {WEEKS[3]: 0.5}, WEEKS[4:])) == WEEKS[3:]
    assert timeline("t", "T", WEEKS, dict.fromkeys(WEEKS), None, WEEKS) is None
