"""What texts cost: CPU seconds to learn an encoding from 20,000 texts of about 100 characters, and to encode 100,000.

The words are drawn by Zipf's law, as words come.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.arguments import parser
from pipelines.training.prepare import Preparation

LEARNT, MADE = 20_000, 100_000
WORDS, WORDS_A_TEXT = 30_000, 15
SETTINGS: dict[str, dict[str, Any]] = {
    "words": {},
    "runs of 1 to 2 words": {"ngrams": [1, 2]},
    "characters": {"by": "characters"},
    "hashing": {"method": "hashing"},
}


def main() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 11, WORDS)
    words = np.array(["".join(random.choice(list("etaoinshrdlu"), length)) for length in lengths])
    learnt, made = (texts(random, words, count) for count in (LEARNT, MADE))
    mean = np.mean([len(text) for text in learnt["text"].to_pylist()])
    print(f"{LEARNT:,} and {MADE:,} texts of {mean:.0f} characters on average, 50 components")
    measured({}, learnt.slice(0, 100), made.slice(0, 100))  # what is imported on the way is not counted
    for name, settings in SETTINGS.items():
        learn_s, make_s = measured(settings, learnt, made)
        print(f"  {name}: learnt in {learn_s:.1f} CPU s, made in {make_s:.1f} CPU s")


def texts(random: np.random.Generator, words: np.ndarray, count: int) -> pa.Table:
    drawn = np.minimum(random.zipf(1.3, (count, WORDS_A_TEXT)), len(words)) - 1
    return pa.table({"text": [" ".join(row) for row in words[drawn]]})


def measured(settings: dict[str, Any], learnt: pa.Table, made: pa.Table) -> tuple[float, float]:
    start = time.process_time()
    preparation = Preparation(["text"], [], {"text": settings}, "binary", 0, {"text": "text"}).fit(learnt)
    between = time.process_time()
    preparation.transform(made)
    return between - start, time.process_time() - between


if __name__ == "__main__":
    parser(__doc__).parse_args()
    main()
