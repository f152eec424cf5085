"""What a sender does next, case by case, and for any history of claims: on a clock of the test's own."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import (
    DeviceMemoryError,
    HfregError,
    ModelTooLargeError,
    ShardAbandonedError,
    ShardFailedError,
)
from airflow_provider_hfreg.workers.claims import Claim, ClaimError, ClaimState, silent_claim
from airflow_provider_hfreg.workers.follow import MAX_DELIVERIES, Follower, Send

LAPSE_S, RESEND_S = 30.0, 60.0
RUNNING = Claim(worker="w", sender="s", delivery=1)


def fresh(shards):
    return Follower(shards, lapse_s=LAPSE_S, resend_s=RESEND_S)


def follower(*shards):
    made = fresh(shards or (0,))
    made.looked()
    return made


def sends(follower, now_s, in_flight):
    """Return what is due, and have it sent."""
    due = follower.due(now_s, in_flight)
    for send in due:
        follower.sent(send.shard, now_s)
    return due


def claim(state=ClaimState.RUNNING, delivery=1, error=None):
    return replace(RUNNING, state=state, delivery=delivery, error=error)


def test_as_many_are_sent_as_may_be_in_flight_the_lowest_first():
    following = follower(3, 5, 8)
    assert sends(following, 0, 2) == [Send(3, 1, None), Send(5, 1, None)]
    assert sends(following, 1, 2) == []
    following.saw(3, claim(), "a", 2)
    assert sends(following, 3, 2) == []
    assert following.saw(3, claim(ClaimState.DONE), "b", 4)
    assert sends(following, 5, 2) == [Send(8, 1, None)]
    assert following.open == 2


def test_a_message_that_nobody_claims_is_sent_again_and_counts_as_the_same():
    following = follower()
    sends(following, 0, 1)
    assert sends(following, RESEND_S - 1, 1) == []
    assert sends(following, RESEND_S, 1) == [Send(0, 1, None, is_repeated=True)]
    assert sends(following, RESEND_S + 1, 1) == []
    assert following.ignored() == []
    assert sends(following, 2 * RESEND_S, 1) == [Send(0, 1, None, is_repeated=True)]
    assert following.ignored() == [0]
    following.saw(0, claim(), "etag", 2 * RESEND_S + 1)
    assert following.ignored() == []


def test_what_the_broker_did_not_take_is_due_as_before():
    following = follower(0, 1)
    for now_s in range(9):
        assert following.due(now_s, 2) == [Send(0, 1, None), Send(1, 1, None)]
    assert following.ignored() == []
    following.sent(0, 9)
    assert following.due(9, 2) == [Send(1, 1, None)]
    assert following.due(9, 1) == []
    assert following.due(9 + RESEND_S, 2) == [Send(0, 1, None, is_repeated=True), Send(1, 1, None)]


def ignoring(*shards):
    made = follower(*shards)
    for number in range(3):
        sends(made, number * RESEND_S, len(shards))
    return made


def test_a_shard_is_overlooked_where_one_worker_had_nothing_in_hand_twice_in_a_row():
    following = ignoring(4)
    assert following.overlooked(["w1", "w2"], ()) is None
    assert following.overlooked(["w2"], ()) == (4, "w2")


@pytest.mark.parametrize(
    "between",
    [(["w2"], ()), ([], ()), (["w"], {4})],
    ids=["another worker was between two shards", "it worked meanwhile", "somebody fetches its model"],
)
def test_a_worker_that_is_idle_for_a_moment_overlooks_nothing(between):
    following = ignoring(4)
    for _ in range(9):
        assert following.overlooked(["w"], ()) is None
        assert following.overlooked(*between) is None


def test_a_shard_that_was_not_ignored_at_both_roll_calls_is_not_overlooked():
    following = follower(4)
    assert following.overlooked(["w"], ()) is None
    sends(following, 0, 1)
    sends(following, RESEND_S, 1)
    assert following.overlooked(["w"], ()) is None
    sends(following, 2 * RESEND_S, 1)
    assert following.overlooked(["w"], ()) is None
    following.saw(4, claim(), "etag", 2 * RESEND_S + 1)
    assert following.overlooked(["w"], ()) is None


def test_a_claim_that_moves_is_never_taken_over_however_long_it_takes():
    following = follower()
    sends(following, 0, 1)
    for beat in range(1000):
        following.saw(0, claim(), f"etag {beat}", beat * 10)
        assert sends(following, beat * 10 + 9, 1) == []


def test_a_claim_that_stands_still_is_taken_over_by_its_etag():
    following = follower()
    sends(following, 0, 1)
    following.saw(0, claim(), "etag", 5)
    assert sends(following, 5 + LAPSE_S - 1, 1) == []
    assert sends(following, 5 + LAPSE_S, 1) == [Send(0, 2, "etag")]


def test_a_shard_that_was_handed_back_is_sent_at_once_and_not_counted():
    following = follower()
    following.saw(0, claim(ClaimState.RETURNED, delivery=4), "etag", 5)
    assert sends(following, 5, 1) == [Send(0, 4, "etag")]


def test_a_failure_that_may_pass_is_tried_again_after_a_while():
    following = follower()
    following.saw(0, claim(ClaimState.FAILED, error=ClaimError("StorageUnavailableError", "away")), "etag", 10)
    assert sends(following, 10, 1) == []
    (send,) = sends(following, 60, 1)
    assert (send, send.because) == (Send(0, 2, "etag"), "away")


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (ClaimState.RUNNING, "w had it and was silent for 30 s."),
        (ClaimState.RETURNED, "w handed it back."),
        (ClaimState.DONE, "w had done it, and its part is gone."),
    ],
)
def test_a_shard_that_is_sent_again_says_why(state, told):
    following = follower()
    following.saw(0, claim(state), "etag", 0)
    if state is ClaimState.DONE:
        following.lost(0)
    (send,) = sends(following, 1000, 1)
    assert send.because == told


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ClaimError("ModelTooLargeError", "8 GiB"), ModelTooLargeError),
        (ClaimError("VersionNotFoundError", "deleted"), HfregError),
    ],
)
def test_a_failure_that_cannot_pass_stops_the_run_with_the_workers_own_error(error, kind):
    following = follower()
    following.saw(0, claim(ClaimState.FAILED, error=error), "etag", 10)
    with pytest.raises(kind, match=rf"Shard 0 on w: {error.message}"):
        sends(following, 60, 1)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("DeviceMemoryError", DeviceMemoryError),
        ("ZeroDivisionError", ShardFailedError),
        ("RowsFailedError", HfregError),
    ],
)
def test_a_failure_that_comes_every_time_stops_the_run(kind, expected):
    following = follower()
    error = ClaimError(kind, "again")
    following.saw(0, claim(ClaimState.FAILED, MAX_DELIVERIES - 1, error), "etag", 0)
    assert sends(following, 1000, 1) == [Send(0, MAX_DELIVERIES, "etag")]
    following.saw(0, claim(ClaimState.FAILED, MAX_DELIVERIES, error), "etag 2", 1001)
    with pytest.raises(expected, match="again"):
        sends(following, 2000, 1)


def test_a_shard_that_ends_its_workers_stops_the_run_and_is_named():
    following = follower(6)
    following.saw(6, claim(delivery=MAX_DELIVERIES), "etag", 0)
    assert sends(following, LAPSE_S - 1, 1) == []
    with pytest.raises(ShardAbandonedError, match=r"Shard 6 was begun 5 times and never ended; w was the last"):
        sends(following, LAPSE_S, 1)


def test_a_shard_that_ended_three_workers_waits_until_all_others_are_done():
    following = follower(0, 1, 2)
    following.saw(0, claim(delivery=2), "two", 0)
    assert sends(following, LAPSE_S, 1) == [Send(0, 3, "two")]
    following.saw(0, claim(delivery=3), "three", LAPSE_S)
    assert sends(following, 2 * LAPSE_S, 1) == [Send(1, 1, None)]
    following.saw(1, claim(), "one", 2 * LAPSE_S)
    following.saw(1, claim(ClaimState.DONE), "done", 2 * LAPSE_S + 1)
    assert sends(following, 2 * LAPSE_S + 1, 1) == [Send(2, 1, None)]
    following.saw(2, claim(delivery=MAX_DELIVERIES), "suspect too", 3 * LAPSE_S)
    assert sends(following, 4 * LAPSE_S - 1, 1) == []
    following.saw(2, claim(ClaimState.DONE), "done", 4 * LAPSE_S)
    assert sends(following, 4 * LAPSE_S, 1) == [Send(0, 4, "three")]


def test_of_several_shards_that_ended_their_workers_none_waits_for_another():
    following = follower(0, 1)
    following.saw(0, claim(delivery=3), "a", 0)
    following.saw(1, claim(delivery=4), "b", 0)
    assert sends(following, LAPSE_S, 2) == [Send(0, 4, "a"), Send(1, 5, "b")]


def test_what_an_earlier_try_left_is_gone_on_with():
    """Its workers may still be at it; what it counted counts; and a part that vanished is computed anew."""
    following = fresh((0, 1, 2))
    following.saw(0, claim(delivery=2), "running", 0)
    following.saw(1, claim(ClaimState.DONE), "part gone", 0)
    following.looked()
    assert sends(following, 0, 9) == [Send(1, 2, "part gone"), Send(2, 1, None)]
    assert sends(following, LAPSE_S, 9) == [Send(0, 3, "running")]


@pytest.mark.parametrize(
    "left",
    [
        claim(ClaimState.FAILED, 1, ClaimError("ModelTooLargeError", "8 GiB")),
        claim(ClaimState.FAILED, MAX_DELIVERIES, ClaimError("StorageUnavailableError", "away")),
    ],
)
def test_what_ended_an_earlier_try_is_tried_anew(left):
    """Somebody may have put it right: a larger machine, a storage that is back."""
    following = fresh((0,))
    following.saw(0, left, "etag", 0)
    following.looked()
    (send,) = sends(following, 0, 1)
    assert (send.delivery, send.takes_over) == (1, "etag")


def test_a_shard_that_an_earlier_try_gave_up_is_tried_anew_once_it_lapsed():
    following = fresh((0,))
    following.saw(0, claim(delivery=MAX_DELIVERIES), "etag", 0)
    following.looked()
    assert sends(following, LAPSE_S - 1, 1) == []
    assert sends(following, LAPSE_S, 1) == [Send(0, 1, "etag")]


def test_while_nobody_could_look_no_claim_lapses():
    following = follower()
    sends(following, 0, 1)
    following.saw(0, claim(), "etag", 1)
    following.resumed(100)
    assert sends(following, 100 + LAPSE_S - 1, 1) == []
    assert sends(following, 100 + LAPSE_S, 1) == [Send(0, 2, "etag")]


def test_a_claim_that_vanished_is_no_claim():
    following = follower(0, 1)
    following.saw(0, claim(), "a", 0)
    following.saw(1, claim(), "b", 0)
    assert following.vanished([(1, "b")]) == [0]
    following.forget(0)
    assert following.claimless() == [0]
    assert following.vanished([(1, "b")]) == []
    assert sends(following, 1, 2) == [Send(0, 1, None)]
    following.finished(1)
    assert following.open == 1


def test_a_shard_that_is_done_and_whose_part_is_gone_is_taken_over_by_its_claims_etag():
    following = follower(0)
    sends(following, 0, 1)
    assert following.saw(0, claim(ClaimState.DONE, delivery=MAX_DELIVERIES), "done", 1)
    following.lost(0)
    assert following.open == 1
    assert following.changed([(0, "done")]) == []
    assert sends(following, 1, 1) == [Send(0, 1, "done")]
    assert sends(following, 2, 1) == []
    assert following.saw(0, claim(ClaimState.DONE), "done again", 3)


def test_whose_messages_still_run_is_known():
    following = fresh((0, 1, 2))
    following.saw(0, replace(claim(), sender="earlier"), "a", 0)
    following.looked()
    following.saw(1, claim(), "b", 0)
    following.saw(2, claim(ClaimState.DONE), "c", 0)
    assert following.senders() == {"earlier", "s"}


def test_a_claim_that_cannot_be_read_is_left_while_it_changes_and_is_nobodys():
    following = follower(0)
    for now_s in range(100):
        assert not following.saw(0, silent_claim(), f"etag {now_s}", now_s)
        assert sends(following, now_s, 1) == []
    assert following.senders() == set()
    assert sends(following, 99 + LAPSE_S - 1, 1) == []
    assert sends(following, 99 + LAPSE_S, 1) == [Send(0, 1, "etag 99")]


def test_only_what_this_try_left_before_the_first_look_was_told():
    following = Follower([0], lapse_s=LAPSE_S, resend_s=RESEND_S, sender="s")
    assert following.was_followed(RUNNING)
    assert not following.was_followed(replace(RUNNING, sender="another"))
    following.looked()
    assert not following.was_followed(RUNNING)


def test_only_a_changed_claim_of_an_open_shard_is_read():
    following = follower(0, 1)
    following.saw(0, claim(), "a", 0)
    following.saw(1, claim(ClaimState.DONE), "b", 0)
    assert following.changed([(0, "a"), (1, "c"), (7, "d")]) == []
    assert following.changed([(0, "a2"), (1, "c")]) == [0]


_HISTORY = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["running", "returned", "failed", "done", "nothing"]),
        st.floats(0.1, 90),
    ),
    max_size=60,
)


@given(_HISTORY, st.integers(1, 4))
def test_for_any_history_no_shard_is_forgotten_and_no_more_are_in_flight_than_may_be(history, in_flight):
    following = follower(0, 1, 2, 3)
    now, sent, done = 0.0, {}, set()
    deliveries = dict.fromkeys(range(4), 0)
    for number, (shard, event, pause) in enumerate(history):
        now += pause
        if event != "nothing" and shard in sent and shard not in done:
            error = ClaimError("StorageUnavailableError", "away") if event == "failed" else None
            deliveries[shard] = sent.pop(shard).delivery
            if following.saw(shard, claim(ClaimState(event), deliveries[shard], error), f"e{number}", now):
                done.add(shard)
        try:
            due = sends(following, now, in_flight)
        except HfregError:
            assert max(deliveries.values()) == MAX_DELIVERIES
            return
        assert not done & {send.shard for send in due}
        sent |= {send.shard: send for send in due}
        assert following.open == 4 - len(done)
    # Left alone, everything that is open is sent within the longest wait, as far as there is room.
    silent = now + RESEND_S + LAPSE_S + 5 * MAX_DELIVERIES
    try:
        due = sends(following, silent, 4)
        waiting = set(range(4)) - done - {send.shard for send in due}
        for send in due:
            following.saw(send.shard, claim(ClaimState.DONE, send.delivery), "the end", silent)
        # What ended its workers comes last.
        assert {send.shard for send in sends(following, silent, 4)} == waiting
    except ShardAbandonedError:
        assert max(deliveries.values()) == MAX_DELIVERIES
        return
    assert all(deliveries[shard] >= 3 for shard in waiting)


def test_whoever_follows_the_same_try_next_takes_its_claims_for_its_own():
    """Another triggerer: what failed for good stays failed, and deliveries go on being counted."""
    failed = claim(ClaimState.FAILED, delivery=2, error=ClaimError("ModelTooLargeError", "No."))
    running = claim(delivery=MAX_DELIVERIES)
    for seen, raised in ((failed, ModelTooLargeError), (running, ShardAbandonedError)):
        same, other = (Follower([0], lapse_s=LAPSE_S, resend_s=RESEND_S, sender=name) for name in ("s", "another"))
        for following in (same, other):
            following.saw(0, seen, "etag", 0)
            following.looked()
        with pytest.raises(raised):
            sends(same, LAPSE_S + 1, 1)
        assert [(send.delivery, send.takes_over) for send in sends(other, LAPSE_S + 1, 1)] == [(1, "etag")]


def test_a_shard_that_was_done_under_the_same_sender_is_done_at_the_first_look():
    same, other = (Follower([0], lapse_s=LAPSE_S, resend_s=RESEND_S, sender=name) for name in ("s", "another"))
    assert same.saw(0, claim(ClaimState.DONE), "etag", 0)
    assert not other.saw(0, claim(ClaimState.DONE), "etag", 0)
