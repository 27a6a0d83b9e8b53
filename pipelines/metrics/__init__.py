"""Scores and what they are worth: metrics, their sums by block, bootstrap intervals, thresholds."""
