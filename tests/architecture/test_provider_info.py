"""What Airflow discovers, by Airflow's own schemas and its own discovery."""

from __future__ import annotations

import importlib
import json
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from airflow_provider_hfreg.get_provider_info import get_provider_info
from airflow_provider_hfreg.hooks.hfreg import HFRegistryHook

AIRFLOW = Path(airflow.__file__).parent


@pytest.fixture(scope="module")
def info():
    return get_provider_info()


def test_it_follows_the_schema_that_airflow_checks_at_runtime(info):
    schema = json.loads((AIRFLOW / "provider_info.schema.json").read_text())
    jsonschema.validate(info, schema)
    assert set(info) <= set(schema["properties"]), "a key that Airflow does not know is never read"


def test_its_connection_form_follows_the_stricter_schema_of_provider_files(info):
    schema = json.loads((AIRFLOW / "provider.yaml.schema.json").read_text())
    jsonschema.validate(info["connection-types"], schema["properties"]["connection-types"])


def test_every_module_and_class_it_names_is_there(info):
    for kind in ("hooks", "operators", "triggers"):
        for entry in info[kind]:
            assert all(importlib.import_module(module) for module in entry["python-modules"])
    [connection] = info["connection-types"]
    module, _, name = connection["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert hook is HFRegistryHook
    assert (hook.conn_type, hook.hook_name) == (connection["connection-type"], connection["hook-name"])


def test_it_names_all_hooks_operators_and_triggers(info):
    named = {
        module
        for kind in ("hooks", "operators", "triggers")
        for entry in info[kind]
        for module in entry["python-modules"]
    }
    package = Path(importlib.import_module("airflow_provider_hfreg").__file__).parent
    for room, ending in (
        ("hooks", "Hook(BaseHook)"),
        ("operators", "Operator(BaseOperator)"),
        ("triggers", "(BaseTrigger)"),
    ):
        holding = [path for path in (package / room).glob("*.py") if ending in path.read_text()]
        assert {f"airflow_provider_hfreg.{room}.{path.stem}" for path in holding} <= named


def test_the_installed_package_declares_it():
    found = [entry for entry in entry_points(group="apache_airflow_provider") if "hfreg" in entry.value]
    assert [entry.load()() for entry in found] == [get_provider_info()]


def test_airflow_shows_the_connection_form_as_it_is_meant(info):
    manager = ProvidersManager()
    widgets = manager.connection_form_widgets
    fields = {name for name in widgets if name.startswith("extra__hfreg__")}
    assert fields == {f"extra__hfreg__{name}" for name in info["connection-types"][0]["conn-fields"]}
    assert widgets["extra__hfreg__session_token"].is_sensitive
    behaviour = manager.field_behaviours["hfreg"]
    assert behaviour["relabeling"]["host"] == "Registry URL"
    assert behaviour["hidden_fields"] == ["schema", "port"]
    assert ProvidersManagerTaskRuntime().hooks["hfreg"].hook_name == HFRegistryHook.hook_name
    options = dict(manager.provider_configs)["airflow-provider-hfreg"]["hfreg"]["options"]
    assert options == info["config"]["hfreg"]["options"]
    assert {name for name, option in options.items() if option.get("sensitive")} == {"broker_url", "message_keys"}
