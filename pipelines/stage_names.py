"""The DAGs and their stages, by name and in order: light, for what completes and draws them."""

STAGES: dict[str, tuple[str, ...]] = {
    "ingest": ("extract", "validate", "publish"),
    "train": ("label", "sample", "featurize", "check", "train", "evaluate", "gate", "refit", "register", "promote"),
    "annotate": ("vote", "choose", "collect", "self_train"),
    "score": ("plan", "score", "publish"),
    "monitor": ("profile", "detect", "estimate", "diagnose", "explain", "decide", "act", "report"),
    "release": ("assess", "step"),
}
