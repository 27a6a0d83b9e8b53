"""What was known when: the point-in-time rule, and the clock of a problem."""
