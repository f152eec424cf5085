"""
What a sender tells a worker: which shard of which run; and what a worker says of itself when it is asked. JSON, signed
and dated; nothing in it is executed or unpickled.

A message only wakes: all that it says is looked up in storage, and storage decides. It is signed because a worker
spends hours of a GPU on it, and dated because a broker may bring it back tomorrow. An answer is signed with the
question's nonce, because it can end a run: whoever reaches the broker could make one up, or repeat an old one. Signing
is :class:`itsdangerous.URLSafeTimedSerializer` with HMAC-SHA256 (RFC 2104); what is signed is no secret.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args, get_type_hints

from itsdangerous import BadData, URLSafeTimedSerializer

from airflow_provider_hfreg.errors import MessageExpiredError, MessageRefusedError

PROTOCOL = 2  # of 1, workers know no precision and would compute in the version's own
_SHARD, _ANSWER = "airflow-provider-hfreg.shard", "airflow-provider-hfreg.answer"  # one never passes for the other
_NONCE_LENGTH = 64


@dataclass(frozen=True)
class ShardMessage:
    """
    Execute a shard.

    :param output: URL of the run's output folder, where its ``run.json`` lies.
    :param plan: digest of that ``run.json``, so that it is part of what is signed; see :func:`plan_digest`.
    :param sender: of this try at the run; what it stops are its own messages.
    :param delivery: from 1; how many times the shard was begun, this one included.
    :param takes_over: etag of the claim that this one replaces; None: there is no claim yet.
    :param is_repeated: one of the same content was sent before, and may have arrived.
    :param on_row_error: as this try asks for it, like ``max_row_errors``, ``token_budget`` and ``trust_remote_code``: a
        run may be resumed with others than it began with.
    :param lapse_s: the sender takes a claim that stays unchanged for this long for lapsed.
    """

    output: str
    batch_run_id: str
    plan: str
    shard: int
    sender: str
    delivery: int = 1
    takes_over: str | None = None
    is_repeated: bool = False
    on_row_error: str = "quarantine"
    max_row_errors: float | None = None
    token_budget: int | None = None
    trust_remote_code: bool = False
    lapse_s: float = 30.0

    @property
    def max_age_s(self) -> float:
        """A message older than this was sent again meanwhile, and is refused."""
        return 4 * self.lapse_s


def _read_as(kind: Any) -> Any:
    """Return what JSON may hold for a field: a number without a fraction is one, too."""
    return kind | int if float in (kind, *get_args(kind)) else kind


_TYPES: Mapping[str, Any] = {name: _read_as(kind) for name, kind in get_type_hints(ShardMessage).items()}


def plan_digest(run_json: bytes) -> str:
    """Return the digest of a run's ``run.json`` as it is stored."""
    return hashlib.sha256(run_json).hexdigest()


def message_id(text: object) -> str:
    """Return the name under which a worker says what it refused."""
    return hashlib.sha256(str(text).encode()).hexdigest()[:16]


def signed(message: ShardMessage, keys: Sequence[str]) -> str:
    """Return a message as text, signed with the first key and dated now."""
    return str(_serializer(keys[:1], _SHARD).dumps({"protocol": PROTOCOL, **asdict(message)}))


def verified(text: object, keys: Sequence[str]) -> ShardMessage:
    """
    Return what was signed.

    :raises MessageRefusedError: it is unsigned or signed with another key, or of another protocol.
    :raises MessageExpiredError: it is too old, or from another time.
    """
    try:
        plain, sent = _serializer(keys, _SHARD).loads(str(text), return_timestamp=True)
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
    message = _message(plain)
    age_s = time.time() - sent.timestamp()
    if abs(age_s) > message.max_age_s:  # either way: one clock may be before the other
        raise MessageExpiredError(
            f"The message was sent at {sent:%Y-%m-%d %H:%M:%S} UTC, {abs(age_s):.0f} s from now by this machine's "
            "clock: it waited in the queue, and its sender has sent the shard again. If every message is refused so, "
            "the clocks of the two machines differ."
        )
    return message


def signed_answer(status: Mapping[str, Any], nonce: object, keys: Sequence[str]) -> str:
    """
    Return what a worker says of itself, as the answer to one question.

    :param status: plain JSON values.
    :param nonce: of the question.
    """
    return str(_serializer(keys[:1], _ANSWER).dumps([str(nonce)[:_NONCE_LENGTH], dict(status)]))


def verified_answer(text: object, nonce: str, keys: Sequence[str]) -> Mapping[str, Any] | None:
    """
    Return what a worker said; None: it was none that has these keys, or it answered another question.

    >>> key = "a key of sixteen or more"
    >>> verified_answer(signed_answer({"worker": "w"}, "n1", [key]), "n1", [key])
    {'worker': 'w'}
    >>> verified_answer(signed_answer({"worker": "w"}, "n1", [key]), "n2", [key])
    """
    try:
        answered, status = _serializer(keys, _ANSWER).loads(str(text))
    except (BadData, ValueError, TypeError):
        return None
    return status if answered == nonce and isinstance(status, Mapping) else None


def _message(plain: Mapping[str, Any]) -> ShardMessage:
    given: dict[str, Any] = {name: plain.get(name) for name in _TYPES}
    for name, kind in _TYPES.items():
        if not isinstance(given[name], kind):
            raise MessageRefusedError(
                f"The message has {name}={given[name]!r:.80}; its sender and this worker disagree about messages."
            )
    message = ShardMessage(**given)
    if not 1 <= message.lapse_s < math.inf:
        raise MessageRefusedError(
            f"The message has lapse_s={message.lapse_s}; it must be a number of seconds from 1 on."
        )
    return message


def _serializer(keys: Sequence[str], salt: str) -> URLSafeTimedSerializer:
    # Of several keys itsdangerous signs with the last and tries all.
    digest = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(list(reversed(keys)), salt=salt, signer_kwargs=digest)
