"""What a pipeline is, apart from its files: plain values that a manifest keeps and any family can rebuild it from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class PipelineSpec:
    """
    A Hugging Face pipeline without its files. Every field is JSON.

    :param task: the pipeline task, as the user wrote it (``ner`` stays ``ner``).
    :param parameters: what the pipeline was built with, under the names that ``transformers.pipeline`` takes
        (``top_k``, ``max_new_tokens``, ``aggregation_strategy`` …). What was not given is absent, never a default; only
        what decides the result and stands in no weight (``pooling``) is always there.
    :param generation: generation settings in force at logging that the user did not give: the family's own defaults, so
        that another family gives the same text. Empty for tasks that generate nothing.
    :param dtype: of the weights, as torch names it without the module: ``float32``, ``bfloat16``.
    :param attn_implementation: ``sdpa``, ``eager`` …; None where the family chose it.
    :param architecture: the model class, from ``config.architectures``.
    :param parameter_count: elements of all weights; with ``dtype`` it tells the memory needed before any is loaded.
    :param weights_size_bytes: of the safetensors files.
    :param transformers_version: it was logged under.
    :param source: where the files came from: ``{"repo_id": …, "commit": …}`` or ``{"folder": …}``; never a token.
    :param remote_code: the model needs Python files of its own (``auto_map``), consented to at logging.
    """

    task: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    dtype: str | None = None
    attn_implementation: str | None = None
    architecture: str | None = None
    parameter_count: int = 0
    weights_size_bytes: int = 0
    transformers_version: str | None = None
    source: Mapping[str, Any] | None = None
    remote_code: bool = False

    @property
    def family(self) -> str | None:
        """
        Return the major version of transformers that it was logged under, which decides how texts become tokens.

        >>> PipelineSpec("ner", transformers_version="4.57.1").family
        '4'
        """
        return None if self.transformers_version is None else self.transformers_version.partition(".")[0]

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> PipelineSpec:
        """Rebuild what :meth:`to_json` gave; what a later version of this package added to it is passed over."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in plain.items() if name in known})
