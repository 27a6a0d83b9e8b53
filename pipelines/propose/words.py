"""Words in the names of columns and among their values, and what they hint at. English, as most tables are."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


HAPPENS = _words(
    "created opened placed ordered start started begin occurred submitted received reported requested date time "
    "timestamp datetime ts day when event at"
)
"""Times: of the event itself."""
BEFORE = _words(
    "birth dob birthday birthdate signup registered registration since hired hire built manufactured joined born "
    "enrolled last previous prior first"
)
"""Times: long before it."""
BIRTHS = _words("birth dob birthday birthdate born")
"""Times: never of an event of one who is there to be asked about."""
AFTER = _words(
    "closed close resolved resolution end ended finished finish completed completion delivered returned refunded "
    "updated modified changed paid cancelled canceled settled shipped arrived done until churned deleted answered stop"
)
"""Times: of what follows from it."""
PLANNED = _words("due scheduled sched planned expected promised deadline expires expiry target estimated")
"""Times: later, but known before."""
TIMES = _words("date time timestamp ts epoch at created day datetime when")
"""Numbers of that size are times."""
MONTHS = _words("month yearmonth yyyymm ym period")
DATES = _words("date datetime")
"""Numbers like 202401, or like 45000, are times."""
AFTERWARDS = _words(
    "resolution resolved closed outcome refund refunded actual final settled settlement chargeback postmortem winner"
)
"""Values that are known after the event."""
YEAR, MONTH, DAY = _words("year yr yyyy"), _words("month mon mm mo"), _words("day dd dom mday")
QUARTER = _words("quarter qtr")
PERIODS = YEAR | MONTH | QUARTER | _words("wave week period round season")
HOUR, MINUTE = _words("hour hr hh"), _words("minute min")
ZONE = _words("timezone tz zone")
UTC_WORDS = _words("utc gmt z")
IDS = _words("id key uuid guid no nr number num code index rownames row rowid ref")
"""Names of things, be they numbers or not."""
COUNTS = _words(
    "count number num n qty quantity amount total age days hours minutes price cost duration length size sum births "
    "calls visits sales demand trips rides"
)
"""Few different whole numbers of these are numbers still, and no classes."""
POSITIVE = _words(
    "yes y true t 1 positive pos fraud churn churned late default defaulted bad spam failed failure fail success "
    "converted died dead sick malignant returned cancelled canceled won bought clicked exited left delayed survived "
    ">50k high attack abnormal"
)
"""Of two values the one that is asked for."""


def name_a_thing(name: str) -> bool:
    """Whether numbers of that name are names of things, not amounts; a number at the front of a name counts.

    >>> [name_a_thing(name) for name in ("customer_id", "flight_num", "num_pending", "no_of_calls", "price_index")]
    [True, True, False, False, False]
    """
    words = name.split("_")
    is_last = words[-1] in IDS and (len(words) == 1 or words[-1] != "index")
    return is_last or (bool(of(name) & (IDS - COUNTS - {"index", "no", "nr"})) and words[0] not in COUNTS)


def of(name: str) -> set[str]:
    """The words of a name.

    >>> sorted(of("order_id"))
    ['id', 'order']
    """
    return set(name.split("_"))
