"""Versions of libraries, as they lie on the path."""

import importlib

from airflow_provider_hfreg.pipelines.installed import find_version


def install(folder, version):
    described = folder / "thing_of_a_test-0.dist-info"
    described.mkdir(exist_ok=True)
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: thing-of-a-test\nVersion: {version}\n")
    importlib.invalidate_caches()


def test_a_library_is_found_once_it_is_there_and_its_description_is_read_once(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_version("thing-of-a-test") is None
    install(tmp_path, "1.0")
    assert find_version("thing-of-a-test") == "1.0"
    install(tmp_path, "2.0")
    assert find_version("thing-of-a-test") == "1.0"
