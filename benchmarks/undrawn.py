"""Pages without pictures, for whoever makes many and looks at none: they are most of what a page costs."""

from __future__ import annotations

from collections.abc import Callable


def draw_nothing(put: Callable[[object, str, object], None] = setattr) -> None:
    """Pictures are composed, and neither laid out nor written; `put`: replaces an attribute, as `setattr` does."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    put(ConstrainedLayoutEngine, "execute", lambda *_: None)
    put(Figure, "savefig", lambda _, file, **__: file.write("<svg ></svg>"))
