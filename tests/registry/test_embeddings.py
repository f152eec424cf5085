"""Embeddings from logging to running: what a version keeps of pooling, and what its frames hold."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest

from airflow_provider_hfreg.errors import InvalidOptionError, RowsFailedError, UnsupportedPipelineError
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.encoder_models import sentence_embedder

TASK = "feature-extraction"
TEXTS = ["the film was good", "Das Essen war köstlich", "a dull plot " * 60]


@pytest.fixture(scope="session")
def embedder(tmp_path_factory):
    """A folder that sentence-transformers might have written."""
    return sentence_embedder(tmp_path_factory.mktemp("embedder") / "model", pooling="cls")


def vectors(frame):
    return np.array(frame["embedding"].tolist(), np.float32)


@pytest.fixture
def frame():
    return pd.DataFrame({"inputs": TEXTS}, index=["a", "b", "c"])


def test_a_folder_on_any_store_is_logged_with_its_pooling_and_runs(open_registry, embedder, frame, store_url):
    registry = open_registry()
    there = open_store(f"{store_url}/trained", registry._s3)
    for path in embedder.rglob("*"):
        if path.is_file():
            there.put(path.relative_to(embedder).as_posix(), path.read_bytes())

    logged = registry.log_folder(there.url, model_name="minilm", version_name="v1", task=TASK)
    result = open_registry().resolve("minilm/v1").run(frame)

    assert logged.spec.parameters == {"pooling": "cls", "normalize": True}
    assert logged.signature().outputs == (FeatureSpec("embedding", DataType.FLOAT, (-1,)),)
    assert list(result.index) == ["a", "b", "c"]
    assert result.attrs["truncated_rows"] == 1
    assert np.abs(np.linalg.norm(vectors(result), axis=1) - 1).max() <= 1e-6


def test_the_manifest_holds_the_parameters_and_the_type_of_the_column(file_registry, file_url, embedder):
    file_registry.log_folder(embedder, model_name="minilm", version_name="v1", task=TASK)
    manifest = json.loads(open_store(file_url).get("models/minilm/versions/v1.json"))
    assert manifest["pipeline"]["parameters"] == {"normalize": True, "pooling": "cls"}
    [function] = manifest["functions"]
    assert function["signature"]["outputs"] == [{"name": "embedding", "dtype": "FLOAT", "shape": [-1]}]
    assert {"modules.json", "1_Pooling/config.json"} <= {file["path"] for file in manifest["files"]}


def test_a_plain_pipeline_is_logged_and_its_version_loads_as_a_callable_that_gives_one_vector(
    file_registry, embedder, frame
):
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = transformers.pipeline(TASK, model=str(embedder), device="cpu")
    mv = file_registry.log_model(pipe, model_name="minilm", version_name="v1")
    expected = vectors(mv.run(frame))

    loaded = mv.load(device="cpu")

    assert np.abs([loaded(text)["embedding"] for text in TEXTS] - expected).max() <= 1e-5
    first_token = pipe(TEXTS[0])[0][0]  # of the vectors that transformers' own gives
    assert np.abs(first_token / np.linalg.norm(first_token) - expected[0]).max() <= 1e-5
    again = file_registry.log_model(loaded, model_name="again", version_name="v1")
    assert again.spec.parameters == mv.spec.parameters
    assert np.abs(vectors(again.run(frame)) - expected).max() <= 1e-5


def test_a_row_that_fails_is_an_error_or_a_null(file_registry, embedder):
    mv = file_registry.log_folder(embedder, model_name="minilm", task=TASK)
    frame = pd.DataFrame({"inputs": [TEXTS[0], None, TEXTS[1]]}, index=[10, 20, 30])
    with pytest.raises(RowsFailedError, match=r"row 1 \(null_value\)"):
        mv.run(frame)
    result = mv.run(frame, on_row_error="null")
    assert [None if value is None else len(value) for value in result["embedding"]] == [32, None, 32]


def test_an_empty_frame_gives_an_empty_column(file_registry, embedder):
    mv = file_registry.log_folder(embedder, model_name="minilm", task=TASK)
    result = mv.run(pd.DataFrame({"inputs": pd.Series([], dtype=object)}))
    assert (list(result.columns), len(result)) == (["embedding"], 0)


def test_the_vectors_are_the_same_whatever_the_window_and_whatever_a_run_sets(file_registry, embedder):
    mv = file_registry.log_folder(embedder, model_name="minilm", task=TASK)
    three = vectors(mv.run(pd.DataFrame({"inputs": TEXTS})))
    many = vectors(mv.run(pd.DataFrame({"inputs": [TEXTS[row % 3] for row in range(5000)]})))
    assert np.abs(many - three[np.arange(5000) % 3]).max() <= 1e-5
    raw = vectors(mv.run(pd.DataFrame({"inputs": TEXTS}), params={"normalize": False}))
    assert np.abs(raw / np.linalg.norm(raw, axis=1, keepdims=True) - three).max() <= 1e-5
    assert np.linalg.norm(raw, axis=1).min() > 1.1


def test_a_folder_whose_pooling_lies_behind_a_link_makes_the_same_version(file_registry, embedder, tmp_path):
    """As a snapshot that was put together of links: without it, the vectors would be pooled in another way."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in embedder.iterdir():
        (linked / path.name).symlink_to(path)
    assert (linked / "1_Pooling").is_dir()
    logged = file_registry.log_folder(embedder, model_name="embedder", version_name="v1", task=TASK)
    again = file_registry.log_folder(linked, model_name="embedder", version_name="v2", task=TASK)
    assert again.content_digest == logged.content_digest
    assert again.spec.parameters["pooling"] == "cls"


