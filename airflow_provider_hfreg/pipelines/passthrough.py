"""
Functions with a given signature: rows to what a method of the pipeline object is called with, and back to columns.

One rule for every such function, ``__call__`` of a task whose signature is not inferred and any other target method:

- **Input.** The method's one positional argument is a list with one value per row. With one input column it is that
  column's value; with several, a dict of them by name, which is how transformers' pipelines take several inputs. Text,
  numbers and booleans are Python's, a list of numbers is a numpy array (what audio pipelines take), other lists are
  lists.
- **Arguments.** The run's parameters are keyword arguments; where a run is silent, the default that the signature
  gives, if it gives one.
- **Result.** A list with one result per row; a call of one row may leave that list out (:func:`one_each`). A result
  that is a dict with an output column's name is taken apart by names; with several columns it must be one (or a list
  that holds just one). Any other result is the value of the one column. In a ``STRING`` column lists and dicts become
  JSON text, as everywhere here; numpy and torch values are plain ones. None is a null; NaN is none, and an error
  wherever it stands, since JSON cannot hold it and pandas could not tell it from a null.

A result that does not fit is its row's error, which says what was expected. Pure: it knows neither torch nor
transformers, and takes whatever has ``tolist`` for an array.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_provider_hfreg.pipelines.base import Results
from airflow_provider_hfreg.signatures.arrow import arrow_type, is_list, type_name
from airflow_provider_hfreg.signatures.cells import convert_cells
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec
from airflow_provider_hfreg.signatures.rows import RowError

WRONG_RESULT = "wrong_result"


class _MisfitError(Exception):
    """A result that no output column can hold; told as its row's error."""


def inputs_of(window: pa.RecordBatch) -> list[Any]:
    """
    Return what each row of a window gives to the method.

    >>> inputs_of(pa.record_batch({"question": ["who?"], "top_k": [2]}))
    [{'question': 'who?', 'top_k': 2}]
    >>> inputs_of(pa.record_batch({"text": ["a", "b"]}))
    ['a', 'b']
    """
    names = window.schema.names
    columns = [_values(column) for column in window.columns]
    if len(names) == 1:
        return columns[0]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.Array) -> list[Any]:
    if is_list(column.type) and pa.types.is_primitive(column.type.value_type):
        # Copied: Arrow's memory is read-only, and pipelines write into their arrays.
        return [np.array(cell.values.to_numpy(zero_copy_only=False)) for cell in column]
    return list(column.to_pylist())


def one_each(given: Any, count: int) -> list[Any]:
    """
    Return what a method gave, one result per input.

    Some methods drop the outer list of a single input (fill-mask, and question-answering under 4.57): what is no list,
    or one of several, is then the one result. A list of just one cannot be told from a list with one result per input
    and is taken for that: of such a method's ``[{"token": …}]`` the object alone is the result.

    >>> one_each(np.zeros((2, 1)), 2), one_each({"text": "only"}, 1)
    ([[0.0], [0.0]], [{'text': 'only'}])
    >>> one_each([{"token": 1}, {"token": 2}], 1), one_each([{"token": 1}], 1)
    ([[{'token': 1}, {'token': 2}]], [{'token': 1}])

    :raises ValueError: it gave something else than one result per input.
    """
    results = plain(list(given) if isinstance(given, Iterator) else given)
    if isinstance(results, list) and len(results) == count:
        return results
    if count == 1 and results != []:
        return [results]
    found = f"a list of {len(results)}" if isinstance(results, list) else f"a {type(given).__name__}"
    raise ValueError(f"it was called with a list of {count} inputs and gave {found}, not a list of {count} results")


def plain(value: Any) -> Any:
    """
    Return arrays, tuples and numbers of numpy and torch as Python's, however deep.

    >>> plain({"scores": (np.float32(0.5), np.arange(2))})
    {'scores': [0.5, [0, 1]]}
    """
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value.tolist() if hasattr(value, "tolist") else value


def columns_of(results: Mapping[int, Any], outputs: Sequence[FeatureSpec]) -> Results:
    """
    Return the output columns.

    :param results: what the method gave, as :func:`one_each` returns it, by the position of the row in the window.
    """
    rows, cells, errors = [], [], []
    for row in sorted(results):
        try:
            cells.append(_cells(results[row], outputs))
            rows.append(row)
        except _MisfitError as misfit:
            errors.append(RowError(row, WRONG_RESULT, str(misfit)))
    columns = {}
    for place, feature in enumerate(outputs):
        array, bad = convert_cells([values[place] for values in cells], arrow_type(feature))
        columns[feature.name] = array
        errors += [RowError(rows[cell.row], WRONG_RESULT, _expected(feature, cell.found)) for cell in bad]
    good = np.flatnonzero(~np.isin(rows, [error.row for error in errors]))
    kept = {name: array.take(pa.array(good)) for name, array in columns.items()}
    first = {error.row: error for error in reversed(errors)}
    return Results(np.array(rows, dtype=np.int64)[good], kept, tuple(first[row] for row in sorted(first)))


def _cells(result: Any, outputs: Sequence[FeatureSpec]) -> list[Any]:
    names = [feature.name for feature in outputs]
    if len(names) > 1 and isinstance(result, list) and len(result) == 1:
        (result,) = result
    if len(names) == 1 and not (isinstance(result, Mapping) and names[0] in result):
        return [_cell(result, outputs[0])]
    if not isinstance(result, Mapping):
        raise _MisfitError(f"expected a result with {', '.join(names)}, found {reprlib.repr(result)}")
    missing = [name for name in names if name not in result]
    if missing:
        raise _MisfitError(
            f"expected a result with {', '.join(names)}, found one with {', '.join(map(str, result)) or 'nothing'}"
        )
    return [_cell(result[feature.name], feature) for feature in outputs]


def _cell(value: Any, feature: FeatureSpec) -> Any:
    """Return a value as its column takes it: what is made of parts is JSON text in a column of texts."""
    if _holds_nan(value):
        within = f" in {reprlib.repr(value)}" if isinstance(value, list | Mapping) else ""
        raise _MisfitError(_expected(feature, f"NaN{within}"))
    if feature.dtype is not DataType.STRING or feature.shape is not None or not isinstance(value, list | Mapping):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _MisfitError(_expected(feature, f"what is no JSON ({error})")) from None


def _holds_nan(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_nan, value.values()))
    if isinstance(value, list):
        return any(map(_holds_nan, value))
    return isinstance(value, float) and math.isnan(value)


def _expected(feature: FeatureSpec, found: str) -> str:
    return f"expected {type_name(feature)} for the output {feature.name!r}, found {found}"
