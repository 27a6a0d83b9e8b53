"""May the challenger serve? The checks, and the evidence that they are given."""
