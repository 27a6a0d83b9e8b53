"""From scored partitions to a verdict: profile, detect, diagnose, decide, each a pure function.

A detector returns numbers, a diagnosis names what they show, a policy turns that into an action.
"""
