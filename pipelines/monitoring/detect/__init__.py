"""How far a partition lies from what is usual."""
