"""The one script of the Health page: it lets links to Airflow's own UI and to MLflow leave the frame.

Airflow shows the page in a frame that may open nothing beside it. The frame has Airflow's own address, so a link that
stands in Airflow's document for a moment is followed there. Nothing of the data is in the script, and the page's
policy allows it by its hash alone.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

from markupsafe import Markup

TEXT = """
addEventListener("click", (event) => {
  const link = event.target.closest("a[data-outside]");
  if (!link || parent === window) return;
  event.preventDefault();
  const outside = parent.document.createElement("a");
  outside.href = link.href;
  outside.rel = "noopener";
  if (event.ctrlKey || event.metaKey || new URL(link.href).origin !== location.origin) outside.target = "_blank";
  parent.document.body.append(outside);
  outside.click();
  outside.remove();
});
"""


class Script(NamedTuple):
    """`allowed`: what a policy's script-src names it by."""

    text: Markup
    allowed: str


SCRIPT = Script(
    Markup(TEXT),  # noqa: S704 - it is the text above
    f"sha256-{base64.b64encode(hashlib.sha256(TEXT.encode()).digest()).decode()}",
)
