"""
From files and rows to results, and from a pipeline object to files: the only room that names torch and transformers.

Importing this package loads neither of them; its modules do, through :mod:`.frameworks`, which says what to install.
It knows no bucket and no registry: it is given a local folder and a :class:`~..pipelines.spec.PipelineSpec`.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_hfreg.errors import UnsupportedPipelineError


def pipeline(task: str, model: Any = None, **kwargs: Any) -> Any:
    """
    Build a pipeline to log or to call: same call and same result as ``transformers.pipeline``.

    :param task: the pipeline task, aliases as transformers knows them.
    :param model: a hub id, a folder, or a model object; None for the task's default model.
    :param kwargs: everything else that ``transformers.pipeline`` takes.
    :raises InferenceExtraMissingError: torch or transformers is not installed here.
    :raises UnsupportedPipelineError: the installed transformers has no pipeline for this task.
    """
    from airflow_provider_hfreg.inference.frameworks import transformers  # noqa: PLC0415 - importing the room loads none

    try:
        transformers.pipelines.check_task(task)
    except KeyError as error:
        raise UnsupportedPipelineError(
            f"transformers {transformers.__version__} has no pipeline for the task {task!r}: {error.args[0]}."
        ) from None
    return transformers.pipeline(task, model=model, **kwargs)
