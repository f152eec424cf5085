"""
Airflow connections, and S3 credentials and options out of one: of type ``hfreg``, or of the Amazon provider.

Invariants:

- Secrets stay in the settings that are returned (whose repr hides them); none is logged or put into a message.
- ``aws_conn_id`` wins over a key written into the connection itself: it names a session that may assume a role and
  renew itself, which a key cannot.
- The Amazon provider is imported only when a connection asks for it: it is an extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_provider_hfreg.errors import SettingsError
from airflow_provider_hfreg.storage.settings import S3Settings

if TYPE_CHECKING:
    from airflow.sdk import Connection

HFREG_CONN_TYPE = "hfreg"
AWS_CONN_TYPE = "aws"


def get_connection(conn_id: str, *, hint: str) -> Connection:
    """
    Return an Airflow connection.

    :param conn_id: its id.
    :param hint: what it should be, for the message.
    :raises SettingsError: there is none of this id.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise SettingsError(
            f"There is no connection {conn_id!r}: add one {hint} under Admin, Connections, or set the environment "
            f"variable AIRFLOW_CONN_{conn_id.upper()} to its JSON."
        ) from None


def storage_url(place: str) -> str:
    """
    Return a URL as it is, and an absolute path as one.

    >>> storage_url("/srv/texts/*.csv"), storage_url("s3://lake/texts")
    ('file:///srv/texts/*.csv', 's3://lake/texts')
    """
    return f"file://{place.replace('%', '%25')}" if place.startswith("/") else place


def s3_settings_of(connection: Connection) -> S3Settings:
    """
    Return how to reach S3 with this connection.

    :param connection: of type ``hfreg``, or ``aws`` as the Amazon provider defines it.
    :raises SettingsError: another type of connection, or the Amazon provider is needed and not installed.
    """
    if connection.conn_type == AWS_CONN_TYPE:
        return _amazon_settings(connection.conn_id)
    if connection.conn_type != HFREG_CONN_TYPE:
        raise SettingsError(
            f"Connection {connection.conn_id!r} is of type {connection.conn_type!r}; storage needs one of type 'hfreg' "
            f"(Hugging Face registry) or 'aws' (Amazon Web Services)."
        )
    return _own_settings(connection)


def _own_settings(connection: Connection) -> S3Settings:
    extra = {name: value for name, value in connection.extra_dejson.items() if value not in (None, "")}
    options: dict[str, Any] = {
        name: extra.get(name) for name in ("endpoint_url", "region_name", "sse", "sse_kms_key_id")
    }
    if aws_conn_id := extra.get("aws_conn_id"):
        return _amazon_settings(aws_conn_id, **options)
    return S3Settings(
        **options,
        access_key_id=connection.login or None,
        secret_access_key=connection.password or None,
        session_token=extra.get("session_token"),
    )


def _amazon_settings(
    aws_conn_id: str,
    *,
    endpoint_url: str | None = None,
    region_name: str | None = None,
    sse: str | None = None,
    sse_kms_key_id: str | None = None,
) -> S3Settings:
    try:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook  # noqa: PLC0415 - an extra
    except ImportError:
        raise SettingsError(
            f"Connection {aws_conn_id!r} is to be used for storage, and the Amazon provider that reads it is not "
            f"installed here: pip install 'airflow-provider-hfreg[amazon]'."
        ) from None
    # The Amazon hook takes an unknown connection for "use the machine's own credentials", with a warning: ask first.
    get_connection(aws_conn_id, hint="of type 'aws'")
    hook: AwsGenericHook[Any] = AwsGenericHook(aws_conn_id=aws_conn_id, client_type="s3")
    return S3Settings(
        session=hook.get_session(region_name=region_name),
        endpoint_url=endpoint_url or hook.conn_config.get_service_endpoint_url("s3"),
        region_name=region_name or hook.region_name,
        sse=sse,
        sse_kms_key_id=sse_kms_key_id,
    )
