"""What a deferred task leaves behind: plain, read by another version too, and its time."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import timedelta

from airflow_provider_hfreg.triggers.deferral import Deferral

LEFT = Deferral(
    executor_pool="cpu",
    conn_id="lake",
    output_url="s3://lake/out",
    batch_run_id="6d0629b7eb-0123456789",
    sender="s",
    options={"on_row_error": "quarantine", "max_row_errors": 1.0, "token_budget": None},
    began_at=100.0,
    ends_at=None,
    resumed_shards=2,
    resumed_rows=20,
)


def test_it_is_kept_as_plain_json_and_read_by_a_version_that_knows_less():
    kept = json.loads(json.dumps(LEFT.to_json())) | {"of_tomorrow": True}
    assert Deferral.from_json(kept) == LEFT


def test_deferred_again_it_is_followed_as_another_sender():
    again = LEFT.again()
    assert again.sender not in {LEFT.sender, LEFT.again().sender}
    assert replace(again, sender=LEFT.sender) == LEFT


def test_airflow_ends_a_task_a_minute_after_its_trigger_would_have_and_never_at_once():
    assert LEFT.timeout() is None
    timeout = replace(LEFT, ends_at=time.time() + 600).timeout()
    assert timedelta(minutes=10) < timeout <= timedelta(minutes=11)
    assert replace(LEFT, ends_at=0.0).timeout() == timedelta(minutes=1)
