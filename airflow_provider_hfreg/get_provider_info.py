"""What Airflow discovers of this provider. Imports nothing: it runs in every Airflow process."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "Hugging Face registry"

_CONNECTION_FORM: dict[str, Any] = {
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "port"],
        "relabeling": {"host": "Registry URL", "login": "Access key", "password": "Secret key"},
        "placeholders": {
            "host": "s3://bucket/prefix or file:///srv/hfreg",
            "login": "empty: the machine's own credentials, or the Amazon connection's",
            "extra": '{"endpoint_url": "http://127.0.0.1:8333"}',
        },
    },
    # Each is stored in the connection's extra under its name.
    "conn-fields": {
        "endpoint_url": {
            "label": "Endpoint URL",
            "description": "Of an S3 server that is not Amazon's, such as http://minio:9000.",
            "schema": {"type": ["string", "null"]},
        },
        "region_name": {
            "label": "Region",
            "description": "Such as eu-central-1; empty: the machine's or the Amazon connection's own.",
            "schema": {"type": ["string", "null"]},
        },
        "aws_conn_id": {
            "label": "Amazon connection",
            "description": "Id of an Amazon Web Services connection whose session is used instead of the keys above "
            "(needs the extra 'amazon').",
            "schema": {"type": ["string", "null"]},
        },
        "session_token": {
            "label": "Session token",
            "description": "Of temporary keys.",
            "schema": {"type": ["string", "null"], "format": "password"},
        },
        "sse": {
            "label": "Server-side encryption",
            "description": "Asked for with every object written; empty: what the bucket does by itself.",
            "schema": {"type": ["string", "null"], "enum": ["AES256", "aws:kms", None]},
        },
        "sse_kms_key_id": {
            "label": "KMS key",
            "description": "For aws:kms; empty: the account's default key.",
            "schema": {"type": ["string", "null"]},
        },
        "read_only": {
            "label": "Read-only",
            "description": "Refuse to log, edit or delete through this connection. The bucket's policy is the guard; "
            "this spares mistakes.",
            "schema": {"type": ["boolean", "null"]},
        },
    },
}

_CONFIG: dict[str, Any] = {
    "hfreg": {
        "description": "The Hugging Face registry provider.",
        "options": {
            "cache_folder": {
                "description": "Folder of a worker in which files of model versions are kept, shared by its processes. "
                "Empty: the provider's own folder below the user's cache folder.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "/var/cache/hfreg",
                "default": "",
            },
            "cache_size_gib": {
                "description": "Most that the cache folder holds, in GiB; above it, files that were used least "
                "recently go, never those that are read. Empty: half of the disk that it lies on. inf: no bound.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "200",
                "default": "",
            },
            "broker_url": {
                "description": "Of the Celery broker between operators and the resident workers of executor pools. On "
                "Redis a database of its own, not Airflow's.",
                "version_added": "0.1.0",
                "type": "string",
                "sensitive": True,
                "example": "redis://redis:6379/5",
                "default": "",
            },
            "message_keys": {
                "description": "Keys, separated by commas, that messages to workers are signed with: the first signs, "
                "all verify. The same on every machine; such as from `openssl rand -hex 32`.",
                "version_added": "0.1.0",
                "type": "string",
                "sensitive": True,
                "example": None,
                "default": "",
            },
            "executor_pools": {
                "description": "Executor pools by name, as JSON. Each may have: queue, device (cpu or cuda), gpu, "
                "cuda_version, memory_gib, airflow_pool, slots, shards_in_flight, threads, trust_remote_code.",
                "version_added": "0.1.0",
                "type": "string",
                "example": '{"cpu": {}, "gpu-a10": {"device": "cuda", "cuda_version": "12.4", "memory_gib": 22}}',
                "default": "",  # Airflow formats defaults: no braces
            },
            "worker_storages": {
                "description": "What a worker may touch, as a JSON list of URL prefixes, each with the connection that "
                "reaches it. A message that points elsewhere is refused.",
                "version_added": "0.1.0",
                "type": "string",
                "example": '[{"url": "s3://lake", "conn_id": "hfreg_default"}]',
                "default": "",
            },
            "claim_lapse_s": {
                "description": "Seconds after which a worker that stopped answering is taken for dead, and its shard "
                "is given to another one.",
                "version_added": "0.1.0",
                "type": "float",
                "example": None,
                "default": "30",
            },
        },
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, as Airflow's ``provider_info.schema.json`` defines it."""
    return {
        "package-name": "airflow-provider-hfreg",
        "name": _INTEGRATION,
        "description": "Register Hugging Face pipelines on your own S3 and run them over tables.",
        "integrations": [{"integration-name": _INTEGRATION, "tags": ["ml"]}],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_hfreg.hooks.hfreg"]}],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_hfreg.operators.log_model",
                    "airflow_provider_hfreg.operators.run_model",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["airflow_provider_hfreg.triggers.batch_run"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "hfreg",
                "hook-class-name": "airflow_provider_hfreg.hooks.hfreg.HFRegistryHook",
                "hook-name": _INTEGRATION,
                **_CONNECTION_FORM,
            }
        ],
        "config": _CONFIG,
        "cli": ["airflow_provider_hfreg.cli.definition.get_hfreg_cli_commands"],
    }
