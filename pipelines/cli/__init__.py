"""The command `evergreen`, and what only it needs."""
