"""Messages: what is signed comes back; anything else is refused, and says why."""

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeTimedSerializer

from airflow_provider_hfreg.errors import MessageExpiredError, MessageRefusedError
from airflow_provider_hfreg.workers import messages
from airflow_provider_hfreg.workers.messages import (
    PROTOCOL,
    ShardMessage,
    signed,
    signed_answer,
    verified,
    verified_answer,
)

KEYS = ("the first key of two", "the second key of two")
MESSAGE = ShardMessage("s3://lake/out", "0123456789-0123456789", "digest", 7, "sender", 2, takes_over='"etag"')


@given(
    st.builds(
        ShardMessage,
        output=st.text(),
        batch_run_id=st.text(),
        plan=st.text(),
        shard=st.integers(),
        sender=st.text(),
        delivery=st.integers(),
        takes_over=st.none() | st.text(),
        is_repeated=st.booleans(),
        max_row_errors=st.none() | st.integers(0) | st.floats(0, 1),
        token_budget=st.none() | st.integers(1),
        lapse_s=st.floats(1, 1e6),
    )
)
def test_what_was_signed_comes_back(message):
    assert verified(signed(message, KEYS), KEYS) == message


def test_a_key_is_changed_without_a_stop():
    """The new key is first taught to the workers, then signs, then the old one goes."""
    old, new = KEYS
    assert verified(signed(MESSAGE, [old]), [old, new]) == MESSAGE
    assert verified(signed(MESSAGE, [new, old]), [old, new]) == MESSAGE
    assert verified(signed(MESSAGE, [new, old]), [new]) == MESSAGE
    with pytest.raises(MessageRefusedError, match="not signed with one of this worker's keys"):
        verified(signed(MESSAGE, [old]), [new])


@pytest.mark.parametrize("text", ["", "text", None, 7, {"shard": 7}, json.dumps({"shard": 7}), "a.b.c", "\x00"])
def test_what_is_not_signed_is_refused(text):
    with pytest.raises(MessageRefusedError, match="not signed"):
        verified(text, KEYS)


@given(st.data())
def test_a_signed_message_that_was_changed_is_refused(data):
    text = signed(MESSAGE, KEYS)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("Ab9-_.").filter(lambda letter: letter != text[place]))
    changed = text[:place] + letter + text[place + 1 :]
    try:
        assert verified(changed, KEYS) == MESSAGE  # the last letter of base64 has bits that say nothing
    except MessageRefusedError:
        return


def test_an_answer_is_to_one_question_and_by_one_of_the_keys():
    old, new = KEYS
    answer = signed_answer({"worker": "w"}, "question", [new, old])
    assert verified_answer(answer, "question", [old, new]) == {"worker": "w"}
    assert verified_answer(answer, "another question", [old, new]) is None
    assert verified_answer(answer, "question", [old]) is None


@pytest.mark.parametrize("text", ["", None, 7, {"worker": "w"}, json.dumps(["question", {"worker": "w"}]), "a.b.c"])
def test_what_is_not_signed_answers_nothing(text):
    assert verified_answer(text, "question", KEYS) is None


def test_a_message_does_not_pass_for_an_answer_nor_an_answer_for_a_message():
    assert verified_answer(signed(MESSAGE, KEYS), "question", KEYS) is None
    with pytest.raises(MessageRefusedError, match="not signed"):
        verified(signed_answer({"worker": "w"}, "question", KEYS), KEYS)


@pytest.mark.parametrize("skew_s", [-100, -2, 0, 2, 100])
def test_a_clock_that_is_a_little_off_either_way_does_no_harm(monkeypatch, skew_s):
    text = signed(MESSAGE, KEYS)
    now_s = time.time()
    monkeypatch.setattr("time.time", lambda: now_s + skew_s)
    assert verified(text, KEYS) == MESSAGE


@pytest.mark.parametrize("skew_s", [-200, 200])
def test_a_message_of_another_time_is_dropped_and_speaks_of_clocks(monkeypatch, skew_s):
    text = signed(MESSAGE, KEYS)
    now_s = time.time()
    monkeypatch.setattr("time.time", lambda: now_s + skew_s)
    with pytest.raises(MessageExpiredError, match=r"(199|200|201) s from now by this machine's clock.*clocks"):
        verified(text, KEYS)


def test_a_sender_of_longer_patience_has_messages_that_live_longer(monkeypatch):
    text = signed(replace(MESSAGE, lapse_s=100.0), KEYS)
    now_s = time.time()
    monkeypatch.setattr("time.time", lambda: now_s + 390)
    assert verified(text, KEYS).lapse_s == 100


@pytest.mark.parametrize("lapse_s", [0, 0.5, float("inf"), float("nan")])
def test_a_lapse_that_would_spin_or_never_come_is_refused(lapse_s):
    with pytest.raises(MessageRefusedError, match="lapse_s"):
        verified(signed(replace(MESSAGE, lapse_s=lapse_s), KEYS), KEYS)


def test_a_message_of_another_protocol_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(messages, "PROTOCOL", 1)
    text = signed(MESSAGE, KEYS)
    monkeypatch.undo()
    with pytest.raises(MessageRefusedError, match="protocol 1, and this worker speaks 2: install one version"):
        verified(text, KEYS)


def test_a_message_of_another_shape_is_refused():
    serializer: URLSafeTimedSerializer = messages._serializer(KEYS[:1], messages._SHARD)
    for plain in ({"protocol": PROTOCOL, "shard": "7"}, {"protocol": PROTOCOL}, [1], "text"):
        with pytest.raises(MessageRefusedError):
            verified(serializer.dumps(plain), KEYS)


def test_a_message_for_another_purpose_is_refused():
    other = URLSafeTimedSerializer(list(KEYS), salt="session").dumps({"protocol": PROTOCOL})
    with pytest.raises(MessageRefusedError, match="not signed"):
        verified(other, KEYS)
