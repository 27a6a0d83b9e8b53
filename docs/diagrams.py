"""Mermaid diagrams as pictures: zensical.toml names `svg` for the fences that are called `mermaid`.

The theme would have browsers fetch Mermaid from another host. GitHub draws the same fences by itself.
"""

from __future__ import annotations

import hashlib
from typing import Any

import mmdr

# Texts are SVG, not HTML inside it, so that they keep within their boxes in every browser. Colours come from
# docs/assets/site.css, which knows light and dark.
SETTINGS = (
    '%%{init: {"look": "classic", "theme": "base", "fontFamily": "system-ui, sans-serif", "flowchart": '
    '{"htmlLabels": false, "wrappingWidth": 300, "nodeSpacing": 30, "rankSpacing": 35, "useMaxWidth": true}}}%%\n'
)


def svg(source: str, language: str, css_class: str, options: dict[str, str], md: object, **_: Any) -> str:
    """A diagram as SVG within the page; the parameters are those that pymdown's superfences give.

    >>> picture = svg("flowchart LR\\n a --> b", "mermaid", "diagram", {}, None)
    >>> picture.startswith('<div class="diagram"><svg id="diagram-'), "http://www.w3.org" in picture
    (True, True)
    """
    name = f"diagram-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    drawn = mmdr.render(SETTINGS + source).svg().replace("merman", name)
    return f'<div class="{css_class}">{drawn}</div>'
