"""The names that users write, each where the documentation says."""

from __future__ import annotations

import importlib
import inspect

import pytest

from airflow_provider_hfreg import errors

PUBLIC = {
    "airflow_provider_hfreg.registry": {"Model", "ModelVersion", "Registry"},
    "airflow_provider_hfreg.inference": {"pipeline"},
    "airflow_provider_hfreg.hooks.hfreg": {"HFREG_CONN_ID", "HFRegistryHook"},
    "airflow_provider_hfreg.operators.log_model": {"LogHFModelOperator"},
    "airflow_provider_hfreg.operators.run_model": {"RunHFModelOperator"},
    "airflow_provider_hfreg.signatures": {"DataType", "FeatureSpec", "ModelSignature", "ParamSpec", "infer_signature"},
    "airflow_provider_hfreg.signatures.features": {"DataType", "FeatureSpec", "ParamSpec"},
    "airflow_provider_hfreg.signatures.signature": {"ModelSignature"},
}
METHODS = {
    "Registry": {"get_model", "log_folder", "log_hub_model", "log_model", "models", "resolve"},
    "Model": {"default", "first", "last", "set_alias", "set_default", "show_versions", "version", "versions"},
    "ModelVersion": {"export", "load", "run", "show_functions", "signature", "to_reference"},
}


@pytest.mark.parametrize("module", PUBLIC)
def test_a_module_has_its_names(module):
    assert PUBLIC[module] <= set(vars(importlib.import_module(module)))


@pytest.mark.parametrize("name", METHODS)
def test_a_class_of_the_registry_has_its_methods(name):
    face = getattr(importlib.import_module("airflow_provider_hfreg.registry"), name)
    assert {method for method in dir(face) if not method.startswith("_")} >= METHODS[name]


def test_every_error_is_drawn_in_the_tree_and_in_its_place():
    drawn = errors.__doc__
    leaves = [
        member for member in vars(errors).values() if inspect.isclass(member) and issubclass(member, errors.HfregError)
    ]
    assert not [leaf.__name__ for leaf in leaves if leaf.__name__ not in drawn]
    for leaf in leaves:
        line = next(line for line in drawn.splitlines() if leaf.__name__ in line.split())
        depth = len(leaf.__mro__[: leaf.__mro__.index(errors.HfregError)])
        assert (len(line) - len(line.lstrip(" │├└─"))) // 4 == depth + 1, f"{leaf.__name__} stands at the wrong depth"
        assert ("retryable" in line) == leaf.retryable
