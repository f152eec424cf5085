"""Whose Python files a model needs: its own, wherever its configuration names them."""

from __future__ import annotations

import json

import pytest

from airflow_provider_hfreg.errors import UnsafeModelError
from airflow_provider_hfreg.pipelines.folder import describe_folder
from airflow_provider_hfreg.testing.models import text_classifier


@pytest.fixture
def folder(tmp_path):
    return text_classifier(tmp_path / "model")


def add(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("config.json", {"auto_map": {"AutoModel": "own.Own"}}),
        ("config.json", {"custom_pipelines": {"text-classification": {"impl": "own.Own"}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Slow", None]}}),
        ("tokenizer_config.json", {"auto_map": ["own.Slow", None]}),
    ],
)
def test_a_model_with_code_of_its_own_says_so_and_is_not_loaded_without_consent(folder, name, entries):
    from airflow_provider_hfreg.inference.loading import load_pipeline

    plain = describe_folder(folder, "text-classification", {})
    assert not plain.remote_code
    add(folder / name, **entries)
    assert describe_folder(folder, "text-classification", {}).remote_code
    with pytest.raises(UnsafeModelError, match="trust_remote_code=True"):
        load_pipeline(folder, plain, device="cpu")  # by a manifest that says there is none
