"""What is free goes back to the system."""

from __future__ import annotations

import platform

import psutil
import pytest

from airflow_provider_hfreg.runs import memory

MIB = 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc, which has no such call")
def test_pages_between_what_is_still_used_are_given_back(monkeypatch):
    monkeypatch.setattr(memory, "_EVERY_S", 0.0)
    kept, freed = [], []
    for _ in range(5000):
        freed.append(bytearray(30_000))
        kept.append(bytearray(600))
    del freed
    held = psutil.Process().memory_info().rss
    memory.give_back()
    assert held - psutil.Process().memory_info().rss > 100 * MIB
    assert len(kept) == 5000
