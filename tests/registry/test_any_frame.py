"""Any frame either gives one output row per input row, with its index, or an error that has a name."""

import datetime as dt
import decimal
import functools
import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import ColumnMissingError, ColumnTypeError
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.registry.residency import release_residents

LETTER = re.compile("[a-z]")
# Characters of every plane; surrogates are no characters, and no encoding holds one alone.
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    st.sampled_from(
        ["", " ", "\x00", "a\x00b", "\u202e\ufeff", "👩‍👩‍👧", "\U0010ffff", "[SEP] [MASK] </s>", "é" * 300]
    ),
)
OTHERS = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.binary(max_size=4),
    st.lists(TEXT, max_size=2),
    st.dictionaries(st.just("a"), TEXT, max_size=1),
    st.sampled_from(
        [
            pd.NA,
            pd.NaT,
            np.nan,
            np.str_("x"),
            np.int64(3),
            decimal.Decimal(2),
            dt.date(2024, 1, 1),
            "\ud800",
            object(),
        ]
    ),
)


def mostly(good):
    """Draw what the column is for, and now and then something else."""
    return st.integers(0, 6).flatmap(lambda drawn: good if drawn else OTHERS)


TEXTS = mostly(st.lists(TEXT, min_size=1, max_size=3))
COLUMNS = st.dictionaries(TEXT, st.lists(TEXT, min_size=2, max_size=2), min_size=1, max_size=2)
CELLS = {
    "candidate_labels": TEXTS,
    "user_inputs": TEXTS,
    "generated_responses": TEXTS,
    "table": mostly(COLUMNS.map(json.dumps)),
    "inputs": mostly(TEXT.map(lambda text: f"{text}[MASK]")),
}


@st.composite
def series(draw, cells):
    """Draw the column's dtype: anything, or one that holds no text, or one of pandas' own for text."""
    if draw(st.integers(0, 7)):
        return pd.Series(cells, dtype=object)
    length, kind = len(cells), draw(st.sampled_from(["numbers", "times", "category", "string", "arrow", "wide"]))
    texts = [cell if isinstance(cell, str) and cell != "\ud800" else None for cell in cells]
    return {
        "numbers": lambda: pd.Series(np.arange(length)),
        "times": lambda: pd.Series(pd.date_range("2024-01-01", periods=length, tz="UTC")),
        "category": lambda: pd.Series(texts, dtype="category"),
        "string": lambda: pd.Series(texts, dtype="string"),
        "arrow": lambda: pd.Series(texts, dtype=pd.ArrowDtype(pa.large_string())),
        "wide": lambda: pd.Series(np.full(length, 1j)),
    }[kind]()


@st.composite
def frames(draw, columns):
    """Draw a frame that may lack columns, have others too, or name none, under any index."""
    length = draw(st.integers(0, 4))
    kept = draw(st.lists(st.sampled_from(columns), unique=True)) if draw(st.integers(0, 9)) == 0 else columns
    drawn = {name: draw(st.lists(CELLS.get(name, mostly(TEXT)), min_size=length, max_size=length)) for name in kept}
    if draw(st.booleans()):
        drawn["more"] = list(range(length))
    frame = pd.DataFrame({name: draw(series(cells)) for name, cells in drawn.items()})
    if draw(st.booleans()) and length:
        frame.index = draw(
            st.lists(st.sampled_from(["a", "b", 1, None, 2.5]), min_size=len(frame), max_size=len(frame))
        )
    if draw(st.booleans()) and "more" not in drawn and kept == columns:
        frame.columns = range(len(frame.columns))
    return frame


