"""Writes the data of the problem strike_reports out of the package that has it.

    python -m benchmarks.tables.strike_reports

One row per report, in the order of their days. Height, speed and effect are left out: they tell of the phase what a
person would have to read out of the remarks.
"""

from __future__ import annotations

import gzip
import io

import pyarrow.csv as csv

from benchmarks.arguments import parser
from benchmarks.tables.packages import r_dataset
from pipelines import sql
from pipelines.problem import ROOT

PATH = ROOT / "include" / "problems" / "strike_reports" / "reports.csv.gz"


def main() -> None:
    rows = sql.query(
        """
        SELECT rownames AS report, opid AS operator_id, atype AS aircraft, remarks, phase_of_flt AS phase,
            CAST(ac_mass AS INTEGER) AS ac_mass, CAST(num_engs AS INTEGER) AS num_engs,
            CAST(strptime(date, '%m/%d/%Y %H:%M:%S') AS DATE) AS date, time_of_day, state, sky, species,
            birds_seen, birds_struck
        FROM rows
        ORDER BY date, report
        """,
        {"rows": r_dataset("openintro/birds")},
    )
    text = io.BytesIO()
    csv.write_csv(rows, text)
    PATH.write_bytes(gzip.compress(text.getvalue(), mtime=0))  # the same bytes whenever it is written


if __name__ == "__main__":
    parser(__doc__).parse_args()
    main()
