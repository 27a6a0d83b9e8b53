"""From held-out predictions to metrics, and from metrics to a verdict."""
