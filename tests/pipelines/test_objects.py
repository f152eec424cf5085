"""Lists of objects are the same in both formats, and as JSON text what json.dumps makes of them."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.base import Outputs, TaskContext, TokenFact
from airflow_provider_hfreg.pipelines.catalog import get_task, task_names
from airflow_provider_hfreg.pipelines.json_columns import json_array
from airflow_provider_hfreg.pipelines.objects import object_lists
from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.signatures.output_format import OutputFormat

KIND = pa.list_(pa.struct([("wört", pa.string()), ("score", pa.float64()), ("start", pa.int64()), ("ok", pa.bool_())]))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ['"', "\\", "\x00\n\x1f", "\x7f"]
)
numbers, whole = st.floats(allow_nan=False), st.integers(-(2**63), 2**63 - 1)
objects = st.tuples(st.none() | texts, st.none() | numbers, st.none() | whole, st.none() | st.booleans()).map(
    lambda values: dict(zip([field.name for field in KIND.value_type], values, strict=True))
)
lists = st.lists(objects, max_size=3)


def columns_of(rows, *, recurring):
    flat = [found for row in rows for found in row]
    columns = {field.name: pa.array([found[field.name] for found in flat], field.type) for field in KIND.value_type}
    if recurring:
        columns["wört"] = columns["wört"].dictionary_encode()
    return columns, np.cumsum([0, *map(len, rows)], dtype=np.int32)


@given(st.lists(lists, max_size=5), st.booleans())
def test_both_formats_hold_the_rows_objects(rows, recurring):
    columns, offsets = columns_of(rows, recurring=recurring)
    written = object_lists(KIND, columns, offsets, OutputFormat.JSON)
    structs = object_lists(KIND, columns, offsets, OutputFormat.STRUCT)
    assert (written.type, structs.type) == (pa.string(), KIND)
    assert written.to_pylist() == [json.dumps(row, ensure_ascii=False) for row in rows]
    assert structs.to_pylist() == rows


@given(st.lists(st.none() | st.lists(st.none() | lists, max_size=2), max_size=5), st.integers(0, 5), st.integers(0, 5))
def test_any_part_of_any_depth_is_as_json_dumps_writes_it(rows, start, length):
    part = slice(start, start + length)
    values = pa.array(rows, pa.list_(KIND)).slice(start, length)
    assert json_array(values).to_pylist() == [json.dumps(row, ensure_ascii=False) for row in rows[part]]


@pytest.mark.parametrize("output_format", OutputFormat)
def test_an_object_has_the_keys_of_its_type_in_that_order(output_format):
    columns, offsets = columns_of([[{"wört": "a", "score": 0.5, "start": 1, "ok": True}]], recurring=False)
    kind = pa.list_(pa.struct([("score", pa.float64()), ("wört", pa.string())]))
    (row,) = object_lists(kind, columns, offsets, output_format).to_pylist()
    found = json.loads(row) if output_format is OutputFormat.JSON else row
    assert [list(each.items()) for each in found] == [[("score", 0.5), ("wört", "a")]]


@pytest.mark.parametrize("name", task_names())
def test_structs_stand_in_columns_of_text(name):
    task = get_task(name)
    for parameters in ({}, {"top_k": 2, "num_return_sequences": 2}):
        types = {feature.name: feature for feature in task.signature(parameters).outputs}
        for column in task.structs(parameters, {}):
            assert (types[column].dtype.value, types[column].shape) == ("STRING", None)


@pytest.mark.parametrize("output_format", OutputFormat)
@pytest.mark.parametrize("labels", [(0, 1), ("no", "yes"), (0, "yes")])
def test_labels_that_are_numbers_stay_so_in_json_and_are_texts_in_structs(labels, output_format):
    outputs = Outputs(np.array([0]), {"logits": np.array([[1, 2]], np.float32)})
    config = {"id2label": dict(enumerate(labels))}
    context = TaskContext(None, config, {"top_k": 2}, output_format=output_format)
    results = get_task("text-classification").postprocess(outputs, pa.record_batch({"text": ["a"]}), context)
    (row,) = results.columns["outputs"].to_pylist()
    if output_format is OutputFormat.JSON and labels == (0, 1):
        assert [found["label"] for found in json.loads(row)] == [1, 0]
    else:
        row = json.loads(row) if output_format is OutputFormat.JSON else row
        assert [found["label"] for found in row] == [str(labels[1]), str(labels[0])]


@pytest.mark.parametrize(
    ("strategy", "keys"), [("none", "entity score index word"), ("simple", "entity_group score word")]
)
def test_places_that_no_slow_tokenizer_knows_are_null_integers(strategy, keys):
    class Slow:
        unk_token_id = None
        convert_ids_to_tokens = staticmethod(lambda ids: [str(one) for one in ids])
        convert_tokens_to_string = staticmethod(" ".join)

    task, ids = get_task("token-classification"), np.array([5, 6])
    outputs = Outputs(
        np.array([0]),
        ragged={"logits": Ragged.of([2], np.array([[0, 1], [1, 0]], np.float32))},
        facts={TokenFact.SPECIAL: Ragged.of([2], np.zeros(2, np.bool_))},
        input_ids=Ragged.of([2], ids),
    )
    parameters = {"aggregation_strategy": strategy}
    context = TaskContext(Slow(), {}, parameters, output_format=OutputFormat.STRUCT)
    column = task.postprocess(outputs, pa.record_batch({"inputs": ["5 6"]}), context).columns["outputs"]
    assert column.type == task.structs(parameters, {})["outputs"]
    assert (column.type.value_type.field("start").type, column.type.value_type.field("end").type) == (pa.int64(),) * 2
    (row,) = column.to_pylist()
    assert [list(found) for found in row] == [[*keys.split(), "start", "end"]] * 2
    assert {found[place] for found in row for place in ("start", "end")} == {None}


class Letters:
    @staticmethod
    def batch_decode(lists, **_):
        return ["".join(map(chr, ids)) for ids in lists]

    def decode(self, ids, **_):
        return "".join(map(chr, ids))


@pytest.mark.parametrize("output_format", OutputFormat)
def test_several_texts_that_only_the_models_own_file_asks_for_have_no_type_in_advance(output_format):
    outputs = Outputs(np.array([0]), generated=[[[97], [98]]])
    task = get_task("summarization")

    def run(parameters, generation):
        context = TaskContext(Letters(), {}, parameters, generation, output_format=output_format)
        return task.postprocess(outputs, pa.record_batch({"documents": ["a"]}), context).columns["summary_text"]

    said = ({"num_return_sequences": 2}, {}), ({}, {"num_return_sequences": 2})
    assert len({str(run(*where).to_pylist()) for where in said}) == 1
    if output_format is OutputFormat.JSON:
        assert run({}, {}).to_pylist() == ['[{"summary_text": "a"}, {"summary_text": "b"}]']
    else:
        assert run(*said[0]).to_pylist() == [[{"summary_text": "a"}, {"summary_text": "b"}]]
        with pytest.raises(UnsupportedPipelineError, match="Give num_return_sequences"):
            run({}, {})
