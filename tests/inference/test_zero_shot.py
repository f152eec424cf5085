"""Labels of each row's own, against transformers' own pipeline, one row at a time, as the oracle."""

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NLI = ("contradiction", "neutral", "entailment")
ROWS = [
    ("the film was good", ["urgent", "not urgent"]),
    ("この映画はとても面白かったです。", ["Japanese", "größtenteils", "日本語", "👩‍👩‍👧"]),
    (" ", ["alone"]),
    ("the film was good", ["good", "bad", "good"]),
    ("a dull plot " * 40, ["dull", "{}", "a {0} b"]),
    ("it's", ["urgent", "not urgent"]),
]


@pytest.fixture(scope="module")
def build(classifiers):
    """Build the plain pipeline of an NLI model."""
    import transformers

    def built(architecture="bert", labels=NLI, **arguments):
        folder = str(classifiers(architecture, labels=labels))
        return transformers.pipeline("zero-shot-classification", folder, device="cpu", **arguments)

    return built


def window(rows):
    texts, labels = zip(*rows, strict=True) if rows else ((), ())
    return pa.record_batch(
        {
            "sequences": pa.array(texts, pa.string()),
            "candidate_labels": pa.array(labels, pa.list_(pa.string())),
        }
    )


def check(result, expected):
    """Compare but for ties: equal scores may stand in any order."""
    assert result.errors == ()
    for row, plain in zip(result.outputs.to_pylist(), expected, strict=True):
        assert list(row) == ["sequence", "labels", "scores"]
        assert row["sequence"] == plain["sequence"]
        assert row["scores"] == pytest.approx(plain["scores"], abs=1e-5)
        close = [(label, round(score, 4)) for label, score in zip(row["labels"], row["scores"], strict=True)]
        assert sorted(close) == sorted(
            (label, round(score, 4)) for label, score in zip(plain["labels"], plain["scores"], strict=True)
        )


CONDITIONS = {
    "plain": {},
    "each label alone": {"multi_label": True},
    "another template": {"hypothesis_template": "Dies ist {}!"},
    "a formatting template": {"hypothesis_template": "{:>20} {{it}}"},
}


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("arguments", CONDITIONS.values(), ids=CONDITIONS.keys())
def test_labels_and_scores_are_the_plain_pipelines(architecture, arguments, build, engine_of):
    pipe = build(architecture, **arguments)
    result = engine_of(pipe).run(window(ROWS))
    check(result, [pipe(text, candidate_labels=labels) for text, labels in ROWS])
    assert [row["labels"] for row in result.outputs.to_pylist()][:3] == [
        pipe(text, candidate_labels=labels)["labels"] for text, labels in ROWS[:3]
    ]
    assert result.truncated_rows == 1


@pytest.mark.parametrize(
    "labels",
    [("ENTAILMENT", "NEUTRAL", "CONTRADICTION"), ("no", "entails it"), ("yes", "no"), ("not entailed", "a", "b")],
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_models_labels_tell_which_logit_is_entailment(labels, multi_label, build, engine_of):
    pipe = build(labels=labels, multi_label=multi_label)
    check(engine_of(pipe).run(window(ROWS)), [pipe(text, candidate_labels=own) for text, own in ROWS])


def test_a_run_may_set_the_template_and_how_labels_compete(build, engine_of):
    pipe = build()
    params = {"hypothesis_template": "{} it is", "multi_label": True}
    check(engine_of(pipe).run(window(ROWS), params), [pipe(text, candidate_labels=own, **params) for text, own in ROWS])


def test_labels_of_the_pipelines_own_stand_in_where_a_row_has_none(build, engine_of):
    pipe = build(candidate_labels=["good", "bad"])
    rows = [("the film was good", None), ("it's", ["a", "b"])]

    result = engine_of(pipe).run(window(rows))

    check(result, [pipe("the film was good"), pipe("it's", candidate_labels=["a", "b"])])


def test_a_row_without_a_text_or_labels_is_an_error_and_the_others_go_on(build, engine_of):
    pipe = build()
    result = engine_of(pipe).run(window([("a", []), ROWS[0], ("", ["b"])]))
    assert [(error.row, error.code, error.column) for error in result.errors] == [
        (0, "no_labels", "candidate_labels"),
        (2, "no_text", "sequences"),
    ]
    assert (result.row.tolist(), result.outputs.num_rows) == ([1], 1)


def test_no_rows_give_empty_columns(build, engine_of):
    outputs = engine_of(build()).run(window([])).outputs
    assert outputs.num_rows == 0
    assert outputs.schema.types == [pa.string(), pa.list_(pa.string()), pa.list_(pa.float64())]


def test_a_hypothesis_longer_than_the_model_reads_is_its_rows_error(build, engine_of):
    pipe = build()
    result = engine_of(pipe).run(window([ROWS[0], ("a", ["good", "dull plot " * 60])]))
    assert [error.row for error in result.errors] == [1]
    assert result.row.tolist() == [0]


def test_equal_pairs_are_run_once(build, engine_of):
    result = engine_of(build()).run(window([ROWS[0]] * 5))
    assert (result.sequences, len({str(row) for row in result.outputs.to_pylist()})) == (2, 1)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
            st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=4),
        ),
        max_size=5,
    ),
    multi_label=st.booleans(),
)
def test_any_rows_give_what_the_pipeline_gives_each(rows, multi_label, engine_once):
    pipe, engine = engine_once
    rows = [(text, labels) for text, labels in rows if text and labels[0] != "{}"]  # the pipeline refuses those
    expected = [pipe(text, candidate_labels=labels, multi_label=multi_label) for text, labels in rows]
    check(engine.run(window(rows), {"multi_label": multi_label}), expected)


@pytest.fixture(scope="module")
def engine_once(build, tmp_path_factory):
    """One pipeline and its engine for all examples."""
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.inference.packaging import package_pipeline

    pipe = build()
    folder = tmp_path_factory.mktemp("packaged")
    return pipe, Engine(load_pipeline(folder, package_pipeline(pipe, folder), device="cpu"))
