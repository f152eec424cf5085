"""The public face: log, find, run, load and export model versions."""

from airflow_provider_hfreg.registry.model import Model
from airflow_provider_hfreg.registry.registry import Registry
from airflow_provider_hfreg.registry.version import ModelVersion

__all__ = ["Model", "ModelVersion", "Registry"]
