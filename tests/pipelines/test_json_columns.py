"""JSON text made by columns is the text that json.dumps makes of the same objects."""

import json

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.pipelines.json_columns import (
    json_lists,
    json_numbers,
    json_objects,
    json_text,
    json_values,
)

numbers = st.one_of(st.floats(), st.floats(width=32))
labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
objects = st.tuples(labels, numbers, labels).map(
    lambda values: dict(zip(("label", "score", "ключ"), values, strict=True))
)


@given(st.lists(st.lists(objects, max_size=3), max_size=5))
def test_lists_of_objects_are_as_json_dumps_writes_them(rows):
    flat = [found for row in rows for found in row]
    columns = {
        "label": json_values([found["label"] for found in flat]),
        "score": json_numbers(np.array([found["score"] for found in flat], dtype=np.float64)),
        "ключ": json_values([found["ключ"] for found in flat]),
    }
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    written = json_lists(json_objects(columns), offsets)
    assert written.type == pa.string()
    assert written.to_pylist() == [json.dumps(row, ensure_ascii=False) for row in rows]


@given(st.lists(st.integers(-(2**62), 2**62)))
def test_integers_are_written_as_integers(values):
    assert json_numbers(np.array(values, dtype=np.int64)).to_pylist() == [str(value) for value in values]


def test_text_keeps_what_is_not_ascii():
    assert json_text([{"generated_text": "größer 😀\n"}]) == '[{"generated_text": "größer 😀\\n"}]'
