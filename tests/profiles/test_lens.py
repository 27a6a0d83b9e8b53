from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.metrics.scored import Scored
from pipelines.monitoring.detect.detect import detect
from pipelines.monitoring.detect.faults import column_faults
from pipelines.profiles.lens import fit_lens, seen, view_names
from pipelines.profiles.profile import Reference, profile, reference

USUAL = ["bird", "struck", "engine", "no", "damage", "found", "left", "wing"]
OTHER = ["invoice", "payment", "overdue", "please", "remit", "account", "left", "no"]


def partition(words: list[str], length: int = 6, rows: int = 150, seed: int = 99) -> pa.Table:
    random = np.random.default_rng(seed)
    texts = [None if n % 25 == 0 else " ".join(random.choice(words, length)) for n in range(rows)]
    return pa.table({"remarks": pa.array(texts), "score": random.random(rows)})


def learnt() -> Reference:
    parts = [partition(USUAL, seed=seed) for seed in range(8)]
    history = pa.concat_tables(
        part.append_column("partition", pa.array([f"{n}"] * 150)) for n, part in enumerate(parts)
    )
    features, labels = history.select(["remarks"]), np.arange(history.num_rows) % 2
    tested = Scored("binary", ("0", "1"), labels, history["score"].to_numpy(), np.ones(len(labels)))
    return reference(features, labels, tested, history=history, vectors={"remarks": "text"})


REFERENCE = learnt()


def test_a_profile_holds_numbers_of_a_text_and_no_text() -> None:
    names = ["characters", "unseen words", "direction 1", "direction 2", "direction 3"]
    assert [*REFERENCE.columns] == [*(f"remarks ({name})" for name in names), "score"]
    written = REFERENCE.model_dump_json()
    assert not any(word in written for word in ("bird", "struck", "damage"))
    assert Reference.model_validate_json(written) == REFERENCE
    assert len(written) < 100_000


def moved(rows: pa.Table) -> dict[str, bool]:
    profiles, _ = profile(rows.to_batches(max_chunksize=40), REFERENCE)
    return {name: drift.is_beyond("step") for name, drift in detect(REFERENCE, profiles).columns.items()}


def test_usual_texts_do_not_alarm() -> None:
    assert not any(moved(partition(USUAL)).values())


def test_other_words_are_seen_as_new_and_along_the_directions() -> None:
    found = moved(partition(OTHER))
    assert found["remarks (unseen words)"]
    assert found["remarks (direction 1)"]


def test_longer_texts_are_seen_by_their_length() -> None:
    found = moved(partition(USUAL, length=20))
    assert found["remarks (characters)"]
    assert not found["remarks (unseen words)"]


def test_known_words_in_another_mix_are_seen_along_the_directions() -> None:
    found = moved(partition(USUAL[:2]))
    assert not found["remarks (unseen words)"]
    assert any(found[f"remarks (direction {place})"] for place in (1, 2, 3))


def test_a_row_is_seen_alike_alone_and_among_others() -> None:
    rows, lens = partition([*USUAL, *OTHER]), REFERENCE.lenses["remarks"]
    whole = seen(rows, {"remarks": lens})
    for place in (0, 1, 149):
        alone = seen(rows.slice(place, 1), {"remarks": lens})
        assert alone.to_pylist() == whole.slice(place, 1).to_pylist()
    assert whole.slice(0, 1).select(view_names("remarks", lens)).to_pylist()[0] == dict.fromkeys(
        view_names("remarks", lens)
    )
    assert seen(rows.slice(0, 0), {"remarks": lens}).num_rows == 0


def test_the_same_texts_give_the_same_lens() -> None:
    texts = partition(USUAL)["remarks"]
    assert fit_lens(texts, "text") == fit_lens(texts, "text")


def test_what_has_no_unit_and_no_sensor_is_no_data_fault() -> None:
    strange = partition(OTHER[:1], length=60)
    profiles, _ = profile(strange.to_batches(), REFERENCE)
    drifts = detect(REFERENCE, profiles).columns
    faults = [fault for name, drift in drifts.items() for fault in column_faults(name, drift, 150, is_score=False)]
    clauses = [fault.clause for fault in faults]
    assert not any("unit" in clause or "direction" in clause for clause in clauses), clauses
    assert any(clause.startswith("remarks (characters) is frozen") for clause in clauses), "each text is the same"
