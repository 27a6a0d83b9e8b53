"""Do monitoring's alarms come when something happened, and only then? See __main__."""
