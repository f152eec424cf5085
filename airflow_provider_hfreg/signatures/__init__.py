"""
Typed inputs, outputs and parameters of a model's functions, and a caller's columns read as them.

.. code-block:: python

    from airflow_provider_hfreg.signatures import DataType, FeatureSpec, ModelSignature, ParamSpec, infer_signature

Importing the room loads neither pyarrow nor pandas; the modules that need them do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

__all__ = ["DataType", "FeatureSpec", "ModelSignature", "ParamSpec", "infer_signature"]


def infer_signature(
    input_frame: Any, output_frame: Any, params: Mapping[str, Any] | Sequence[ParamSpec] | None = None
) -> ModelSignature:
    """
    Return the signature of a function that takes such columns and gives such columns: for ``signatures`` at logging.

    A column of Python objects is judged by all its values; a list is of any length, so is a list in a list.

    :param input_frame: a ``pandas.DataFrame`` or an Arrow table, with a name for each column; a few rows do.
    :param output_frame: likewise, of what the function gives for them.
    :param params: what a run may give besides: name → default value, or the specs themselves.
    :raises InvalidOptionError: no frame, a column without a name or with another's, parameters of no kind.
    :raises ColumnTypeError: a column that no feature can be, named, with what to do about it.
    """
    from airflow_provider_hfreg.signatures.inferring import features_of_frame, params_of  # noqa: PLC0415 - pyarrow

    return ModelSignature(
        features_of_frame(input_frame, "input_frame"),
        features_of_frame(output_frame, "output_frame"),
        params_of(params),
    )
