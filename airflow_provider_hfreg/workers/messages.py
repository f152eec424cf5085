"""
What a sender tells a worker: which shard of which run. JSON, signed and dated; nothing in it is executed or unpickled.

A message only wakes: all that it says is looked up in storage, and storage decides. It is signed because a worker
spends hours of a GPU on it, and dated because a broker may bring it back tomorrow. Signing is
:class:`itsdangerous.URLSafeTimedSerializer` with HMAC-SHA256 (RFC 2104); what is signed is no secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from itsdangerous import BadData, SignatureExpired, URLSafeTimedSerializer

from airflow_provider_hfreg.errors import MessageRefusedError

PROTOCOL = 1
_SALT = "airflow-provider-hfreg.shard"


@dataclass(frozen=True)
class ShardMessage:
    """
    Execute a shard.

    :param output: URL of the run's output folder, where its ``run.json`` lies.
    :param sender: of this try at the run; what it stops are its own messages.
    :param delivery: from 1; how many times the shard was begun, this one included.
    :param takes_over: etag of the claim that this one replaces; None: there is no claim yet.
    :param lapse_s: the sender takes a claim that stays unchanged for this long for lapsed.
    """

    output: str
    batch_run_id: str
    shard: int
    sender: str
    delivery: int = 1
    takes_over: str | None = None
    lapse_s: float = 30.0


def signed(message: ShardMessage, keys: Sequence[str]) -> str:
    """Return a message as text, signed with the first key and dated now."""
    return str(_serializer(keys[:1]).dumps({"protocol": PROTOCOL, **asdict(message)}))


def verified(text: object, keys: Sequence[str], *, max_age_s: float) -> ShardMessage:
    """
    Return what was signed.

    :param max_age_s: whole seconds count.
    :raises MessageRefusedError: it is unsigned or signed with another key, too old, or of another protocol.
    """
    try:
        plain = _serializer(keys).loads(str(text), max_age=int(max_age_s))
    except SignatureExpired as error:
        raise MessageRefusedError(
            f"The message was sent at {error.date_signed} and is older than {max_age_s:.0f} s: its sender has sent the "
            "shard again. If every message is refused so, the clocks of the two machines differ."
        ) from error
    except BadData as error:
        raise MessageRefusedError(
            "The message is not signed with one of this worker's keys. Give sender and workers the same "
            "message_keys; if they have them, somebody else writes to this queue."
        ) from error
    if not isinstance(plain, Mapping) or plain.get("protocol") != PROTOCOL:
        theirs = plain.get("protocol") if isinstance(plain, Mapping) else None
        raise MessageRefusedError(
            f"The message has the protocol {theirs!r}, and this worker speaks {PROTOCOL}: install one version of "
            "airflow-provider-hfreg where runs are started and on the workers."
        )
    return _message(plain)


def _message(plain: Mapping[str, Any]) -> ShardMessage:
    types = {
        "output": str,
        "batch_run_id": str,
        "shard": int,
        "sender": str,
        "delivery": int,
        "takes_over": str | None,
        "lapse_s": float | int,
    }
    given: dict[str, Any] = {option.name: plain.get(option.name) for option in fields(ShardMessage)}
    for name, kind in types.items():
        if not isinstance(given[name], kind):
            raise MessageRefusedError(
                f"The message has {name}={given[name]!r:.80}; its sender and this worker disagree."
            )
    return ShardMessage(**given)


def _serializer(keys: Sequence[str]) -> URLSafeTimedSerializer:
    # Of several keys itsdangerous signs with the last and tries all.
    digest = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(list(reversed(keys)), salt=_SALT, signer_kwargs=digest)
