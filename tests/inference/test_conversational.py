"""Replies: the recorded ones of 4.41's ConversationalPipeline, and its steps done anew for more conversations."""

import json
import runpy
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import transformers

from airflow_provider_hfreg import inference
from airflow_provider_hfreg.testing import models

GOLDENS = Path(__file__).parents[1] / "pipelines" / "goldens"
GOLDEN = json.loads((GOLDENS / "conversational.json").read_text("utf-8"))
TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] + eos_token }}"
    "{% if message['content'] == 'refused' %}{{ raise_exception('not that') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
CONVERSATIONS = [
    (["the film was good", "and you ?"], ["it 's , well"]),
    (["この映画は"], []),
    (["hi"], []),
    (["ö", "b", "👩"], ["d"]),
    (["hi"], ["first of all", "and more"]),
]


@pytest.fixture(scope="module", params=["template", "dialogpt", "encoder-decoder"])
def folder(request, tmp_path_factory):
    where = tmp_path_factory.mktemp("chat")
    if request.param == "encoder-decoder":
        return str(models.text_to_text_model(where, architecture="bart"))
    template = TEMPLATE if request.param == "template" else None
    return str(models.text_generator(where, architecture="gpt2", chat_template=template))


def window(conversations):
    users, replies = zip(*conversations, strict=True) if conversations else ((), ())
    lists = pa.list_(pa.string())
    return pa.record_batch({"user_inputs": pa.array(users, lists), "generated_responses": pa.array(replies, lists)})


def reply_of_4_41(folder, users, replies, **settings):
    """One conversation as that pipeline ran it; its messages are the legacy Conversation's."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    model = auto.from_pretrained(folder).eval()
    messages = []
    for place in range(max(len(users) - 1, len(replies))):
        messages += [{"role": "user", "content": users[place]}] if place < len(users) - 1 else []
        messages += [{"role": "assistant", "content": replies[place]}] if place < len(replies) else []
    messages.append({"role": "user", "content": users[-1]})
    if tokenizer.chat_template is None:
        tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    new = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=tokenizer.eos_token_id, **settings)
    start = 1 if config.is_encoder_decoder else ids.shape[1]
    return tokenizer.clean_up_tokenization(
        tokenizer.decode(new[0, start:], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    )


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"{case['architecture']}-{len(case['arguments'])}")
def test_replies_are_those_that_4_41_gave(case, tmp_path, engine_of):
    write_model = runpy.run_path(str(GOLDENS / "make_conversational.py"))["write_model"]
    folder = str(write_model(tmp_path, case["architecture"], case["tokenizer_config"]))
    pipe = inference.pipeline("conversational", folder, device="cpu", **case["arguments"])

    result = engine_of(pipe).run(window(case["conversations"]))

    assert result.errors == ()
    assert [replies[-1] for replies in result.outputs.column("generated_responses").to_pylist()] == case["replies"]


def test_the_new_reply_stands_after_the_earlier_ones(folder, engine_of):
    pipe = inference.pipeline("conversational", folder, device="cpu", max_new_tokens=8, do_sample=False)

    result = engine_of(pipe).run(window(CONVERSATIONS))

    assert result.errors == ()
    assert result.outputs.column("generated_responses").to_pylist() == [
        [*replies, reply_of_4_41(folder, users, replies, max_new_tokens=8, do_sample=False)]
        for users, replies in CONVERSATIONS
    ]


def test_a_long_conversation_keeps_its_end(folder, engine_of):
    pipe = inference.pipeline("conversational", folder, device="cpu", max_new_tokens=4, do_sample=False)

    result = engine_of(pipe).run(window([(["good " * 200, "and you?"], ["fine"]), (["hi"], [])]))

    assert (result.errors, result.truncated_rows) == ((), 1)
    assert [len(replies) for replies in result.outputs.column("generated_responses").to_pylist()] == [2, 1]


def test_no_conversations_give_an_empty_column(folder, engine_of):
    pipe = inference.pipeline("conversational", folder, device="cpu")
    outputs = engine_of(pipe).run(window([])).outputs
    assert (outputs.num_rows, outputs.schema.types) == (0, [pa.list_(pa.string())])


def test_a_conversation_that_the_template_refuses_is_its_rows_error(tmp_path, engine_of):
    folder = str(models.text_generator(tmp_path, chat_template=TEMPLATE))
    pipe = inference.pipeline("conversational", folder, device="cpu", max_new_tokens=4)

    result = engine_of(pipe).run(window([(["refused"], []), (["hi"], []), ([], [])]))

    assert [(error.row, error.code) for error in result.errors] == [(0, "bad_conversation"), (2, "no_turn")]
    assert "not that" in result.errors[0].message
    assert result.row.tolist() == [1]


def test_an_untouched_pipeline_has_4_41s_length(tmp_path, package):
    folder = str(models.text_generator(tmp_path))
    _, spec = package(inference.pipeline("conversational", folder, device="cpu"))
    assert (spec.parameters, spec.generation) == ({}, {"max_new_tokens": 256})
