"""The examples in the docstrings of the examples."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["run_demo", "sentiment_data", "sentiment_model", "sentiment_report"])
def test_examples_in_docstrings_hold(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed
