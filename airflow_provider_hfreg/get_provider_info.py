"""What Airflow discovers of this provider. Imports nothing: it runs in every Airflow process."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, as Airflow's ``provider_info.schema.json`` defines it."""
    return {
        "package-name": "airflow-provider-hfreg",
        "name": "Hugging Face registry",
        "description": "Register Hugging Face pipelines on your own S3 and run them over tables.",
    }
