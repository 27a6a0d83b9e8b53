"""From a partition of events to predictions in the store."""
