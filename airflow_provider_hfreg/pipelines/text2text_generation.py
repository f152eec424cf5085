"""
``text2text-generation``: whatever an encoder-decoder answers to a text, as
:mod:`~airflow_provider_hfreg.pipelines.text_to_text` says.

A row gives ``generated_text``; with ``num_return_sequences`` above 1 it is the JSON list of its texts.
"""

from __future__ import annotations

from typing import ClassVar

from airflow_provider_hfreg.pipelines.text_to_text import TextToText


class Text2TextGeneration(TextToText):
    """See the module."""

    name: ClassVar[str] = "text2text-generation"
    columns: ClassVar[tuple[str, str]] = ("inputs", "generated_text")
