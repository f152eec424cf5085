"""
What the command lines do: one menu of commands, for ``airflow hfreg …`` and ``python -m airflow_provider_hfreg``.

:mod:`.menu` declares every command and imports nothing heavy, :mod:`.definition` says what a declaration is, and
:mod:`.running` runs one. Airflow is not known here: where a registry lies is told by whoever runs a command.
"""
