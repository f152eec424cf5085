import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg.inference.tables import encode_tables
from airflow_provider_hfreg.testing.encoder_models import tapas_tokenizer
from airflow_provider_hfreg.testing.models import word_piece_tokenizer

ENCODING = {"truncation": "drop_rows_to_fit"}

cells = st.sampled_from(["good film", "12", "2019", "3.5", "bad", "", "1 of 2", "the film was good " * 3])
tables = st.integers(1, 3).flatmap(
    lambda columns: st.lists(st.lists(cells, min_size=columns, max_size=columns), min_size=1, max_size=6).map(
        lambda rows: json.dumps({f"column {place}": [row[place] for row in rows] for place in range(columns)})
    )
)
questions = st.sampled_from(["which film", "how many are 12", "is it before 2019", "good", "x" * 400])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tapas_tokenizer(tmp_path_factory.mktemp("tapas"), word_piece_tokenizer())


def strings(values):
    return pa.array(values, pa.string())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(tables, min_size=1, max_size=2), st.data())
def test_questions_about_few_tables_are_encoded_as_one_by_one(tokenizer, few, data):
    asked = data.draw(st.lists(st.tuples(questions, st.sampled_from(few)), min_size=1, max_size=6))
    together = encode_tables(tokenizer, *map(strings, zip(*asked, strict=True)), ENCODING)
    alone = [encode_tables(tokenizer, strings([query]), strings([table]), ENCODING) for query, table in asked]
    for name in together.columns:
        assert together.columns[name].lists() == [ids for each in alone for ids in each.columns[name].lists()]
    assert together.truncated.tolist() == [cut for each in alone for cut in each.truncated.tolist()]
    assert together.text.tolist() == [place for place, each in enumerate(alone) if not each.failed]
    assert together.failed == {place: each.failed[0] for place, each in enumerate(alone) if each.failed}


def test_a_table_is_not_tokenised_for_each_question_about_it(tokenizer, monkeypatch):
    table = json.dumps({"title": ["good film", "bad film"], "year": ["2019", "2020"]})
    read, tokenize = [], tokenizer.tokenize
    monkeypatch.setattr(tokenizer, "tokenize", lambda text, **options: read.append(text) or tokenize(text, **options))
    encoded = encode_tables(tokenizer, strings(["which", "when", "which one"]), strings([table] * 3), ENCODING)
    assert encoded.text.tolist() == [0, 1, 2]
    assert read.count("2019") == 2  # once more for whether anything of it was cut


def test_a_question_that_fails_takes_no_other_one_with_it(tokenizer):
    class Failing:
        """The same tokenizer, which cannot read one word."""

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, table, queries, **options):
            if "unreadable" in queries:
                raise ValueError("no such word")
            return tokenizer(table, queries, **options)

    table = json.dumps({"title": ["good film"]})
    encoded = encode_tables(Failing(), strings(["which", "unreadable", "when"]), strings([table] * 3), ENCODING)
    assert encoded.text.tolist() == [0, 2]
    assert encoded.failed == {1: "ValueError: no such word"}
