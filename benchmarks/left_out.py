"""What costs much, left out where it is not what is looked at. `put` replaces an attribute, as `setattr` does."""

from __future__ import annotations

from collections.abc import Callable

Put = Callable[[object, str, object], None]
JUDGES = ("expectations", "batch_expectations")
"""Functions of `pipelines.ingest.expectations`."""


def draw_nothing(put: Put = setattr) -> None:
    """Pictures are composed, and neither laid out nor written: they are most of what a page costs."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    put(ConstrainedLayoutEngine, "execute", lambda *_: None)
    put(Figure, "savefig", lambda _, file, **__: file.write("<svg ></svg>"))


def judge_by_duckdb(put: Put = setattr) -> None:
    """Rules are judged once: Great Expectations, which costs a second or two an ingest, takes no part."""
    from pipelines.ingest import expectations

    for name in JUDGES:
        put(expectations, name, lambda *_, **__: [])
