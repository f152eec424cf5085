"""Whether docs/format.md is enough: a reader of 60 lines, written from it with boto3 alone, reads what we wrote."""

import ast
import runpy
import time
from pathlib import Path

import pytest

from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.urls import open_store

READER = Path(__file__).with_name("strangers_reader.py")
Reader = runpy.run_path(str(READER))["Reader"]


@pytest.fixture
def registry(s3_url, s3_settings, tmp_path, made_once):
    """Three versions on S3, one of them deleted, one edited, one with an alias."""
    from airflow_provider_hfreg.testing.models import text_classifier

    registry = Registry(s3_url, s3=s3_settings, cache_folder=tmp_path / "cache")
    for number in (1, 2, 3):
        if number > 1:
            time.sleep(1.1)  # a stranger has the store's dates, which are to the second
        registry.log_folder(
            made_once("commands model", text_classifier),
            model_name="finbert",
            version_name=f"v{number}",
            task="text-classification",
            pipeline_kwargs={"top_k": number},
        )
    model = registry.get_model("finbert")
    model.set_alias("champion", "v2")
    model.version("v2").set_tags({"stage": "live"})
    model.set_default("v2")
    return registry


@pytest.fixture
def stranger(s3_url, s3_settings):
    """The reader, at that registry."""
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    return Reader(
        bucket,
        prefix,
        endpoint_url=s3_settings.endpoint_url,
        region_name=s3_settings.region_name,
        aws_access_key_id=s3_settings.access_key_id,
        aws_secret_access_key=s3_settings.secret_access_key,
    )


def test_the_reader_is_short_and_knows_nothing_of_this_package():
    text = READER.read_text()
    assert text.count("\n") <= 60
    imported = {name.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for name in node.names}
    assert imported == {"boto3", "hashlib", "json", "pathlib"}
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]


def test_a_stranger_reads_what_the_registry_wrote(registry, stranger, tmp_path):
    for reference in ("finbert", "finbert/v1", "finbert@champion", "finbert@DEFAULT", "finbert@first", "finbert@LAST"):
        ours = registry.resolve(reference)
        theirs = stranger.fetch(reference, tmp_path / reference)
        assert theirs["content_digest"] == ours.content_digest, reference
        local = ours.local_folder()
        for file in ours.manifest.files:
            assert (tmp_path / reference / file.path).read_bytes() == (local / file.path).read_bytes()


def test_a_stranger_sees_what_was_deleted_and_what_is_damaged(registry, stranger, s3_settings, tmp_path):
    registry.get_model("finbert").delete_version("v3")
    with pytest.raises(LookupError, match="deleted"):
        stranger.fetch("finbert/v3", tmp_path / "deleted")
    assert stranger.resolve("finbert@LAST")["version_name"] == "v2"
    file = registry.resolve("finbert/v1").manifest.files[0]
    open_store(registry.url, s3_settings).put(file.key, b"something else")
    with pytest.raises(ValueError, match="damaged"):
        stranger.fetch("finbert/v1", tmp_path / "damaged")
