"""
Arrow values as JSON text, made column by column: what tasks give where a row has many results.

The text is the one ``json.dumps(results, ensure_ascii=False)`` gives for each row's list of objects: key order kept,
``", "`` and ``": "`` between, non-ASCII as it is, numbers as Python writes them. Arrow writes the numbers, quotes the
texts and joins the objects and the lists: no object per row is built.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_ESCAPED = r'[\x00-\x1f"\\]'
"""What JSON text cannot hold as it stands."""


def json_array(values: pa.Array) -> pa.StringArray:
    """
    Return the JSON text of each value.

    >>> kind = pa.list_(pa.struct([("label", pa.string()), ("at", pa.int64())]))
    >>> json_array(pa.array([[{"label": "größer", "at": None}], [], None], kind)).to_pylist()
    ['[{"label": "größer", "at": null}]', '[]', 'null']

    :param values: texts, numbers or truth values, also as dictionaries; structs and lists of such.
    """
    kind = values.type
    if values.null_count:
        valid = values.is_valid()
        return pc.replace_with_mask(pa.repeat("null", len(values)), valid, json_array(values.filter(valid)))
    if pa.types.is_dictionary(kind):
        return json_values(values.dictionary.to_pylist()).take(values.indices)
    if pa.types.is_struct(kind):
        parts = zip(kind, values.flatten(), strict=True)
        return json_objects({field.name: json_array(part) for field, part in parts})
    if pa.types.is_list(kind):
        return json_lists(json_array(values.values), values.offsets.to_numpy())
    if pa.types.is_string(kind):
        return _json_strings(values)
    return json_numbers(values.to_numpy(zero_copy_only=False))


def _json_strings(texts: pa.StringArray) -> pa.StringArray:
    quoted = pc.binary_join_element_wise('"', texts, '"', "")
    odd = pc.match_substring_regex(texts, _ESCAPED)
    return pc.replace_with_mask(quoted, odd, json_values(texts.filter(odd).to_pylist()))


def json_text(value: Any) -> str:
    """
    Return the JSON text of any value.

    >>> json_text([{"label": "größer", "score": 0.5}])
    '[{"label": "größer", "score": 0.5}]'
    """
    return json.dumps(value, ensure_ascii=False)


def json_values(values: Iterable[Any]) -> pa.StringArray:
    """
    Return the JSON text of each value.

    >>> json_values(["a", None, 1]).to_pylist()
    ['"a"', 'null', '1']
    """
    return pa.array([json_text(value) for value in values], pa.string())


def json_numbers(numbers: npt.NDArray[Any]) -> pa.StringArray:
    """
    Return the JSON text of each number.

    >>> json_numbers(np.array([0.5, 1e-05, 1.0])).to_pylist()
    ['0.5', '1e-05', '1.0']

    :param numbers: integers, truth values or floats.
    """
    if not np.issubdtype(numbers.dtype, np.floating):
        return pa.array(numbers).cast(pa.string())
    # Arrow writes the same shortest digits at a sixth of the cost, and differs from Python only in exponents and ".0".
    size = np.abs(numbers)
    alike = (size >= 1e-4) & (size < 1e9) & (numbers != np.floor(numbers))
    texts = pa.array(numbers, pa.float64()).cast(pa.string())
    if alike.all():
        return texts
    others = json.dumps(numbers[~alike].tolist())[1:-1].split(", ")
    return pc.replace_with_mask(texts, pa.array(~alike), pa.array(others, pa.string()))


def json_objects(fields: Mapping[str, pa.StringArray]) -> pa.StringArray:
    """
    Return one object per place.

    >>> json_objects({"label": json_values(["yes"]), "score": json_numbers(np.array([0.5]))}).to_pylist()
    ['{"label": "yes", "score": 0.5}']

    :param fields: key → JSON text of its value, arrays of one length.
    """
    parts: list[Any] = []
    for key, values in fields.items():
        parts += [f"{', ' if parts else '{'}{json_text(key)}: ", values]
    return pc.binary_join_element_wise(*parts, "}", "")


def json_lists(values: pa.StringArray, offsets: npt.NDArray[np.int32]) -> pa.StringArray:
    """
    Return one list per row.

    >>> json_lists(pa.array(["1", "2", "3"]), np.array([0, 2, 2, 3], dtype=np.int32)).to_pylist()
    ['[1, 2]', '[]', '[3]']

    :param values: JSON texts.
    :param offsets: int32 [rows + 1]: the row ``i`` holds the values from ``offsets[i]`` up to ``offsets[i + 1]``.
    """
    rows = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
    return pc.binary_join_element_wise("[", pc.binary_join(rows, ", "), "]", "")
