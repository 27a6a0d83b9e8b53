"""Real tables with nothing but the required settings: what stops, what is refused or called a change, how good."""
