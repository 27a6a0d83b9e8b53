"""Profiles of columns and partitions, and the distances between them."""