def test_what_is_not_done_here_is_refused_with_the_callers_own_folder(file_registry, tmp_path):
    folder = sentence_embedder(tmp_path / "weighted", pooling="weightedmean")
    with pytest.raises(UnsupportedPipelineError, match=rf"{folder}.* pools by weightedmean"):
        file_registry.log_folder(folder, model_name="minilm", task=TASK)


@pytest.mark.parametrize("reading", [{}, {"max_length": 9, "prompt": "query: ", "do_lower_case": True}])
def test_an_export_of_a_logged_pipeline_is_logged_again_as_the_same_content(
    file_registry, embedder, frame, tmp_path, reading
):
    from airflow_provider_hfreg import inference

    pipe = inference.pipeline(TASK, str(embedder), device="cpu", pooling="max", **reading)
    mv = file_registry.log_model(pipe, model_name="minilm", version_name="v1")

    again = file_registry.log_folder(mv.export(tmp_path / "export"), model_name="copy", task=TASK)

    assert again.spec.parameters == {"pooling": "max", "normalize": True, **reading}
    assert again.content_digest == mv.content_digest
    assert np.array_equal(vectors(again.run(frame)), vectors(mv.run(frame)))


def test_a_method_is_checked_on_the_object_that_the_version_loads_as(file_registry, embedder, frame):
    import transformers

    from airflow_provider_hfreg import inference

    signature = ModelSignature(
        [FeatureSpec("inputs", DataType.STRING)], [FeatureSpec("embedding", DataType.FLOAT, (-1,))]
    )
    described = {"options": {"target_methods": ["predict"]}, "signatures": {"predict": signature}}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transformers.pipeline(TASK, model=str(embedder), device="cpu")
    with pytest.raises(InvalidOptionError, match="names 'predict' of a FeatureExtractionPipeline, and a version of"):
        file_registry.log_model(theirs, model_name="minilm", **described)

    ours = inference.pipeline(TASK, str(embedder), device="cpu")
    mv = file_registry.log_model(ours, model_name="minilm", **described)
    expected = [answer["embedding"] for answer in ours(TEXTS)]
    assert np.abs(vectors(mv.run(frame, function_name="predict")) - expected).max() <= 1e-5
