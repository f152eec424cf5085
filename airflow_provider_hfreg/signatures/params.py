"""Run-time parameters against the signature: which there are, and of what type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from airflow_provider_hfreg.errors import UnknownParameterError
from airflow_provider_hfreg.signatures.features import DataType, ParamSpec

_FLOATS = (DataType.FLOAT, DataType.DOUBLE)


def check_params(params: Mapping[str, Any], specs: Sequence[ParamSpec], where: str) -> dict[str, Any]:
    """
    Return the parameters of a run as plain values of their types.

    None is kept: it says that the model's own default holds.

    >>> check_params({"top_k": np.int64(2)}, [ParamSpec("top_k", DataType.INT64)], "finbert/v1")
    {'top_k': 2}

    :param where: names the version in messages.
    :raises UnknownParameterError: one that the signature does not have, or a value of another type.
    """
    known = {spec.name: spec for spec in specs}
    for name in params:
        if name not in known:
            raise UnknownParameterError(
                f"{where} has no parameter {name!r}; it has {', '.join(map(repr, known)) or 'none'}."
            )
    return {name: _checked(value, known[name], where) for name, value in params.items()}


def _checked(value: Any, spec: ParamSpec, where: str) -> Any:
    plain = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    if plain is None or _fits(plain, spec):
        return plain
    wanted = spec.dtype.value if spec.shape is None else f"a list of {spec.dtype.value}"
    raise UnknownParameterError(f"The parameter {spec.name!r} of {where} must be {wanted}, and is {value!r:.80}.")


def _fits(value: Any, spec: ParamSpec) -> bool:
    if spec.shape is not None:
        return isinstance(value, list | tuple) and all(_is_scalar(inner, spec.dtype) for inner in value)
    return _is_scalar(value, spec.dtype)


def _is_scalar(value: Any, dtype: DataType) -> bool:
    if dtype is DataType.STRING:
        return isinstance(value, str)
    if dtype is DataType.BYTES:
        return isinstance(value, bytes)
    if dtype is DataType.BOOL or isinstance(value, bool):
        return dtype is DataType.BOOL and isinstance(value, bool)
    return isinstance(value, int) or (dtype in _FLOATS and isinstance(value, float))
