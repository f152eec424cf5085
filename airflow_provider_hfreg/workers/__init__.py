"""
Executor pools: models that stay loaded in Celery workers on GPU-labelled queues, and batch runs spread over them.

No Airflow here. A worker is started by ``python -m airflow_provider_hfreg.workers`` from one settings file; whoever
runs a batch gives :class:`~airflow_provider_hfreg.workers.client.OnPool` to
:func:`~airflow_provider_hfreg.runs.batch.run_batch`. The way of a shard: ``docs/decisions/0007-executor-pools.md``.
"""
