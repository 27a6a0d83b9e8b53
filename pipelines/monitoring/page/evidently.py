"""report: Evidently's drift report as one HTML file, for people; the verdict does not depend on it."""

from __future__ import annotations

import unicodedata
import warnings

import numpy as np
import pyarrow as pa

from pipelines.errors import DataError
from pipelines.problem import Problem
from pipelines.profiles.profile import SCORE
from pipelines.vectors.measures import measured, measured_names

# The page's scripts are its own and inline; it loads nothing, and sends nothing on.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; worker-src blob:; base-uri 'none'; form-action 'none'"
)
SHIFTED_PSI = 0.25  # Siddiqi's major shift: what the report colours, and no verdict depends on


def evidently_report(current: pa.Table, reference: pa.Table, problem: Problem) -> bytes:
    """Compare the features (and `score` where both sides have it) by PSI, as `detect` does; of a text its length.

    The HTML (about 5 MB) carries its scripts, so it opens without a network. Importing Evidently takes 8 CPU
    seconds and a column 0.1; bound the rows with `sample`. A column that is empty on a side is left out.

    Raises:
        DataError: no column has values on both sides.
    """
    vectors = problem.vector_features
    current, reference = measured(current, vectors), measured(reference, vectors)
    shared = [
        name
        for name in (*measured_names(problem.feature_names, vectors), SCORE)
        if all(name in side.column_names for side in (current, reference))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, about each other
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

        frames = [side.select(shared).to_pandas().replace([np.inf, -np.inf], np.nan) for side in (current, reference)]
        kept = [name for name in shared if all(frame[name].notna().any() for frame in frames)]
        if not kept:
            raise DataError("no column has values on both sides", where="report", cure="look at the partition's events")
        for name in [name for name in kept if name in problem.categorical_features]:
            for frame in frames:
                frame[name] = frame[name].astype(object).map(unmarked, na_action="ignore")
        frames = [frame.rename(columns=unmarked) for frame in frames]
        names = [unmarked(name) for name in kept]
        categories = [unmarked(name) for name in kept if name in problem.categorical_features]
        definition = DataDefinition(
            numerical_columns=[name for name in names if name not in categories],
            categorical_columns=categories,
        )
        sides = [Dataset.from_pandas(frame[names], definition) for frame in frames]
        drift = DataDriftPreset(method="psi", threshold=SHIFTED_PSI, include_tests=False)
        html: str = Report([drift]).run(*sides).get_html_str(as_iframe=False)
    return html.replace("<head>", f'<head>\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">', 1).encode()


def unmarked(value: object) -> str:
    """A value as text in which nothing can begin a tag or end a script, for a page that escapes nothing.

    Evidently writes values into a script of its page as they are, and its plots read tags in labels.

    >>> ascii(unmarked("</script><b>AA")), unmarked(7)
    ("'\\\\u2039/script\\\\u203a\\\\u2039b\\\\u203aAA'", '7')
    """
    text = str(value).translate({ord("<"): "\u2039", ord(">"): "\u203a"})
    return "".join("\ufffd" if unicodedata.category(sign) in ("Cc", "Zl", "Zp", "Cs") else sign for sign in text)
