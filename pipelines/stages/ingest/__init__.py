"""`<problem>.ingest`: extract -> validate -> publish, for one partition or a range of them at once."""
