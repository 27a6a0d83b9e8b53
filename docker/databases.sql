-- Run once, when PostgreSQL makes its data folder; the database of Airflow is there already.
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_login;
