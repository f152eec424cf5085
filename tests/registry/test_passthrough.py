"""Versions of other tasks and other target methods, from logging to a frame of results."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from airflow_provider_hfreg.errors import (
    ColumnMissingError,
    FunctionNotFoundError,
    InvalidOptionError,
    RowsFailedError,
    SignatureRequiredError,
    UnknownParameterError,
    UnsafeModelError,
)
from airflow_provider_hfreg.inference import pipeline
from airflow_provider_hfreg.registry.residency import release_residents
from airflow_provider_hfreg.signatures import DataType, FeatureSpec, ModelSignature, ParamSpec, infer_signature
from airflow_provider_hfreg.testing.audio_models import audio_classifier, speaker

AUDIO, TEXT = "audio-classification", "text-classification"
SAMPLES = FeatureSpec("samples", DataType.DOUBLE, (-1,))
OUTPUTS = FeatureSpec("outputs", DataType.STRING)
LABELLED = ModelSignature([SAMPLES], [OUTPUTS], [ParamSpec("top_k", DataType.INT64)])
BEST = ModelSignature(
    [FeatureSpec("text", DataType.STRING)],
    [FeatureSpec("label", DataType.STRING), FeatureSpec("score", DataType.DOUBLE)],
)


@pytest.fixture(scope="session")
def audio(tmp_path_factory):
    return audio_classifier(tmp_path_factory.mktemp("audio") / "model")


@pytest.fixture
def frame():
    noise = np.random.default_rng(0).normal(size=(2, 400))
    return pd.DataFrame({"samples": list(noise), "id": [1, 2]}, index=["x", "y"])


@pytest.fixture
def listener(file_registry, audio):
    return file_registry.log_folder(
        audio, model_name="ear", version_name="v1", task=AUDIO, signatures={"__call__": LABELLED}
    )


def test_another_task_runs_as_its_pipeline_does(registry, audio, frame):
    pipe = pipeline(AUDIO, model=str(audio), device="cpu")
    mv = registry.log_model(pipe, model_name="ear", version_name="v1", signatures={"__call__": LABELLED})
    assert mv.show_functions() == [{"name": "__CALL__", "target_method": "__call__", "signature": LABELLED}]
    result = mv.run(frame)
    assert [json.loads(text) for text in result["outputs"]] == pipe(list(frame["samples"]))
    assert (list(result.index), str(result.dtypes["outputs"])) == (["x", "y"], "string")
    assert "größer" in result["outputs"].iloc[0]
    assert type(registry.resolve("ear/v1").load()) is type(pipe)


def test_parameters_of_the_signature_are_arguments_of_the_call(listener, frame):
    best = listener.run(frame, params={"top_k": np.int64(1)})["outputs"]
    assert [len(json.loads(text)) for text in best] == [1, 1]
    with pytest.raises(UnknownParameterError, match="top_n"):
        listener.run(frame, params={"top_n": 1})


def test_results_may_be_columns(file_registry, audio, frame):
    columns = ModelSignature([SAMPLES], BEST.outputs, [ParamSpec("top_k", DataType.INT64, 1)])
    mv = file_registry.log_folder(audio, model_name="ear", task=AUDIO, signatures={"__call__": columns})
    result = mv.run(frame)
    assert [str(dtype) for dtype in result.dtypes] == ["string", "Float64"]
    with pytest.raises(RowsFailedError, match="expected a result with label, score, found") as raised:
        mv.run(frame, params={"top_k": 2})
    assert {error.code for error in raised.value.errors} == {"wrong_result"}


def test_a_signature_of_example_frames_will_do(file_registry, tmp_path):
    pipe = pipeline("text-to-audio", model=str(speaker(tmp_path / "speaker")), device="cpu")
    texts = pd.DataFrame({"text": ["hello", "a b"]})
    spoken = pd.DataFrame([pipe(text) for text in texts["text"]])
    signature = infer_signature(texts, spoken)
    mv = file_registry.log_model(pipe, model_name="mouth", signatures={"__call__": signature})
    both, again = mv.run(texts, seed=5), mv.run(texts[1:], seed=5)
    assert list(both.columns) == ["audio", "sampling_rate"]
    assert list(both["sampling_rate"]) == list(spoken["sampling_rate"])
    other = mv.run(texts, seed=6)
    assert both["audio"].iloc[0] != other["audio"].iloc[0]
    assert both["audio"].iloc[1] != again["audio"].iloc[0]  # another place in the run, other numbers
    assert mv.run(texts, seed=5)["audio"].tolist() == both["audio"].tolist()


def test_a_task_without_its_signature_is_refused_before_anything_is_written(file_registry, audio):
    with pytest.raises(SignatureRequiredError, match="'audio-classification': give `signatures`"):
        file_registry.log_folder(audio, model_name="ear", task=AUDIO)
    with pytest.raises(SignatureRequiredError, match="'audio-classification'"):
        file_registry.log_model(pipeline(AUDIO, model=str(audio), device="cpu"), model_name="ear")
    assert file_registry.models() == []


@pytest.mark.parametrize(
    ("signature", "error", "message"),
    [
        (ModelSignature([], [OUTPUTS]), InvalidOptionError, "at least one column"),
        (ModelSignature([SAMPLES], [OUTPUTS, OUTPUTS]), InvalidOptionError, "its own name"),
        (
            ModelSignature([SAMPLES], [OUTPUTS], [ParamSpec("top_k", DataType.INT64, "2")]),
            UnknownParameterError,
            "'top_k'.*must be INT64",
        ),
        (
            ModelSignature([SAMPLES], [OUTPUTS], [ParamSpec("batch_size", DataType.STRING, "x")]),
            InvalidOptionError,
            "the number of rows of a call",
        ),
        (
            ModelSignature([SAMPLES], [OUTPUTS], [ParamSpec("batch_size", DataType.INT64, [2], (-1,))]),
            InvalidOptionError,
            "the number of rows of a call",
        ),
    ],
)
def test_a_signature_that_no_call_can_be_made_of_is_refused(file_registry, audio, signature, error, message):
    with pytest.raises(error, match=message):
        file_registry.log_folder(audio, model_name="ear", task=AUDIO, signatures={"__call__": signature})


def test_wrong_columns_are_told(listener, frame):
    with pytest.raises(ColumnMissingError, match="'samples'"):
        listener.run(frame.drop(columns="samples"))
    with pytest.raises(FunctionNotFoundError, match="it has '__call__'"):
        listener.run(frame, function_name="hear")


def test_bad_rows_are_told_and_the_others_have_results(listener):
    rows = pd.DataFrame({"samples": [[0.5] * 400, None, ["a"], [], [0.25] * 400]})
    with pytest.raises(RowsFailedError) as raised:
        listener.run(rows)
    assert [(error.row, error.code) for error in raised.value.errors] == [
        (1, "null_value"),
        (2, "wrong_type"),
        (3, "model_error"),
    ]
    assert list(raised.value.result.index) == [0, 4]
    assert listener.run(rows, on_row_error="null")["outputs"].isna().tolist() == [False, True, True, True, False]


def test_another_method_runs_beside_the_call(file_registry, classifier):
    mv = file_registry.log_folder(
        classifier,
        model_name="finbert",
        version_name="both",
        task=TEXT,
        options={"target_methods": ["__call__", "predict"]},
        signatures={"predict": BEST},
    )
    assert [function["name"] for function in mv.show_functions()] == ["__CALL__", "PREDICT"]
    texts = pd.DataFrame({"text": ["the film was good", "größtenteils köstlich"]})
    called, predicted = mv.run(texts), mv.run(texts, function_name="PREDICT")
    assert predicted["label"].tolist() == called["label"].tolist()
    assert predicted["score"].tolist() == pytest.approx(called["score"].tolist(), abs=1e-5)


def test_functions_of_one_pipeline_object_share_it(file_registry, audio, frame):
    mv = file_registry.log_folder(
        audio,
        model_name="ear",
        task=AUDIO,
        options={"target_methods": ["__call__", "predict"]},
        signatures={"__call__": LABELLED, "predict": ModelSignature([SAMPLES], [OUTPUTS])},
    )
    release_residents()
    assert mv.engine().pipe is mv.engine("predict").pipe
    pd.testing.assert_frame_equal(mv.run(frame), mv.run(frame, function_name="predict"))


def test_a_task_of_the_stand_ins_has_their_methods(file_registry, tmp_path):
    from airflow_provider_hfreg.testing.models import text_to_text_model

    (tmp_path / "summarizer").mkdir()
    pipe = pipeline("summarization", model=str(text_to_text_model(tmp_path / "summarizer")), max_new_tokens=4)
    signature = ModelSignature(
        [FeatureSpec("documents", DataType.STRING)], [FeatureSpec("summary_text", DataType.STRING)]
    )
    mv = file_registry.log_model(
        pipe, model_name="short", options={"target_methods": ["predict"]}, signatures={"predict": signature}
    )
    documents = pd.DataFrame({"documents": ["the film was good"]})
    assert mv.run(documents, function_name="predict")["summary_text"].tolist() == [
        pipe(["the film was good"])[0]["summary_text"]
    ]


@pytest.mark.filterwarnings(
    "ignore:Passing a list of SQuAD examples",  # 4.57 says that 5 will not take it
    "ignore:__array__ implementation",  # 4.57 makes arrays of tensors as numpy 1 did
)
@pytest.mark.parametrize("task", ["fill-mask", "question-answering"])
def test_a_method_that_drops_the_outer_list_of_one_row_runs(task, file_registry, tmp_path):
    from airflow_provider_hfreg.testing import encoder_models

    maker, row = {
        "fill-mask": (encoder_models.masked_language_model, {"inputs": "the [MASK] was good"}),
        "question-answering": (encoder_models.question_answerer, {"question": "who ?", "context": "a dull plot"}),
    }[task]
    pipe = pipeline(task, model=str(maker(tmp_path)), device="cpu", top_k=3)
    taken = ModelSignature([FeatureSpec(name, DataType.STRING) for name in row], [OUTPUTS])
    mv = file_registry.log_model(
        pipe, model_name="best", options={"target_methods": ["predict"]}, signatures={"predict": taken}
    )
    rows = pd.DataFrame([row, row])
    predicted = [json.loads(text) for text in mv.run(rows, function_name="predict")["outputs"]]
    assert [len(best) for best in predicted] == [3, 3]
    assert predicted[0] == predicted[1]
    assert set(predicted[0][0]) >= {"score"}


def test_a_method_that_is_not_there_is_refused_at_logging(file_registry, audio):
    pipe = pipeline(AUDIO, model=str(audio), device="cpu")
    with pytest.raises(InvalidOptionError, match="'hear', which is no callable method of AudioClassificationPipeline"):
        file_registry.log_model(
            pipe,
            model_name="ear",
            options={"target_methods": ["hear"]},
            signatures={"hear": ModelSignature([SAMPLES], [OUTPUTS])},
        )


def test_a_class_of_ones_own_runs_with_consent_and_its_bad_row_is_told(file_registry, classifier, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(classifier, folder)
    shutil.copy(Path(__file__).parents[1] / "inference" / "own_classes" / "word_lengths.py", folder)
    config = json.loads((folder / "config.json").read_text())
    config["custom_pipelines"] = {
        "word-lengths": {"impl": "word_lengths.WordLengths", "pt": ["AutoModelForSequenceClassification"]}
    }
    (folder / "config.json").write_text(json.dumps(config))
    texts = pd.DataFrame({"text": ["the film", "", "was good"]})
    lengths = ModelSignature([FeatureSpec("text", DataType.STRING)], [FeatureSpec("lengths", DataType.INT64, (-1,))])
    mv = file_registry.log_folder(
        folder,
        model_name="own",
        task="word-lengths",
        options={"target_methods": ["lengths"]},
        signatures={"lengths": lengths},
        trust_remote_code=True,
    )
    with pytest.raises(UnsafeModelError, match="trust_remote_code=True"):
        mv.run(texts, function_name="lengths")
    with pytest.raises(
        RowsFailedError, match=r"1 of 3 rows .*row 1 \(model_error\): ValueError: a text is empty"
    ) as raised:
        mv.run(texts, function_name="lengths", trust_remote_code=True)
    assert raised.value.result["lengths"].tolist() == [[3, 4], [3, 4]]
