"""
torch, transformers and safetensors, or an error that says how to get them.

The other modules of this room import them from here, so that a worker without the ``inference`` extra meets one
clear sentence and not an ``ImportError`` from somewhere below. Other rooms import this one inside functions.
"""

from __future__ import annotations

from airflow_provider_hfreg.errors import InferenceExtraMissingError
from airflow_provider_hfreg.inference.importing import uncollected

try:
    with uncollected():
        import safetensors
        import torch
        import transformers
except ImportError as error:
    raise InferenceExtraMissingError(
        f"Running or logging a model needs {error.name}, which is not installed in this environment: "
        "pip install 'airflow-provider-hfreg[inference]'."
    ) from error

__all__ = ["safetensors", "torch", "transformers"]
