"""What a week of the demo costs: through Airflow, its stages alone, as a plain script, and beside other tools."""
