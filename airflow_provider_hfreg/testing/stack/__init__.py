"""
The real thing on one machine: PostgreSQL, Redis, SeaweedFS, an Airflow with CeleryExecutor, two resident workers.

``python -m airflow_provider_hfreg.testing.stack up FOLDER --dags DAGS`` starts it and ``… down FOLDER`` ends it; below
``FOLDER`` lies all that it writes. :class:`~.client.RunningStack` is the way to it from Python.
"""
