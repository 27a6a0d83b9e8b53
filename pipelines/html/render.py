"""render: a page's data and its template, in `templates/`, become one HTML file that needs nothing else.

Every value is escaped, unless it is `Markup` (a picture of `plots`); a name that the data lack is an error.
"""

from __future__ import annotations

import re
from functools import cache, partial
from typing import TYPE_CHECKING

from pipelines.config import plural
from pipelines.html import columns
from pipelines.html.wording import figure, percent, whole_dates

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, title: str, page: object) -> bytes:
    """The page `title`, drawn by `template`, which knows its data as `page`; equal data give equal bytes.

    `page` is plain data, a dataclass or a NamedTuple of the module that the page belongs to.
    """
    drawn = _environment().get_template(template).render(title=title, page=page, headings=[])
    return drawn.encode()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # for tasks that draw a page alone

    environment = Environment(
        loader=PackageLoader("pipelines.html"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.do"],
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    filters = [slug, figure, percent, plural, whole_dates]
    environment.filters.update({filter_.__name__: filter_ for filter_ in filters}, zip=partial(zip, strict=True))
    environment.globals.update(
        text=columns.text,
        code=columns.code,
        number=columns.number,
        share=columns.share,
        interval=columns.interval,
        verdict=columns.verdict,
    )
    return environment


def slug(title: str) -> str:
    """A heading as the id of its section, which nothing else on a page begins with.

    >>> slug("What was left out, and why")
    'at-what-was-left-out-and-why'
    """
    return "at-" + re.sub(r"\W+", "-", title.lower()).strip("-")
