"""
What transformers' own pipelines say about one row, in the columns of our signatures.

Where such a pipeline fails on a long text unless it is told what to do, it is told what our tasks promise.
"""

import json
import warnings

import torch
import transformers

from airflow_provider_hfreg.inference.tables import table_frame
from tests.matrix.cases import NEW_TOKENS

FAILED = {"error": True}


def build(task, folder, arguments):
    """Return transformers' pipeline; for ``conversational``, which no supported family has, its parts."""
    if task == "conversational":
        return _Conversations(str(folder), arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.pipeline(task, str(folder), device="cpu", **arguments)


def answer(pipe, task, row):
    """Return the outputs of one row, ``FAILED`` where the pipeline fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return json.loads(json.dumps(_ASK.get(task, _ask_text_to_text)(pipe, **row), default=_plain))
        except Exception:  # noqa: BLE001  pipelines fail in many ways
            return FAILED


def _plain(value):
    return value.item()


def _ask_text_classification(pipe, text, text_pair):
    pair = {"text_pair": text_pair} if (text_pair or "").strip() else {}
    found = pipe({"text": text, **pair}, truncation=True)
    return {"outputs": found} if isinstance(found, list) else found


def _ask_fill_mask(pipe, inputs):
    return {"outputs": pipe(inputs, tokenizer_kwargs={"truncation": True})}


def _ask_question_answering(pipe, question, context):
    found = pipe(question=question, context=context)
    if pipe._postprocess_params.get("top_k", 1) == 1:
        return found
    return {"outputs": [found] if isinstance(found, dict) else found}  # of one answer it drops the list


def _ask_text_generation(pipe, inputs):
    # 4.57 must be told the length again to know how much of a long prompt to drop.
    return {"outputs": pipe(inputs, handle_long_generation="hole", max_new_tokens=NEW_TOKENS)}


def _ask_table(pipe, query, table):
    found = pipe(query=query, table=table_frame(table))  # a frame that 4.57 reads with pandas 3, too
    return {name: found.get(name) for name in ("answer", "coordinates", "cells", "aggregator")}


def _ask_text_to_text(pipe, **row):
    (text,) = row.values()
    # Without a table of positions nothing is too long.
    found = pipe(text, **({} if pipe.model.config.model_type == "t5" else {"truncation": True}))
    (column,) = found[0]
    return {column: found[0][column] if len(found) == 1 else found}


_ASK = {
    "conversational": lambda pipe, user_inputs, generated_responses: pipe(user_inputs, generated_responses),
    "fill-mask": _ask_fill_mask,
    "ner": lambda pipe, inputs: {"outputs": pipe(inputs)},
    "token-classification": lambda pipe, inputs: {"outputs": pipe(inputs)},
    "question-answering": _ask_question_answering,
    "table-question-answering": _ask_table,
    "text-classification": _ask_text_classification,
    "sentiment-analysis": _ask_text_classification,
    "text-generation": _ask_text_generation,
    "zero-shot-classification": lambda pipe, sequences, candidate_labels: pipe(sequences, candidate_labels),
}


class _Conversations:
    """One conversation at a time as ``ConversationalPipeline`` of 4.41 ran it."""

    def __init__(self, folder, settings):
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        config = transformers.AutoConfig.from_pretrained(folder)
        auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        self.model = auto.from_pretrained(folder).eval()
        self.settings = settings
        if self.tokenizer.chat_template is None:
            self.tokenizer.chat_template = (
                "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"
            )

    def __call__(self, users, replies):
        messages = []
        for place in range(max(len(users) - 1, len(replies))):
            messages += [{"role": "user", "content": users[place]}] if place < len(users) - 1 else []
            messages += [{"role": "assistant", "content": replies[place]}] if place < len(replies) else []
        messages.append({"role": "user", "content": users[-1]})
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        limit, writes_elsewhere = self.tokenizer.model_max_length, self.model.config.is_encoder_decoder
        if len(ids) > limit:  # a conversation keeps its end, and leaves room for the reply where that follows it
            ids = ids[len(ids) - limit + (0 if writes_elsewhere else self.settings["max_new_tokens"]) :]
        ids = torch.tensor([ids])
        end = self.tokenizer.eos_token_id
        new = self.model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=end, **self.settings)
        start = 1 if writes_elsewhere else ids.shape[1]
        reply = self.tokenizer.decode(new[0, start:], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return {"generated_responses": [*replies, self.tokenizer.clean_up_tokenization(reply)]}
