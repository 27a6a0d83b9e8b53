"""Evergreen's product: stages as plain Python, independent of the orchestrator that runs them."""
