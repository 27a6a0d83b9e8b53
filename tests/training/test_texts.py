from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from pydantic import ValidationError

from pipelines.config import Preprocessing, TextEncoding
from pipelines.errors import ConfigError, SchemaError
from pipelines.training import texts
from pipelines.training.model import TRUSTED_TYPES
from pipelines.training.prepare import Preparation

TOPICS = [
    ["bird", "struck", "engine", "left"],
    ["deer", "runway", "landing", "gear"],
    ["no", "damage", "found", "taxi"],
]
TOPIC = np.random.default_rng(0).integers(0, 3, 200)


def remarks(seed: int = 1) -> list[str | None]:
    """Words of each row's topic; nothing in each twentieth."""
    random = np.random.default_rng(seed)
    return [None if n % 20 == 0 else " ".join(random.choice(TOPICS[topic], 3)) for n, topic in enumerate(TOPIC)]


REMARKS = remarks()
ROWS = pa.table({"remarks": pa.array(REMARKS), "n": np.random.default_rng(2).random(200)})


def prepared(rows: pa.Table = ROWS, **settings: Any) -> Preparation:
    written = Preprocessing(text=TextEncoding.model_validate(settings)).model_dump(mode="json")
    return Preparation(["remarks", "n"], [], written, "binary", 0, {"remarks": "text"}).fit(rows)


def test_texts_of_one_topic_lie_together() -> None:
    made = prepared(components=2)
    assert made.names_ == ["remarks #0", "remarks #1", "remarks is missing", "n"]
    assert made.origin_ == ["remarks", "remarks", "remarks", "n"]
    assert not any(made.is_category_)
    placed = made.transform(ROWS)[:, :2]
    centres = np.stack([placed[(topic == TOPIC) & ROWS["remarks"].is_valid().to_numpy()].mean(0) for topic in range(3)])
    nearest = np.square(placed[:, None] - centres).sum(2).argmin(1)
    assert (nearest == TOPIC)[ROWS["remarks"].is_valid().to_numpy()].mean() > 0.95


@pytest.mark.parametrize("settings", [{}, {"method": "hashing"}, {"by": "characters"}, {"ngrams": [1, 2]}])
def test_a_row_scores_the_same_alone_and_from_a_file_to_the_last_bit(settings: dict[str, Any]) -> None:
    made = prepared(components=6, **settings)
    whole = made.transform(ROWS)
    read = skops.io.loads(skops.io.dumps(made), trusted=TRUSTED_TYPES)
    alone = np.vstack([read.transform(ROWS.slice(place, 1)) for place in range(ROWS.num_rows)])
    assert np.array_equal(alone, whole)
    assert np.array_equal(prepared(components=6, **settings).transform(ROWS), whole), "the same seed, the same model"
    assert np.isfinite(whole).all()


def test_columns_have_one_scale() -> None:
    matrix = prepared(components=4).transform(ROWS)[ROWS["remarks"].is_valid().to_numpy()]
    assert np.allclose(matrix[:, :4].mean(0), 0, atol=1e-5)
    assert np.allclose(matrix[:, :4].std(0), 1, atol=1e-5)


def test_what_training_has_not_seen_says_nothing() -> None:
    made = prepared(components=3)
    unknown, empty, missing = made.transform(pa.table({"remarks": ["zebra", "", None], "n": [0.0] * 3}))
    assert np.array_equal(unknown, empty)
    assert np.array_equal(missing[:3], empty[:3])
    assert (empty[3], missing[3]) == (0, 1)


def test_a_model_from_before_there_were_texts_still_reads() -> None:
    made = Preparation(["n"], [], {}, "binary", 0).fit(ROWS)
    state = made.__getstate__()
    del state["vectors"], state["terms_"]
    old = Preparation.__new__(Preparation)
    old.__setstate__(state)
    assert np.array_equal(old.transform(ROWS), made.transform(ROWS))


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.nulls(4, pa.string()), "all values are missing"),
        (pa.array(["a", "b", "c", "?"]), "no term is in 2 of the texts"),
    ],
)
def test_a_text_that_says_nothing_is_dropped(column: pa.Array, reason: str) -> None:
    made = prepared(pa.table({"remarks": column, "n": [1.0, 2.0, 3.0, 4.0]}))
    assert made.dropped_ == {"remarks": reason}
    assert made.names_ == ["n"]


def test_of_many_texts_a_sample_teaches_the_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "FITTED_ROWS", 50)
    made = prepared(components=2)
    assert np.array_equal(made.transform(ROWS), prepared(components=2).transform(ROWS))
    assert len(made.terms_["remarks"].split("\n")) == 12


def test_equal_texts_have_no_direction() -> None:
    made = prepared(pa.table({"remarks": ["no damage"] * 5, "n": [1.0, 2.0, 3.0, 4.0, 5.0]}))
    assert np.isfinite(made.transform(ROWS)).all()
    assert not made.transform(ROWS)[:, :1].any()


def test_a_number_is_no_text() -> None:
    with pytest.raises(SchemaError, match="wanted texts"):
        prepared().transform(pa.table({"remarks": [[1]], "n": [1.0]}))


def test_settings_go_with_their_kind() -> None:
    columns = {"remarks": {"scaling": "standard"}}
    with pytest.raises(ConfigError, match=r"columns.remarks.scaling has no effect: remarks is a text"):
        Preparation(["remarks"], [], {"columns": columns}, "binary", 0, {"remarks": "text"}).fit(ROWS)
    with pytest.raises(ConfigError, match=r"columns.n.text has no effect: n is a number"):
        Preparation(["n"], [], {"columns": {"n": {"text": {}}}}, "binary", 0).fit(ROWS)
    with pytest.raises(ValidationError, match="1 <= shortest <= longest"):
        TextEncoding(ngrams=(2, 1))
