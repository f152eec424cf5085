"""The pipeline tasks whose signature is inferred, by name. A new task is one file and one line here."""

from __future__ import annotations

from airflow_provider_hfreg.errors import SignatureRequiredError
from airflow_provider_hfreg.pipelines.base import PipelineTask
from airflow_provider_hfreg.pipelines.text_classification import TextClassification
from airflow_provider_hfreg.pipelines.text_generation import TextGeneration

_TASKS: tuple[PipelineTask, ...] = (
    TextClassification(),
    TextGeneration(),
)
_BY_NAME = {name: task for task in _TASKS for name in (task.name, *task.aliases)}


def get_task(name: str) -> PipelineTask:
    """
    Return a task by its name or an alias.

    >>> get_task("sentiment-analysis").name
    'text-classification'

    :raises SignatureRequiredError: no signature is inferred for it; the message lists those with one.
    """
    task = _BY_NAME.get(name)
    if task is None:
        raise SignatureRequiredError(
            f"No signature is inferred for the task {name!r}: give `signatures` to log it. "
            f"The tasks with an inferred signature are {_listed()}."
        )
    return task


def task_names() -> tuple[str, ...]:
    """
    Return the names of all tasks with an inferred signature, without aliases.

    >>> task_names()
    ('text-classification', 'text-generation')
    """
    return tuple(task.name for task in _TASKS)


def _listed() -> str:
    return ", ".join(f"{task.name} (also {', '.join(task.aliases)})" if task.aliases else task.name for task in _TASKS)
