"""How many resident workers of a stack answer on their broker."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from airflow_provider_hfreg.errors import BrokerUnavailableError
from airflow_provider_hfreg.testing.stack import parts
from airflow_provider_hfreg.workers.app import Broker
from airflow_provider_hfreg.workers.settings import parse_settings


def count_workers(environment: Mapping[str, str], *, timeout_s: float = 1.0) -> int:
    """
    Return how many workers answer; none where the broker does not.

    :param environment: of the stack's commands.
    :param timeout_s: to wait for their answers.
    """
    plain = {
        "broker_url": environment["AIRFLOW__HFREG__BROKER_URL"],
        "message_keys": [environment["AIRFLOW__HFREG__MESSAGE_KEYS"]],
        "pools": {parts.POOL: {}},
    }
    settings = parse_settings(plain)
    with contextlib.closing(Broker(settings, settings.pool(parts.POOL))) as broker:
        try:
            return len(broker.statuses(timeout_s=timeout_s))
        except BrokerUnavailableError:
            return 0
