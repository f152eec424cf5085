"""Rows leave their batch on an accelerator, too: the loop's texts are generate's, and it waits once a step."""

from dataclasses import replace

import pytest

from .tasks import assert_same, window

ENDS = [token for token in range(5, 400) if token % 10 in (0, 3, 5, 8)]  # so many that rows end at different steps
GREEDY = {"do_sample": False, "num_beams": 1, "max_new_tokens": 10, "eos_token_id": ENDS}
SETTINGS = {
    "plain": GREEDY,
    "penalty": GREEDY | {"repetition_penalty": 1.3},
    "drawn": GREEDY | {"do_sample": True, "top_k": 5, "temperature": 1.5},
    "stopped by a text": GREEDY | {"stop_sequence": "e"},
}
BEGINNING = "a dull plot, wooden acting, and an ending nobody asked for!"
CASES = [
    *[("text-generation", "llama", name, "") for name in SETTINGS],
    *[("text-generation", "gpt2", "plain", beginning) for beginning in ("", BEGINNING)],
    ("text-generation", "llama", "drawn", BEGINNING),
    *[("text2text-generation", "t5", name, "") for name in ("plain", "penalty", "drawn")],
    ("text2text-generation", "bart", "plain", ""),
]
TEXTS = ("the film was good", "it's", "Das Essen war größtenteils köstlich.", "10/10 ", "a dull plot", "nobody", "!")


@pytest.mark.parametrize(("task", "architecture", "setting", "beginning"), CASES)
def test_rows_leave_and_each_text_is_the_one_of_generate(task, architecture, setting, beginning, device, load):
    from airflow_provider_hfreg.inference.engine import Engine

    loaded = load(device, task, architecture)
    assert loaded.rows_leave
    assert not loaded.reads_padding
    rows = window(task, loaded.tokenizer, [beginning + text for text in TEXTS])

    result = Engine(loaded, token_budget=200).run(rows, SETTINGS[setting], seed=3)

    by_generate = Engine(replace(loaded, rows_leave=False))
    assert_same(result, by_generate.run(rows, SETTINGS[setting], seed=3))


@pytest.mark.parametrize(("task", "architecture"), [("text-generation", "llama"), ("text2text-generation", "t5")])
def test_a_step_waits_once_for_the_device(task, architecture, folder_of):
    """Texts of one length: where there is padding, transformers 5 itself asks the mask of each step what it hides."""
    from airflow_provider_hfreg.inference.decode_loop import DecodeLoop
    from airflow_provider_hfreg.inference.frameworks import torch, transformers

    from .pretended import NAME, PretendedDevice

    auto_class = transformers.AutoModelForCausalLM if task == "text-generation" else transformers.AutoModelForSeq2SeqLM
    network = auto_class.from_pretrained(folder_of(task, architecture)).eval()
    waited = {}
    with PretendedDevice() as device:
        network = network.to(NAME)
        inputs = {"input_ids": torch.arange(5, 25).reshape(4, 5).to(NAME)}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        for steps in (3, 9):
            loop, before = DecodeLoop(), device.waits
            plain = {"do_sample": False, "min_new_tokens": steps, "max_new_tokens": steps, "pad_token_id": 0}
            with torch.inference_mode():
                network.generate(**inputs, **plain, **loop.arguments(network, inputs))
            assert loop.lengths == [steps] * 4
            waited[steps] = device.waits - before
    asks = network.config.is_encoder_decoder and not transformers.__version__.startswith("4.")
    assert waited[9] - waited[3] == (12 if asks else 6)  # it asks the mask of what the encoder read
