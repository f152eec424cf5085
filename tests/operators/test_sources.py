"""Where a logging task takes its model from."""

from __future__ import annotations

import sys

import pytest

from airflow_provider_hfreg.errors import SettingsError
from airflow_provider_hfreg.operators.sources import pipeline_builder, source_of


@pytest.mark.parametrize("model", ["./out", "out/run/model", "~/model", "../model"])
def test_a_relative_folder_is_refused(model):
    with pytest.raises(SettingsError, match="full path"):
        source_of(model)


@pytest.mark.parametrize("path", ["no_such_module:build", "json:no_such_function", "json", "json:__name__", ":f", ""])
def test_an_import_path_to_nothing_is_named(path):
    with pytest.raises(SettingsError, match=r"package\.module:function"):
        pipeline_builder(path)


def test_an_error_inside_the_callables_module_keeps_its_traceback(tmp_path, monkeypatch):
    (tmp_path / "module_with_a_missing_import.py").write_text("import something_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_not_installed"):
        pipeline_builder("module_with_a_missing_import:build")
    assert "module_with_a_missing_import" not in sys.modules


def test_a_callable_is_itself():
    assert pipeline_builder(len) is len
