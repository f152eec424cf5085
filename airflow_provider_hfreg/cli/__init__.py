"""``airflow hfreg …``: what an operator of a deployment types."""
