"""`<problem>.release`: assess -> ask -> step, after each scored partition of a problem that releases by steps."""
