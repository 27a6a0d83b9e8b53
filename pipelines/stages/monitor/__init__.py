"""`<problem>.monitor`, for one scored partition: profile, detect, estimate, diagnose, explain, decide, act, report."""
