"""
``summarization``: a shorter text for each document, as :mod:`~airflow_provider_hfreg.pipelines.text_to_text` says.

A row gives ``summary_text``; with ``num_return_sequences`` above 1 it is the JSON list of its summaries.
"""

from __future__ import annotations

from typing import ClassVar

from airflow_provider_hfreg.pipelines.text_to_text import TextToText


class Summarization(TextToText):
    """See the module."""

    name: ClassVar[str] = "summarization"
    columns: ClassVar[tuple[str, str]] = ("documents", "summary_text")
