"""What a manifest says, and what its digest depends on."""

import dataclasses
import json

import pytest

from airflow_provider_hfreg.errors import FunctionNotFoundError, UnknownFormatError
from airflow_provider_hfreg.pipelines.spec import PipelineSpec
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.manifest import Annotations, Manifest, ModelFunction, VersionFile

TEXT = FeatureSpec("text", DataType.STRING)
SIGNATURE = ModelSignature([TEXT], [FeatureSpec("label", DataType.STRING)], [ParamSpec("top_k", DataType.INT64)])


def file_of(path, hexadecimal):
    digest = f"sha256:{hexadecimal * 32}"
    return VersionFile(path, Layout.blob(digest), digest, 10)


def manifest(**changes):
    values = {
        "model_name": "finbert",
        "version_name": "v1",
        "spec": PipelineSpec("text-classification", {"top_k": 2}, dtype="float32", transformers_version="5.23.0"),
        "functions": (ModelFunction("__call__", SIGNATURE),),
        "options": {"target_methods": ["__call__"], "cuda_version": "12.4"},
        "environment": {"python": "3.11.7"},
        "files": (file_of("model.safetensors", "ab"), file_of("config.json", "cd")),
        "logged": Annotations({"team": "risk"}, {"accuracy": 0.91}, "first"),
        "logged_by": {"user": "ana"},
        "nonce": "n1",
        "created": "2026-01-02T03:04:05.000006Z",
    }
    return Manifest(**{**values, **changes})


def test_a_manifest_is_read_back_as_it_was_written():
    written = manifest()
    assert Manifest.from_bytes(written.to_bytes(), "here") == written
    assert Manifest.from_bytes(written.to_bytes(), "here").to_bytes() == written.to_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "n2"},
        {"created": "2027-01-01T00:00:00.000000Z"},
        {"model_name": "other"},
        {"version_name": "v2"},
        {"environment": {"python": "3.12.0"}},
        {"logged_by": {}},
        {"logged": Annotations()},
        {"files": tuple(reversed(manifest().files))},
        {"spec": dataclasses.replace(manifest().spec, transformers_version="5.22.1", source={"folder": "/x"})},
    ],
)
def test_the_content_digest_does_not_depend_on_who_logged_it_when_and_how(changes):
    assert manifest(**changes).content_digest == manifest().content_digest


@pytest.mark.parametrize(
    "changes",
    [
        {"files": (file_of("model.safetensors", "ef"), file_of("config.json", "cd"))},
        {"files": (file_of("renamed.safetensors", "ab"), file_of("config.json", "cd"))},
        {"options": {"target_methods": ["__call__"], "cuda_version": None}},
        {"functions": (ModelFunction("__call__", ModelSignature([TEXT], [TEXT])),)},
        {"spec": dataclasses.replace(manifest().spec, parameters={"top_k": 3})},
        {"spec": dataclasses.replace(manifest().spec, generation={"do_sample": True})},
        {"spec": dataclasses.replace(manifest().spec, dtype="bfloat16")},
        {"spec": dataclasses.replace(manifest().spec, task="sentiment-analysis")},
        {"spec": dataclasses.replace(manifest().spec, transformers_version="4.57.0")},
        {"spec": dataclasses.replace(manifest().spec, transformers_version=None)},
    ],
)
def test_the_content_digest_changes_with_what_a_worker_loads_and_how_it_reads_texts(changes):
    assert manifest(**changes).content_digest != manifest().content_digest


def test_the_content_digest_is_part_of_the_format():
    # A changed digest would make every logged version look new: change the format version with it.
    assert manifest().content_digest == "sha256:1ef0715a864c721b54fe0af2a17c6df9694b75f21f9d1fca9c7febb9adb63dbb"


def test_a_manifest_changed_after_publishing_is_refused():
    plain = json.loads(manifest().to_bytes())
    plain["pipeline"]["parameters"]["top_k"] = 5
    with pytest.raises(UnknownFormatError, match="changed after it was published"):
        Manifest.from_bytes(json.dumps(plain).encode(), "here")


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../b", "", "a\\b"])
def test_a_path_that_leaves_the_folder_is_refused(path):
    plain = json.loads(manifest().to_bytes())
    plain["files"][0]["path"] = path
    with pytest.raises(UnknownFormatError, match="no path inside"):
        Manifest.from_bytes(json.dumps(plain).encode(), "here")


def test_keys_that_a_later_package_adds_are_ignored():
    plain = json.loads(manifest().to_bytes()) | {"attestation": {}}
    assert Manifest.from_bytes(json.dumps(plain).encode(), "here") == manifest()


def test_a_document_without_what_a_manifest_needs_is_refused():
    plain = json.loads(manifest().to_bytes())
    del plain["files"]
    with pytest.raises(UnknownFormatError, match="no manifest"):
        Manifest.from_bytes(json.dumps(plain).encode(), "here")


def test_a_function_is_found_by_its_method_and_by_its_upper_case_name():
    assert manifest().function("__CALL__") is not None
    assert manifest().function("__CALL__") == manifest().function("__call__")


def test_an_unknown_function_says_which_there_are():
    with pytest.raises(FunctionNotFoundError, match=r"no function 'predict'; it has '__call__' \(shown as __CALL__\)"):
        manifest().function("predict")
