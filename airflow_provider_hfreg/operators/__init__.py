"""Airflow operators: log a model, run one over a table. They read their fields, call the registry, and no more."""
