"""What each embedded service stands on: a home, ports, health, a supervisor."""
