"""How each problem stands, at a glance: derived from its ledger and tables, kept for the Health page in Airflow's UI.

`state.health_of` says how a problem stands, `history.history_of` how it came to that: both from the ledger and the
tables alone. `kept` leaves the two in the store after each run, in one folder for all problems, so that a page about
fifty problems lists one folder and fetches what has changed in it; `rows` puts them in the order in which a person is
needed, and `overview` and `problem_page` draw them.
"""
