"""`<problem>.score`: plan -> score (per shard) -> publish, for one partition."""
