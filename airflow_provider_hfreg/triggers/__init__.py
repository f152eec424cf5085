"""Triggers: what goes on in Airflow's triggerer while a task holds no worker."""
