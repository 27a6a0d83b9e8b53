"""NannyML's CBPE: the AUC of the newest week's scores, estimated before its labels come."""

from __future__ import annotations

from pathlib import Path

import nannyml
import pandas as pd


def work(inputs: Path) -> str:
    held_out = pd.read_parquet(inputs / "held_out.parquet", columns=["_label", "_scores"])
    known = pd.DataFrame({"score": held_out["_scores"].str[0], "label": held_out["_label"]})
    scored = pd.read_parquet(inputs / "predictions.parquet", columns=["partition", "score"])
    newest = scored.loc[scored["partition"] == scored["partition"].max(), ["score"]].reset_index(drop=True)
    for rows in (known, newest):
        rows["decision"] = (rows["score"] >= 0.5).astype(int)
    estimator = nannyml.CBPE(
        problem_type="classification_binary",
        y_pred_proba="score",
        y_pred="decision",
        y_true="label",
        metrics=["roc_auc"],
        chunk_size=len(newest),
    )
    estimated = estimator.fit(known).estimate(newest).filter(period="analysis").to_df()
    return f"AUC {estimated['roc_auc']['value'].iloc[0]:.3f}"
