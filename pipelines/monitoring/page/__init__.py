"""The page about a partition."""
