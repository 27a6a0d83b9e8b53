"""The gauntlet: known faults, put into real data and real models, against the whole chain from ingest to promotion."""
