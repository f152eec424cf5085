"""The log of a followed run."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_hfreg.workers.claims import Claim
from airflow_provider_hfreg.workers.run_log import RunLog


@pytest.fixture
def run_log(caplog):
    caplog.set_level(logging.INFO)
    return RunLog(logging.getLogger("run"))


def test_what_it_waits_for_is_told_when_it_is_another_and_again_after_ten_minutes(run_log, caplog):
    for now_s, what in enumerate(["a", "a", "b", None, "b"]):
        run_log.waits(what, now_s)
    assert caplog.messages == ["Waiting: a", "Waiting: b", "Waiting: b"]
    for now_s in (603, 604, 605):
        run_log.waits("b", now_s)
    assert len(caplog.messages) == 4


def test_each_line_of_a_worker_is_told_once_and_with_its_level(run_log, caplog):
    def claim(log, first=0, attempt="one"):
        return Claim("gpu-0", "sender", 1, attempt=attempt, log=tuple(log), log_first=first)

    run_log.tell(claim(["INFO Loaded", "WARNING Cut"]))
    run_log.tell(claim(["WARNING Cut", "INFO Done"], first=1))
    run_log.tell(claim(["INFO Much later"], first=40))  # the lines between are lost: a claim keeps the last ones
    run_log.skip(claim(["INFO Told by another"], attempt="two"))
    run_log.tell(claim(["INFO Told by another", "INFO New"], attempt="two"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "[gpu-0] Loaded"),
        ("WARNING", "[gpu-0] Cut"),
        ("INFO", "[gpu-0] Done"),
        ("INFO", "[gpu-0] Much later"),
        ("INFO", "[gpu-0] New"),
    ]
