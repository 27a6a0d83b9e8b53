"""`<problem>.annotate`: vote; choose -> ask (people, in Airflow's UI) -> collect; self_train."""
