"""
Features of a frame's columns and specs of example parameters: what a signature says of data that somebody shows.

It takes frames as they are and loads no pandas of its own. What cannot be told (a column without a value) or held (a
date) is an error that names the column and the way out, never a guess: a wrong type in a signature would refuse every
row of every run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_provider_hfreg.errors import ColumnTypeError, InvalidOptionError
from airflow_provider_hfreg.signatures.arrow import features_of, is_list
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec

_PARAM_TYPES = ((bool, DataType.BOOL), (int, DataType.INT64), (float, DataType.DOUBLE), (str, DataType.STRING))


def features_of_frame(frame: Any, name: str) -> tuple[FeatureSpec, ...]:
    """
    Return the features that a frame's columns are.

    >>> features_of_frame(pa.table({"text": ["a"], "scores": [[0.5]]}), "input_frame")
    (FeatureSpec(dtype=DataType.STRING, name='text'), FeatureSpec(dtype=DataType.DOUBLE, name='scores', shape=(-1,)))

    :param frame: a ``pandas.DataFrame``, ``pyarrow.Table`` or ``pyarrow.RecordBatch``.
    :param name: of the argument, for messages.
    """
    if isinstance(frame, pa.Table | pa.RecordBatch):
        _check_names(frame.schema.names, name)
        return features_of(pa.schema([(field.name, _known(field.type, field.name)) for field in frame.schema]))
    if not all(hasattr(frame, attribute) for attribute in ("columns", "iloc", "index")):
        raise InvalidOptionError(
            f"{name} is a {type(frame).__name__}; give a pandas.DataFrame or an Arrow table with a column for each "
            "feature. pandas.DataFrame({'column': values}) makes one."
        )
    _check_names(list(frame.columns), name)
    types = [(label, _type_of(frame.iloc[:, place], label)) for place, label in enumerate(frame.columns)]
    return features_of(pa.schema(types))


def _check_names(names: Sequence[Any], frame: str) -> None:
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InvalidOptionError(
            f"The columns of {frame} are {list(names)}; a signature needs at least one, each with a name of its own as "
            "text. Set them: frame.columns = ['text', …]."
        )


def _type_of(series: Any, label: str) -> pa.DataType:
    """Return the Arrow type of a pandas column."""
    if len(series) and not series.notna().any():
        return _known(pa.null(), label)  # pandas makes floats of a column in which nothing stands
    if series.dtype == object:
        return _known(_type_of_objects(series, label), label)
    try:
        return _known(pa.array(series, from_pandas=True).type, label)
    except (pa.ArrowException, TypeError):
        raise ColumnTypeError(
            f"The column {label!r} is of the type {series.dtype}, which no feature has. Convert it to text, numbers, "
            "booleans or lists of them."
        ) from None


def _type_of_objects(series: Any, label: str) -> pa.DataType:
    # Arrow takes arrays of one dimension alone.
    cells = [cell.tolist() if isinstance(cell, np.ndarray) and cell.ndim > 1 else cell for cell in series]
    kinds = {type(cell).__name__ for cell, there in zip(cells, series.notna(), strict=True) if there}
    try:
        inferred = pa.array(cells, from_pandas=True).type
    except UnicodeEncodeError:
        raise ColumnTypeError(
            f"The column {label!r} holds text with half of a surrogate pair, which is no Unicode. Show rows without it."
        ) from None
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        inferred = None
    if inferred is None or _is_mixed(cells, inferred):
        raise ColumnTypeError(
            f"The column {label!r} holds values of several types, or of one that no feature has "
            f"({', '.join(sorted(kinds))}). Convert it to one: text, numbers, booleans or lists of them."
        )
    return inferred


def _is_mixed(cells: Sequence[Any], inferred: pa.DataType) -> bool:
    """Return whether Arrow took one kind of value for another: True for 1 among numbers, text for bytes."""
    element = inferred
    while is_list(element):
        element = element.value_type
    foreign = set() if pa.types.is_boolean(element) else {bool, np.bool_}
    if pa.types.is_binary(element):
        foreign |= {str, np.str_}
    return not foreign.isdisjoint(map(type, _leaves(cells)))


def _leaves(cells: Iterable[Any]) -> Iterator[Any]:
    for cell in cells:
        if isinstance(cell, list | tuple) or (isinstance(cell, np.ndarray) and cell.dtype == object):
            yield from _leaves(cell)
        else:
            yield cell


def _known(arrow: pa.DataType, label: str) -> pa.DataType:
    """
    Return the type if a feature can be of it.

    :raises ColumnTypeError: nothing tells the type, or JSON text would hold such values.
    """
    element = arrow
    while is_list(element):
        element = element.value_type
    if pa.types.is_null(element):
        raise ColumnTypeError(
            f"The column {label!r} holds no value{' in its lists' if is_list(arrow) else ''}, so its type cannot be "
            "told. Show rows in which it has one, or write the signature by hand: FeatureSpec(name, DataType.…)."
        )
    if pa.types.is_struct(element) or pa.types.is_map(element):
        raise ColumnTypeError(
            f"The column {label!r} holds dicts, which no feature does. Make them JSON text: "
            f"frame[{label!r}].map(json.dumps) is a column of STRING."
        )
    return arrow


def params_of(params: Mapping[str, Any] | Sequence[ParamSpec] | None) -> tuple[ParamSpec, ...]:
    """
    Return the specs of parameters.

    >>> params_of({"top_k": 2, "labels": ["a", "b"]})
    (ParamSpec(dtype=DataType.INT64, name='top_k', default_value=2), \
ParamSpec(dtype=DataType.STRING, name='labels', default_value=['a', 'b'], shape=(-1,)))

    :param params: name → default value, or specs, which are kept.
    :raises InvalidOptionError: neither, or a value whose type is none of a parameter's.
    """
    if not isinstance(params, Mapping):
        specs = () if params is None else params
        if not isinstance(specs, list | tuple) or not all(isinstance(spec, ParamSpec) for spec in specs):
            raise InvalidOptionError(f"params is {params!r:.80}; give default values by name, or ParamSpecs.")
        return tuple(specs)
    return tuple(_param(name, value) for name, value in params.items())


def _param(name: str, value: Any) -> ParamSpec:
    given = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    is_sequence = isinstance(given, list | tuple)
    elements = list(given) if is_sequence else [given]
    for kind, dtype in _PARAM_TYPES:
        if elements and all(type(element) is kind for element in elements):
            return ParamSpec(name, dtype, list(given) if is_sequence else given, (-1,) if is_sequence else None)
    raise InvalidOptionError(
        f"params[{name!r}] is {value!r:.80}, whose type cannot be told. Give a number, a text, a boolean or a list of "
        f"such, or the spec itself: [ParamSpec({name!r}, DataType.…)]."
    )
