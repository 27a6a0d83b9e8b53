"""What a table says about the problem that it holds: a problem.yaml, events.sql and labels.sql to begin with."""
