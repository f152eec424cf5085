"""
Parameters of one run, checked against what the version's signature lists.

What comes out is plain JSON and holds only what was given: a pipeline refuses numpy numbers by ``isinstance``, and a
parameter that nobody gave changes what some tasks return.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from airflow_provider_hfreg.errors import UnknownParameterError
from airflow_provider_hfreg.signatures.features import DataType, ParamSpec

INTEGERS = frozenset({DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64})
_FLOATS = frozenset({DataType.FLOAT, DataType.DOUBLE})


def check_params(
    params: Mapping[str, Any] | None, specs: Sequence[ParamSpec], where: str = "this version"
) -> dict[str, Any]:
    """
    Return the parameters of a run as plain values; None means not given.

    >>> check_params({"top_k": np.int64(2), "stop": "."}, [
    ...     ParamSpec("top_k", DataType.INT64), ParamSpec("stop", DataType.STRING, shape=(-1,))
    ... ])
    {'top_k': 2, 'stop': ['.']}

    :param specs: the signature's ``params``.
    :param where: the version, for messages.
    :raises UnknownParameterError: no dict, a name that is not listed, or a value of another type.
    """
    if params is not None and not isinstance(params, Mapping):
        raise UnknownParameterError(f"params for {where} is {params!r:.80}; it must be a dict of values by name.")
    known = {spec.name: spec for spec in specs}
    checked = {}
    for name, value in (params or {}).items():
        if name not in known:
            raise UnknownParameterError(_unknown(name, sorted(known), where))
        if value is not None:
            checked[name] = _check(known[name], value, where)
    return checked


def _unknown(name: str, known: Sequence[str], where: str) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(known) if known else "none"
    return f"{where} takes no parameter {name!r} at a run.{meant} Its parameters are: {listed}."


def _check(spec: ParamSpec, value: Any, where: str) -> Any:
    try:
        # A single value may stand for a list of one.
        single = spec.shape is not None and len(spec.shape) == 1 and not isinstance(value, list | tuple | np.ndarray)
        return _plain([value] if single else value, _scalar_of(spec.dtype), len(spec.shape or ()))
    except TypeError:
        shape = "" if spec.shape is None else "[" + ",".join(map(str, spec.shape)) + "]"
        raise UnknownParameterError(
            f"The parameter {spec.name!r} of {where} is {value!r:.80}; it must be {spec.dtype.value}{shape}."
        ) from None


def _plain(value: Any, scalar: Callable[[Any], Any], depth: int) -> Any:
    """Return lists as deep as ``depth``."""
    if depth == 0:
        return scalar(value)
    if not isinstance(value, list | tuple | np.ndarray):
        return _raise(value)
    return [_plain(element, scalar, depth - 1) for element in value]


def _scalar_of(dtype: DataType) -> Callable[[Any], Any]:
    if dtype in INTEGERS:
        return _integer
    if dtype in _FLOATS:
        return _float
    if dtype is DataType.BOOL:
        return lambda value: bool(value) if isinstance(value, bool | np.bool_) else _raise(value)
    return lambda value: str(value) if isinstance(value, str) else _raise(value)


def _integer(value: Any) -> int:
    whole = isinstance(value, int | np.integer) or (isinstance(value, float | np.floating) and value == value // 1)
    return int(value) if whole and not isinstance(value, bool) else _raise(value)


def _float(value: Any) -> float:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else _raise(value)


def _raise(value: Any) -> Any:
    raise TypeError(value)
