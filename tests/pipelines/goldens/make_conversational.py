"""
Writes ``conversational.json``: what the pipeline of transformers 4.41 answers, the last to have this task.

Run under that release, in an environment of its own, after a change of the cases here or of the tiny models; from the
root of the repository:

    python3.11 -m venv older
    older/bin/pip install transformers==4.41.2 'numpy<2' torch==2.13.0 'pyarrow<22'
    PYTHONPATH=. older/bin/python tests/pipelines/goldens/make_conversational.py

The models are drawn from their seeds alike under every family, so no weights are kept.
"""

import json
import tempfile
import warnings
from pathlib import Path

import torch
import transformers

from airflow_provider_hfreg.testing.models import redraw, text_generator, text_to_text_model

TEMPLATE = (
    "{% for message in messages %}{{ message['role'][0] + ':' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'a:' }}{% endif %}"
)
# turns of the user, earlier replies
CONVERSATIONS = [
    (["the film was good", "and you ?"], ["it 's , well"]),
    (["この映画は"], []),
    (["hi"], []),
    (["ö", "b", "👩"], ["d", "e ."]),
]
SHARED = (
    "vocab_size",
    "d_model",
    "max_position_embeddings",
    "encoder_layers",
    "decoder_layers",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
    "forced_eos_token_id",
)
PLAIN = {"max_new_tokens": 8, "do_sample": False}

# architecture, of tokenizer_config.json, the pipeline's arguments. Under 4.41 some classes of
# tokenizers have a template of their own.
CASES = [
    ("gpt2", {"tokenizer_class": "GPT2Tokenizer"}, PLAIN),
    ("gpt2", {"tokenizer_class": "GPT2Tokenizer"}, {**PLAIN, "num_beams": 2, "repetition_penalty": 1.3}),
    ("gpt2", {"tokenizer_class": "GPT2Tokenizer"}, {**PLAIN, "clean_up_tokenization_spaces": False}),
    ("gpt2", {"chat_template": TEMPLATE}, PLAIN),
    ("llama", {"chat_template": TEMPLATE}, PLAIN),
    ("bart", {"chat_template": TEMPLATE}, PLAIN),
    ("bart", {"chat_template": TEMPLATE}, {**PLAIN, "num_beams": 3}),
    ("blenderbot", {"tokenizer_class": "BlenderbotTokenizer"}, PLAIN),
]


def write_model(folder, architecture, tokenizer_config):
    """Write a model that every family draws alike."""
    if architecture == "bart":
        text_to_text_model(folder, architecture=architecture)
    elif architecture == "blenderbot":
        text_to_text_model(folder, architecture="bart")
        bart = transformers.AutoConfig.from_pretrained(folder)
        config = transformers.BlenderbotConfig(**{name: getattr(bart, name) for name in SHARED})
        network = transformers.BlenderbotForConditionalGeneration(config)
        redraw(network, seed=0)
        network.save_pretrained(folder)
    else:
        text_generator(folder, architecture=architecture)
        network = transformers.AutoModelForCausalLM.from_pretrained(folder)
        redraw(network, seed=0)
        network.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | tokenizer_config), encoding="utf-8")
    return folder


def answer(architecture, tokenizer_config, arguments):
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), architecture, tokenizer_config)
        pipe = transformers.pipeline("conversational", model=folder, device="cpu", **arguments)
        return {
            "architecture": architecture,
            "tokenizer_config": tokenizer_config,
            "arguments": arguments,
            "conversations": CONVERSATIONS,
            "replies": [reply(pipe, *conversation) for conversation in CONVERSATIONS],
        }


def reply(pipe, users, replies):
    """Return the new reply to the user's last turn."""
    conversation = transformers.Conversation()
    for user, said in zip(users, replies, strict=False):
        conversation.add_message({"role": "user", "content": user})
        conversation.add_message({"role": "assistant", "content": said})
    conversation.add_message({"role": "user", "content": users[-1]})
    return pipe(conversation).generated_responses[-1]


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    golden = {"transformers": transformers.__version__, "cases": [answer(*case) for case in CASES]}
    path = Path(__file__).with_name("conversational.json")
    path.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
