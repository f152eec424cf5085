"""
From files and rows to results, and from a pipeline object to files: the only room that names torch and transformers.

Importing this package loads neither of them; its modules do, through :mod:`.frameworks`, which says what to install.
It knows no bucket and no registry: it is given a local folder and a :class:`~..pipelines.spec.PipelineSpec`.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_hfreg.errors import InvalidOptionError, SignatureRequiredError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.catalog import get_task, task_names


def pipeline(task: str, model: Any = None, **kwargs: Any) -> Any:
    """
    Build a pipeline to log or to call: same call as ``transformers.pipeline``, and same result but for one task.

    A task that the installed transformers has no pipeline for gets ours, see :mod:`.stand_in`; so does
    ``feature-extraction``, to give each text one vector (``pooling``, ``normalize``) and not one for each token.

    :param task: the pipeline task, aliases as transformers knows them.
    :param model: a hub id, a folder, or a model object; None for the task's default model where transformers has one.
    :param kwargs: everything else that ``transformers.pipeline`` takes.
    :raises InferenceExtraMissingError: torch or transformers is not installed here.
    :raises UnsupportedPipelineError: neither the installed transformers nor we have a pipeline for this task.
    """
    from airflow_provider_hfreg.inference.frameworks import transformers  # noqa: PLC0415 - importing the room loads none
    from airflow_provider_hfreg.inference.stand_in import build_stand_in, has_class  # noqa: PLC0415 - as above

    if has_class(task):
        return transformers.pipeline(task, model=model, **kwargs)
    try:
        get_task(task)
    except SignatureRequiredError:
        raise UnsupportedPipelineError(
            f"transformers {transformers.__version__} has no pipeline for the task {task!r}, and this package runs "
            f"{', '.join(task_names())}."
        ) from None
    if model is None:
        raise InvalidOptionError(f"{task} has no model to fall back to: give model=….")
    return build_stand_in(task, model, **kwargs)
