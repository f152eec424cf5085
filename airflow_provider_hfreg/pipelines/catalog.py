"""The pipeline tasks whose signature is inferred, by name. A new task is one file and one line here."""

from __future__ import annotations

from airflow_provider_hfreg.errors import SignatureRequiredError
from airflow_provider_hfreg.pipelines.base import PipelineTask
from airflow_provider_hfreg.pipelines.conversational import Conversational
from airflow_provider_hfreg.pipelines.feature_extraction import FeatureExtraction
from airflow_provider_hfreg.pipelines.fill_mask import FillMask
from airflow_provider_hfreg.pipelines.question_answering import QuestionAnswering
from airflow_provider_hfreg.pipelines.summarization import Summarization
from airflow_provider_hfreg.pipelines.table_question_answering import TableQuestionAnswering
from airflow_provider_hfreg.pipelines.text2text_generation import Text2TextGeneration
from airflow_provider_hfreg.pipelines.text_classification import TextClassification
from airflow_provider_hfreg.pipelines.text_generation import TextGeneration
from airflow_provider_hfreg.pipelines.token_classification import TokenClassification
from airflow_provider_hfreg.pipelines.translation import Translation, translation_between
from airflow_provider_hfreg.pipelines.zero_shot_classification import ZeroShotClassification

_TASKS: tuple[PipelineTask, ...] = (
    Conversational(),
    FeatureExtraction(),
    FillMask(),
    QuestionAnswering(),
    Summarization(),
    TableQuestionAnswering(),
    Text2TextGeneration(),
    TextClassification(),
    TextGeneration(),
    TokenClassification(),
    Translation(),
    ZeroShotClassification(),
)
_BY_NAME = {name: task for task in _TASKS for name in (task.name, *task.aliases)}


def get_task(name: str) -> PipelineTask:
    """
    Return a task by its name or an alias; a pair of languages is a name, too.

    >>> get_task("sentiment-analysis").name, get_task("translation_en_to_fr").name
    ('text-classification', 'translation_en_to_fr')

    :raises SignatureRequiredError: no signature is inferred for it; the message lists those with one.
    """
    task = find_task(name)
    if task is None:
        raise SignatureRequiredError(
            f"No signature is inferred for the task {name!r}: give `signatures` to log it. "
            f"The tasks with an inferred signature are {_listed()}."
        )
    return task


def find_task(name: str) -> PipelineTask | None:
    """Return a task as :func:`get_task` does, or None where no signature is inferred for it."""
    return _BY_NAME.get(name) or translation_between(name)


def find_column_task(name: str, target_method: str) -> PipelineTask | None:
    """
    Return the task that runs a method by columns, or None where the pipeline object's own method is called.

    >>> find_column_task("ner", "__call__").name, find_column_task("ner", "predict")
    ('token-classification', None)
    """
    return find_task(name) if target_method == "__call__" else None


def task_names() -> tuple[str, ...]:
    """
    Return the names of all tasks with an inferred signature, without aliases.

    >>> "text-classification" in task_names(), "sentiment-analysis" in task_names()
    (True, False)
    """
    return tuple(task.name for task in _TASKS)


def _listed() -> str:
    return ", ".join(f"{task.name} (also {', '.join(task.aliases)})" if task.aliases else task.name for task in _TASKS)
