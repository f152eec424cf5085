"""Pipelines of other tasks into a folder and back: transformers' own classes, and one of somebody's own."""

import json

import numpy as np
import pytest
import torch

from airflow_provider_hfreg.errors import ModelLoadError, UnsafeModelError, UnsupportedPipelineError
from airflow_provider_hfreg.inference.stand_in import load_pipeline_object
from airflow_provider_hfreg.pipelines.folder import describe_folder
from airflow_provider_hfreg.pipelines.spec import PipelineSpec
from airflow_provider_hfreg.testing.audio_models import audio_classifier, speaker, speech_recognizer, transcriber
from airflow_provider_hfreg.versions.safety import check_content, select_files

SAMPLES = [np.random.default_rng(0).normal(size=size) for size in (400, 100)]


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return audio_classifier(tmp_path_factory.mktemp("audio") / "model")


@pytest.fixture(scope="module")
def transcribing(tmp_path_factory):
    return transcriber(tmp_path_factory.mktemp("transcriber") / "model")


def test_a_pipeline_without_a_tokenizer_comes_back(audio, plain, package):
    pipe = plain("audio-classification", audio, top_k=2, function_to_apply="sigmoid")
    folder, spec = package(pipe)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert spec.parameters == {"function_to_apply": "sigmoid", "top_k": 2}
    loaded = load_pipeline_object(folder, spec, device="cpu")
    assert type(loaded) is type(pipe)
    assert loaded(SAMPLES) == pipe(SAMPLES)


def test_what_the_class_sets_itself_is_not_kept(audio, plain, package):
    assert package(plain("audio-classification", audio))[1].parameters == {}


def test_a_pipeline_with_a_tokenizer_and_a_feature_extractor_comes_back(tmp_path, plain, package):
    pipe = plain("automatic-speech-recognition", speech_recognizer(tmp_path / "model"), chunk_length_s=5)
    folder, spec = package(pipe)
    assert spec.parameters == {"chunk_length_s": 5}
    assert load_pipeline_object(folder, spec, device="cpu")(SAMPLES[0]) == pipe(SAMPLES[0])


@pytest.mark.parametrize(
    "arguments",
    [{"max_new_tokens": 6, "num_beams": 2}, {"generate_kwargs": {"max_new_tokens": 5}}, {"return_timestamps": False}],
)
def test_a_pipeline_that_generates_comes_back(arguments, transcribing, plain, package):
    pipe = plain("automatic-speech-recognition", transcribing, **arguments)
    folder, spec = package(pipe)
    given = arguments.get("generate_kwargs", arguments)
    assert spec.parameters == given
    assert not spec.generation.keys() & given.keys()
    loaded = load_pipeline_object(folder, spec, device="cpu")
    assert type(loaded.tokenizer) is type(pipe.tokenizer)  # Whisper's own decodes for the pipeline
    noise = SAMPLES[0].astype(np.float32)
    assert loaded(noise.copy()) == pipe(noise.copy())


def test_the_dtype_is_kept(audio, plain, package):
    folder, spec = package(plain("audio-classification", audio, dtype=torch.bfloat16))
    assert spec.dtype == "bfloat16"
    assert load_pipeline_object(folder, spec, device="cpu").model.dtype is torch.bfloat16


def test_a_folder_is_described_as_its_pipeline_is(audio, plain, package):
    _, logged = package(plain("audio-classification", audio, function_to_apply="none"))
    described = describe_folder(audio, "audio-classification", {"function_to_apply": "none"})
    assert (described.parameters, described.dtype, described.architecture, described.remote_code) == (
        logged.parameters,
        logged.dtype,
        logged.architecture,
        False,
    )


def test_a_folder_that_names_no_model_is_refused(audio, tmp_path):
    for path in audio.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedPipelineError, match="architectures"):
        describe_folder(tmp_path, "audio-classification")


def test_weights_that_are_missing_are_never_drawn_at_random(tmp_path):
    folder = speech_recognizer(tmp_path / "model")
    spec = PipelineSpec("audio-classification", architecture="Wav2Vec2ForSequenceClassification")
    with pytest.raises(ModelLoadError, match=r"lack .*classifier"):
        load_pipeline_object(folder, spec, device="cpu")


def test_a_task_that_the_installed_transformers_lacks_is_told(audio):
    spec = PipelineSpec("mind-reading", architecture="Wav2Vec2ForSequenceClassification", transformers_version="3.0.0")
    with pytest.raises(ModelLoadError, match=r"no pipeline for the task 'mind-reading'.*logged under \(3\.0\.0\)"):
        load_pipeline_object(audio, spec, device="cpu")


def test_a_second_network_is_refused_before_anything_is_written(tmp_path, plain, package):
    pipe = plain("text-to-audio", speaker(tmp_path / "model"))
    pipe.vocoder = torch.nn.Linear(1, 1)
    with pytest.raises(UnsupportedPipelineError, match=r"text-to-audio pipeline has a vocoder \(Linear\)"):
        package(pipe)
    assert not (tmp_path / "packaged-0").exists()


def test_arguments_that_cannot_be_found_again_are_refused(tmp_path, plain, package):
    pipe = plain("text-to-audio", speaker(tmp_path / "model"), preprocess_params={"padding": True})
    with pytest.raises(UnsupportedPipelineError, match=r"does not keep what it was built with.*padding"):
        package(pipe)


def test_a_class_of_ones_own_comes_back_with_its_file_and_with_consent(word_lengths, package):
    folder, spec = package(word_lengths)
    assert (spec.remote_code, spec.parameters) == (True, {"power": 2})
    selected = select_files([path.name for path in folder.iterdir()], remote_code=True, where="here").stored
    assert "word_lengths.py" in selected
    for name in selected:
        check_content(name, folder / name, remote_code=True)
    with pytest.raises(UnsafeModelError, match="trust_remote_code=True"):
        load_pipeline_object(folder, spec, device="cpu")
    loaded = load_pipeline_object(folder, spec, device="cpu", trust_remote_code=True)
    assert type(loaded) is not type(word_lengths)
    assert loaded(["the film was good"]) == word_lengths(["the film was good"])
    assert loaded.lengths(["the film"]) == [[3, 4]]
    again, described = package(loaded)
    assert described == spec
    assert (again / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_a_class_that_a_worker_would_not_have_is_refused(audio, plain, package):
    pipe = plain("audio-classification", audio)
    pipe.__class__ = type("MyAudio", (type(pipe),), {})
    with pytest.raises(UnsupportedPipelineError, match="MyAudio, a class of its own, which a worker would not have"):
        package(pipe)


def test_a_class_that_would_not_be_asked_is_refused(classifiers, plain, package):
    pipe = plain("text-classification", classifiers("bert"))
    pipe.__class__ = type("MyClassifier", (type(pipe),), {})
    with pytest.raises(UnsupportedPipelineError, match="text-classification is run by this package without it"):
        package(pipe)
