"""Since when, along with what, and where."""
