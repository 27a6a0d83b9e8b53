"""The loop of a small problem under faults, and what must hold afterwards."""