TASKS = {
    "text-classification": ("models.text_classifier", ("text", "text_pair"), {}),
    "fill-mask": ("encoder_models.masked_language_model", ("inputs",), {}),
    "token-classification": ("encoder_models.token_classifier", ("inputs",), {}),
    "question-answering": ("encoder_models.question_answerer", ("question", "context"), {}),
    "zero-shot-classification": ("models.text_classifier", ("sequences", "candidate_labels"), {}),
    "table-question-answering": ("encoder_models.table_answerer", ("query", "table"), {}),
    "text-generation": ("models.text_generator", ("inputs",), {"max_new_tokens": 2, "do_sample": False}),
    "summarization": ("models.text_to_text_model", ("documents",), {"max_new_tokens": 2, "num_beams": 1}),
    "text2text-generation": ("models.text_to_text_model", ("inputs",), {"max_new_tokens": 2, "num_beams": 1}),
    "translation": ("models.text_to_text_model", ("inputs",), {"max_new_tokens": 2, "num_beams": 1}),
    "feature-extraction": ("encoder_models.embedder", ("inputs",), {"pooling": "mean"}),
    "conversational": (
        "models.text_generator",
        ("user_inputs", "generated_responses"),
        {"max_new_tokens": 2, "do_sample": False},
    ),
}


@pytest.fixture(scope="module")
def version_of(tmp_path_factory):
    """The version of a task, logged when asked for."""
    from airflow_provider_hfreg.testing import encoder_models, models

    rooms = {"models": models, "encoder_models": encoder_models}

    @functools.cache
    def version(task):
        maker, _, arguments = TASKS[task]
        room, name = maker.split(".")
        root = tmp_path_factory.mktemp(task)
        settings = {"labels": ("contradiction", "entailment")} if task.startswith("zero-shot") else {}
        folder = getattr(rooms[room], name)(root / "model", **settings)
        registry = Registry((root / "store").as_uri(), cache_folder=root / "host")
        return registry.log_folder(folder, model_name="m", task=task, pipeline_kwargs=arguments)

    yield version
    release_residents()


@pytest.mark.parametrize("examples", [15, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("task", TASKS)
def test_any_frame_gives_a_row_for_a_row_or_a_named_error(task, examples, version_of):
    version, (_, columns, _) = version_of(task), TASKS[task]
    outputs = [feature.name for feature in version.manifest.functions[0].signature.outputs]

    @settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow])
    @given(frames(list(columns)))
    @example(pd.DataFrame())
    @example(pd.DataFrame(columns=list(columns)))
    @example(pd.DataFrame([["x"] * len(columns)] * 2, index=[7, 7]))
    @example(pd.DataFrame({name: pd.Series(["x", 5], dtype=object) for name in columns}, index=["a", "a"]))
    def check(frame):
        before = frame.copy()
        may_be_refused = refusals(frame, version)
        try:
            result = version.run(frame, on_row_error="null", device="cpu")
        except may_be_refused:
            pass
        else:
            assert may_be_refused == ()
            assert list(result.columns) == outputs
            assert len(result) == len(frame)
            assert result.index.equals(frame.index)
            if len(columns) == 1 and task != "fill-mask":  # any text will do, and so these must work
                assert result[holds_letters(frame)].notna().all(axis=None)
        pd.testing.assert_frame_equal(frame, before)

    check()


def holds_letters(frame):
    """Return which rows of the only input column hold text of which a tokenizer makes tokens."""
    return [isinstance(text, str) and LETTER.search(text) is not None for text in frame.iloc[:, 0]]


def refusals(frame, version):
    """Return the error that such a frame is refused with as a whole: none where each column is there and readable."""
    features, optional = version.signature().inputs, version.optional_inputs()
    has_names = len(frame.columns) > 0 and isinstance(frame.columns[0], str)
    columns = {}
    for place, feature in enumerate(features):
        if has_names and feature.name in frame:
            columns[feature] = frame[feature.name]
        elif not has_names and place < len(frame.columns):
            columns[feature] = frame.iloc[:, place]
        elif feature.name not in optional:
            return (ColumnMissingError,)
    readable = all(is_readable(series, feature) for feature, series in columns.items())
    return () if readable else (ColumnTypeError,)


def is_readable(series, feature):
    """Return whether a column can hold what a feature of text, or of lists of texts, is made of."""
    if series.dtype == object or not series.notna().any():
        return True
    holds_texts = isinstance(series.dtype, pd.StringDtype | pd.CategoricalDtype | pd.ArrowDtype)
    return holds_texts and feature.shape is None
