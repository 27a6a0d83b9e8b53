"""What of a database is read: a table or the rows of a query."""

from __future__ import annotations

import re

from pipelines.config import Source
from pipelines.sql import quote


def selection(source: Source) -> str:
    """SQL of the rows of a source; each part of a table's name is quoted, unless it is already.

    >>> selection(Source(database="sqlite:///shop.db", table="public.Orders"))
    'SELECT * FROM "public"."Orders"'
    """
    if source.query:
        return source.query.strip().rstrip(";")
    parts = re.findall(r'"(?:[^"]|"")*"|[^."]+', source.table or "")
    return "SELECT * FROM " + ".".join(part if part.startswith('"') else quote(part) for part in parts)
