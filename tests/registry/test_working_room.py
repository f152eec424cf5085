"""Logging where the host's cache folder cannot be written or its disk is full: told as such, or not needed at all."""

from pathlib import Path

import pytest

from airflow_provider_hfreg.errors import LocalFileError
from airflow_provider_hfreg.inference import pipeline
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.testing.faults import files_hold_at_most
from airflow_provider_hfreg.versions.cache import HostCache

TASK = "text-classification"
HINT = r"It lies in the cache folder: set another one \(\$HFREG_CACHE, or cache_folder\)\."


def file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "cache"


def below_proc(_):
    return Path("/proc/hfreg/cache")


@pytest.mark.parametrize("unusable", [file_in_the_way, below_proc])
def test_a_folder_that_cannot_be_made_is_told_with_what_to_do(tmp_path, unusable):
    with (
        pytest.raises(LocalFileError, match=rf"Making a folder in /.* failed: .*{HINT}"),
        HostCache(unusable(tmp_path)).scratch(),
    ):
        pytest.fail("there is no such folder")


def test_what_fails_in_a_scratch_folder_is_not_laid_to_the_cache(tmp_path):
    with pytest.raises(IsADirectoryError), HostCache(tmp_path / "cache").scratch() as scratch:
        scratch.read_bytes()


@pytest.mark.parametrize("unusable", [file_in_the_way, below_proc])
def test_a_folder_of_this_machine_is_logged_and_imported_without_any_cache(file_url, classifier, tmp_path, unusable):
    with_cache = Registry(file_url, cache_folder=tmp_path / "host")
    without = Registry(file_url, cache_folder=unusable(tmp_path))
    logged = without.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    exported = with_cache.resolve("finbert/v1").export(tmp_path / "out")
    assert without.import_version(exported, version_name="v2").content_digest == logged.content_digest


def test_a_pipeline_that_finds_no_folder_to_be_packaged_in_is_told(file_url, classifier, tmp_path):
    registry = Registry(file_url, cache_folder=file_in_the_way(tmp_path))
    with pytest.raises(LocalFileError, match=rf"Making a folder in .*: Not a directory\. .*{HINT}"):
        registry.log_model(pipeline(TASK, model=str(classifier)), model_name="finbert")
    assert registry.models() == []


@pytest.mark.parametrize("room_bytes", [0, 100, 60_000])
def test_a_pipeline_that_finds_no_room_to_be_packaged_in_is_told(file_registry, classifier, tmp_path, room_bytes):
    """There is room for no file, for none of them whole, and for all small ones and not for the weights."""
    pipe = pipeline(TASK, model=str(classifier))
    file_registry._begin()
    with (
        files_hold_at_most(room_bytes),
        pytest.raises(LocalFileError, match=rf"Writing .*host/scratch/.* failed: File too large\. .*{HINT}"),
    ):
        file_registry.log_model(pipe, model_name="finbert")
    assert file_registry.models() == []
    assert not list((tmp_path / "host" / "scratch").iterdir())
