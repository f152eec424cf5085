"""table-question-answering: the pipeline's cells and aggregators, by columns."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.base import Outputs, TaskContext, TokenFact
from airflow_provider_hfreg.pipelines.catalog import get_task
from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.testing import encoder_models

TASK = get_task("table-question-answering")
AGGREGATIONS = ("NONE", "SUM", "AVERAGE", "COUNT")
STARS = {"Repository": ["film", "music", "acting"], "Stars": ["36542", "4512", "39"]}
TABLES = (
    STARS,
    {"good": ["10/10"]},
    {"größtenteils": ["köstlich", "", "この映画は"], "": ["1", "2", "3"], "x\ny": ["👩‍👩‍👧", "nobody\t", " a "]},
    {"a": ["good"] * 9, "b": ["film and music " * 4] * 9},
)
QUERIES = ("how many stars has the film?", "what is good", "größtenteils?")
PAIRS = [(query, table) for table in TABLES for query in QUERIES]


def window(pairs):
    return pa.record_batch(
        {
            "query": pa.array([query for query, _ in pairs], pa.string()),
            "table": pa.array(
                [table if isinstance(table, str) else json.dumps(table, ensure_ascii=False) for _, table in pairs],
                pa.string(),
            ),
        }
    )


def frame(table):
    """The table as 4.57 takes it with pandas 3, too."""
    from airflow_provider_hfreg.inference.tables import table_frame

    return table_frame(json.dumps(table))


@pytest.fixture(scope="session", params=[AGGREGATIONS, ()], ids=["aggregating", "plain"])
def folder(request, folder_of):
    return folder_of(encoder_models.table_answerer, aggregations=request.param, seed=7)


@pytest.fixture(scope="session")
def engine(folder, engine_of):
    return engine_of(folder, "table-question-answering")


def test_a_window_gives_what_the_pipeline_gives_row_by_row(folder, engine, pipe_of):
    pipe = pipe_of(folder, "table-question-answering")

    result = engine.run(window([*PAIRS, PAIRS[0]]))

    assert result.errors == ()
    for (query, table), row in zip([*PAIRS, PAIRS[0]], result.outputs.to_pylist(), strict=True):
        answer = pipe(table=frame(table), query=query)
        assert row["answer"] == answer["answer"]
        assert [tuple(place) for place in row["coordinates"]] == [tuple(map(int, p)) for p in answer["coordinates"]]
        assert row["cells"] == answer["cells"]
        assert row["aggregator"] == answer.get("aggregator")
    assert result.truncated_rows == len(QUERIES)  # of the long table


def test_some_answers_have_cells_and_aggregators_differ(folder_of, engine_of):
    found = engine_of(
        folder_of(encoder_models.table_answerer, aggregations=AGGREGATIONS, seed=7), "table-question-answering"
    ).run(window(PAIRS))
    assert any(found.outputs.column("cells").to_pylist())
    words = set(found.outputs.column("aggregator").to_pylist())
    assert words <= set(AGGREGATIONS)
    assert len(words) > 1


def test_a_model_without_an_aggregation_head_has_null_for_it_and_every_column(folder_of, engine_of):
    result = engine_of(
        folder_of(encoder_models.table_answerer, aggregations=(), seed=7), "table-question-answering"
    ).run(window(PAIRS[:1]))
    assert result.outputs.schema.names == ["answer", "coordinates", "cells", "aggregator"]
    assert result.outputs.column("aggregator").to_pylist() == [None]


def test_padding_changes_nothing_where_the_empty_column_may_be_chosen(folder_of, engine_of):
    folder = folder_of(encoder_models.table_answerer, allow_empty_column_selection=True, seed=7)
    engine = engine_of(folder, "table-question-answering")
    together = engine.run(window(PAIRS)).outputs.to_pylist()
    assert together == [engine.run(window([pair])).outputs.to_pylist()[0] for pair in PAIRS]


def test_columns_have_the_signatures_types_also_without_rows(engine):
    types = ["string", "list<item: fixed_size_list<item: int64>[2]>", "list<item: string>", "string"]
    for pairs in ([], PAIRS[:2], [("what?", "no table")]):
        assert [str(field.type) for field in engine.run(window(pairs)).outputs.schema] == types


@pytest.mark.parametrize(
    ("cell", "text"),
    [("36542", "36542"), ("4.50", "4.50"), ("1e5", "1e5"), ("true", "True"), ("null", ""), ("NaN", "")],
)
def test_cells_are_read_as_text(cell, text):
    table = '{"a": [' + cell + '], "b": ["x"]}'
    sequences = TASK.preprocess(window([("what?", table)]), TaskContext(None, {}))
    assert json.loads(sequences.text_pair[0].as_py()) == {"a": [text], "b": ["x"]}


@pytest.mark.parametrize(
    ("table", "code", "found"),
    [
        ("", "bad_json", "cannot be read"),
        ('{"a": [1', "bad_json", "cannot be read"),
        ("[" * 100_000, "bad_json", "cannot be read"),
        ('["a"]', "bad_json", "found a list"),
        ("3", "bad_json", "found a text or a number"),
        ("null", "bad_json", "found null"),
        ('{"a": "x"}', "bad_json", "column 'a', found a text"),
        ('{"a": [1], "b": [[2]]}', "bad_json", "column 'b', found a list"),
        ('{"a": [1], "b": [1, 2]}', "bad_json", "'a' with 1 values and 'b' with 2"),
        ('{"a": [1], "a": [2]}', "bad_json", "names a column twice"),
        ('{"a": ["\\ud800"]}', "bad_json", "surrogates"),
        ("{}", "empty_value", "at least one row"),
        ('{"a": []}', "empty_value", "at least one row"),
    ],
)
def test_a_table_that_cannot_be_read_is_that_rows_error(table, code, found):
    sequences = TASK.preprocess(window([("q", STARS), ("q", table), ("", STARS)]), TaskContext(None, {}))
    assert sequences.row.tolist() == [0]
    unreadable, empty = sequences.errors
    assert (unreadable.row, unreadable.code, unreadable.column) == (1, code, "table")
    assert "expected" in unreadable.message
    assert found in unreadable.message
    assert (empty.row, empty.code, empty.column) == (2, "empty_value", "query")


def test_a_table_that_the_tokenizer_refuses_is_that_rows_error(engine):
    wide = {f"column {number}": ["x"] for number in range(70)}
    result = engine.run(window([PAIRS[0], ("what?", wide), PAIRS[1]]))
    assert result.row.tolist() == [0, 2]
    assert [(error.row, error.code) for error in result.errors] == [(1, "tokenizer_error")]


def test_scores_that_are_no_numbers_are_that_rows_error():
    logits = Ragged.of([2, 1], np.array([0, 5, np.nan], np.float32))
    types = logits.with_values(np.array([[0] * 7, [1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0]]))
    outputs = Outputs(np.array([0, 1]), ragged={"logits": logits}, facts={TokenFact.TYPES: types})
    results = TASK.postprocess(outputs, window([("q", STARS)] * 2), TaskContext(None, {}))
    assert (results.row.tolist(), results.columns["answer"].to_pylist()) == ([0], ["film"])
    assert results.columns["coordinates"].to_pylist() == [[[0, 0]]]
    assert [(error.row, error.code) for error in results.errors] == [(1, "not_a_number")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(
    pairs=st.lists(
        st.tuples(
            st.text(max_size=12),
            st.text(max_size=12)
            | st.dictionaries(st.text(max_size=5), st.lists(st.text(max_size=8), max_size=2), max_size=3),
        ),
        max_size=4,
    )
)
def test_anything_gives_one_row_or_a_named_error(pairs, engine):
    result = engine.run(window(pairs))
    assert sorted([*result.row.tolist(), *(error.row for error in result.errors)]) == list(range(len(pairs)))
    assert {error.code for error in result.errors} <= {"bad_json", "empty_value", "tokenizer_error"}


def test_what_a_pipeline_was_built_with_is_read_back(folder, pipe_of):
    arguments = {"sequential": True, "padding": True, "truncation": "do_not_truncate"}
    pipe = pipe_of(folder, "table-question-answering", **arguments)
    read = TASK.parameters_of(pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)
    assert read == arguments


def test_a_logged_pipeline_gives_the_same_and_is_loaded_again(folder, pipe_of, tmp_path):
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.loading import load_pipeline, to_transformers
    from airflow_provider_hfreg.inference.packaging import package_pipeline

    pipe = pipe_of(folder, "table-question-answering")
    spec = package_pipeline(pipe, tmp_path / "packaged")
    query, table = PAIRS[0]

    (row,) = Engine(load_pipeline(tmp_path / "packaged", spec, device="cpu")).run(window(PAIRS[:1])).outputs.to_pylist()

    assert row["answer"] == pipe(table=frame(table), query=query)["answer"]
    again = to_transformers(tmp_path / "packaged", spec, device="cpu")
    assert again(table=frame(table), query=query) == pipe(table=frame(table), query=query)


def test_a_model_that_writes_its_answer_is_refused():
    with pytest.raises(UnsupportedPipelineError, match="TAPEX"):
        TASK.auto_class_of({"model_type": "bart"})
