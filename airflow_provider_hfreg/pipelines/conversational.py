"""
``conversational``: the next reply of a conversation.

A row holds the user's turns, the current one last, and the model's earlier replies (none at a first turn); it gives
``generated_responses``, the earlier replies and the new one. The turns alternate, the user's first; where one side has
more, the rest of it follows. A row without a user turn is an error.

transformers had this pipeline up to 4.41, and this task does as it did: the tokenizer's chat template makes one prompt
of the turns, up to 256 new tokens follow unless the user or the model says otherwise (there, the model's own
``max_length`` was ignored), spaces before punctuation go unless ``clean_up_tokenization_spaces=False``, and of several
texts the first is the reply. A model without a chat template gets what 4.41 took for its kind: Blenderbot its spaces
between turns, every other (DialoGPT) an end-of-sequence token after each turn. There 4.41 differs for kinds that were
never trained for this pipeline: it wrote ChatML's or Llama's marks, which they have not read, with a warning.

A conversation longer than the model reads keeps its end, as text generation does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from airflow_provider_hfreg.pipelines.arguments import plain_arguments
from airflow_provider_hfreg.pipelines.base import (
    Forward,
    Outputs,
    PipelineTask,
    PromptCut,
    Results,
    Sequences,
    TaskContext,
)
from airflow_provider_hfreg.pipelines.decoding import Decoding, decode
from airflow_provider_hfreg.pipelines.generation import (
    GENERATION_ARGUMENTS,
    refuse_more_than_text,
    run_params,
    with_defaults,
)
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.rows import RowError
from airflow_provider_hfreg.signatures.signature import ModelSignature

Messages = list[dict[str, str]]

_RESPONSES = FeatureSpec("generated_responses", DataType.STRING, shape=(-1,))
_INPUTS = (FeatureSpec("user_inputs", DataType.STRING, shape=(-1,)), _RESPONSES)
_PARAMS = (ParamSpec("clean_up_tokenization_spaces", DataType.BOOL),)
_ONE_REPLY = frozenset({"num_return_sequences"})
_DECODING = Decoding(alone=True, clean_up=True, spares_byte_pairs=False)

_BLENDERBOT = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ ' ' }}{% endif %}{{ message['content'] }}"
    "{% if not loop.last %}{{ '  ' }}{% endif %}{% endfor %}{{ eos_token }}"
)
_END_AFTER_EACH = "{% for message in messages %}{{ message['content'] }}{{ eos_token }}{% endfor %}"


class Conversational(PipelineTask):
    """See the module."""

    name: ClassVar[str] = "conversational"
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    heads: ClassVar[tuple[str, ...]] = ("ForCausalLM", "LMHeadModel", "ModelWithLMHead", "ForConditionalGeneration")
    forward: ClassVar[Forward] = Forward.GENERATE
    arguments: ClassVar[frozenset[str]] = GENERATION_ARGUMENTS - _ONE_REPLY | {spec.name for spec in _PARAMS}
    last_family: ClassVar[str | None] = "4.41"
    generation_defaults: ClassVar[Mapping[str, Any]] = {"max_new_tokens": 256}

    def auto_class_of(self, config: Mapping[str, Any]) -> str:
        """Return the class of decoders, or of encoder-decoders."""
        return "AutoModelForSeq2SeqLM" if config.get("is_encoder_decoder") else self.auto_class

    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:
        """Return the signature; a run may set the generation parameters."""
        refuse_more_than_text(parameters, self.name)
        params = run_params(parameters, without=_ONE_REPLY) + with_defaults(_PARAMS, parameters)
        return ModelSignature(_INPUTS, (_RESPONSES,), params)

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments."""
        return plain_arguments({**preprocess, **forward, **postprocess})

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return one prompt per conversation."""
        template = _template(context)
        prompts: list[str] = []
        kept: list[int] = []
        errors: list[RowError] = []
        turns = zip(rows.column("user_inputs").to_pylist(), rows.column(_RESPONSES.name).to_pylist(), strict=True)
        for row, (users, replies) in enumerate(turns):
            prompt = _prompt(row, users, replies, context.tokenizer, template)
            if isinstance(prompt, RowError):
                errors.append(prompt)
            else:
                prompts.append(prompt)
                kept.append(row)
        return Sequences(
            row=np.array(kept, np.int64),
            text=pa.array(prompts, pa.string()),
            encoding={"add_special_tokens": False},  # a template writes its own
            prompt_cut=PromptCut.TOO_LONG,
            errors=tuple(errors),
        )

    def postprocess(self, outputs: Outputs, rows: pa.RecordBatch, context: TaskContext) -> Results:
        """Return the earlier replies and the new one."""
        earlier = rows.column(_RESPONSES.name).take(pa.array(outputs.row, pa.int64())).to_pylist()
        new = decode(context.tokenizer, [texts[0] for texts in outputs.generated], context.parameters, _DECODING)
        replies = [[*past, reply] for past, reply in zip(earlier, new, strict=True)]
        return Results(outputs.row, {_RESPONSES.name: pa.array(replies, pa.list_(pa.string()))})


def messages_of(users: Sequence[str], replies: Sequence[str]) -> Messages:
    """
    Return the turns in their order, the current one last.

    >>> [message["content"] for message in messages_of(["hi", "and you?"], ["fine"])]
    ['hi', 'fine', 'and you?']
    """
    said = chain.from_iterable(
        (("user", user), ("assistant", reply)) for user, reply in zip_longest(users[:-1], replies)
    )
    turns = [(role, content) for role, content in said if content is not None]
    return [{"role": role, "content": content} for role, content in [*turns, ("user", users[-1])]]


def _template(context: TaskContext) -> str | None:
    """Return the template for a tokenizer that has none; None leaves it to the tokenizer."""
    if getattr(context.tokenizer, "chat_template", None):
        return None
    return _BLENDERBOT if str(context.config.get("model_type")).startswith("blenderbot") else _END_AFTER_EACH


def _prompt(
    row: int, users: Sequence[str], replies: Sequence[str], tokenizer: Any, template: str | None
) -> str | RowError:
    if not users:
        return RowError(row, "no_turn", "expected at least one turn of the user, found an empty list", "user_inputs")
    try:
        return str(
            tokenizer.apply_chat_template(
                messages_of(users, replies), chat_template=template, add_generation_prompt=True, tokenize=False
            )
        )
    except Exception as error:  # noqa: BLE001  a template is the model's own code, and may refuse a conversation
        return RowError(row, "bad_conversation", f"the model's chat template refuses it: {error}", "user_inputs")
