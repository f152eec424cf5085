"""
What an output column holds whose rows have lists of objects: their JSON text, or the lists themselves.

A signature speaks of the text; a run may ask for the other. The module names no Arrow: parsing a DAG must not load it.
"""

from __future__ import annotations

from enum import Enum


class OutputFormat(Enum):
    """The value is the name that a run is asked with."""

    JSON = "json"  # STRING, as the signature says
    STRUCT = "struct"  # Arrow's list<struct<…>>


OUTPUT_FORMATS = tuple(known.value for known in OutputFormat)
