"""Rows leave their batch when they end, and every text is still the one that the row gets alone."""

import functools
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg import inference

ENDS = [token for token in range(5, 400) if token % 10 in (0, 3, 5, 8)]  # so many that rows end at different steps
LANGUAGES = {"mbart": {"forced_bos_token_id": 41, "forced_eos_token_id": 1}, "m2m100": {"forced_bos_token_id": 41}}
CAUSAL, SEQ2SEQ = ("gpt2", "llama"), ("t5", "bart", "marian", "mbart", "m2m100")
TEXTS = (
    "the film was good",
    "",
    "Das Essen war größtenteils köstlich, der Service leider nicht.",
    "it's",
    "この映画はとても面白かったです。",
    "a dull plot, wooden acting",
    "10/10 ",
    "the film was fine",
    "nobody asked for the music, and it simply is what it is",
)
SETTINGS = {
    "plain": {},
    "ends": {"eos_token_id": ENDS},
    "at least": {"eos_token_id": ENDS, "min_new_tokens": 4},
    "penalty": {"eos_token_id": ENDS, "repetition_penalty": 1.3},
    "no pairs twice": {"eos_token_id": ENDS, "no_repeat_ngram_size": 2},
    "suppressed": {"eos_token_id": ENDS, "suppress_tokens": [31, 140, 141], "begin_suppress_tokens": ENDS[:50]},
    "one token": {"max_new_tokens": 1},
    "total length": {"eos_token_id": ENDS, "max_new_tokens": None, "max_length": 50},
}

# Asked with a total length alone, 4.57's pipelines of encoder-decoders keep their own number of new tokens.
CASES = [(each, name) for each in (*CAUSAL, *SEQ2SEQ) for name in SETTINGS if each in CAUSAL or name != "total length"]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    from airflow_provider_hfreg.testing.models import text_generator, text_to_text_model

    @functools.cache
    def folder(architecture):
        path = tmp_path_factory.mktemp(architecture)
        if architecture == "m2m100":
            return m2m100(path)
        make = text_generator if architecture in CAUSAL else text_to_text_model
        return make(path, architecture=architecture)

    return folder


def m2m100(folder):
    from airflow_provider_hfreg.inference.frameworks import transformers
    from airflow_provider_hfreg.testing.models import unigram_tokenizer, write_model

    tokenizer = unigram_tokenizer()
    sides = {
        f"{side}_{what}": count
        for side in ("encoder", "decoder")
        for what, count in {"layers": 2, "attention_heads": 2, "ffn_dim": 64}.items()
    }
    config = transformers.M2M100Config(
        d_model=32,
        max_position_embeddings=64,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        **sides,
    )
    return write_model(folder, transformers.AutoModelForSeq2SeqLM, config, tokenizer, 0, alike=True)


@pytest.fixture(scope="module")
def load(folder_of):
    """Load a network and fit it."""
    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder

    def loaded(architecture, folder=None, **parameters):
        folder = folder or folder_of(architecture)
        spec = describe_folder(folder, task_of(architecture), parameters)
        return fitted(load_pipeline(folder, spec, device="cpu"))

    return loaded


@pytest.fixture(scope="module")
def engines(load):
    """Return an engine on a fitted network."""
    from airflow_provider_hfreg.inference.engine import Engine

    @functools.cache
    def engine(architecture):
        return Engine(load(architecture))

    return engine


@pytest.fixture(scope="module")
def alone(folder_of):
    """Ask transformers' own pipeline for one text."""

    @functools.cache
    def pipe(architecture):
        return inference.pipeline(task_of(architecture), str(folder_of(architecture)), device="cpu")

    @functools.cache
    def answer(architecture, setting, text):
        return pipe(architecture)(text, **arguments_of(architecture, setting))

    return answer


def task_of(architecture):
    return "text-generation" if architecture in CAUSAL else "text2text-generation"


def arguments_of(architecture, setting):
    given = {"do_sample": False, "num_beams": 1, "max_new_tokens": 12, **LANGUAGES.get(architecture, {})}
    given |= SETTINGS[setting]
    return {name: value for name, value in given.items() if value is not None}


def window(texts):
    return pa.record_batch({"inputs": pa.array(texts, pa.string())})


def answers(result):
    (name,) = result.outputs.schema.names
    values = result.outputs.column(name).to_pylist()
    return [json.loads(value) if name == "outputs" else [{name: value}] for value in values]


@pytest.mark.parametrize("architecture", [*CAUSAL, *SEQ2SEQ])
def test_the_plain_architectures_let_rows_leave(architecture, engines):
    loaded = engines(architecture).loaded
    assert loaded.rows_leave
    assert loaded.rows_wait is (architecture != "m2m100")  # whose positions depend on the tokens


@pytest.mark.parametrize(("architecture", "setting"), CASES)
def test_each_text_is_the_one_of_its_row_alone(architecture, setting, engines, alone):
    result = engines(architecture).run(window(TEXTS), arguments_of(architecture, setting))

    assert result.errors == ()
    assert answers(result) == [alone(architecture, setting, text) for text in TEXTS]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_neither_order_nor_batches_change_a_text(data, engines, alone):
    from airflow_provider_hfreg.inference.engine import Engine

    architecture, setting = data.draw(st.sampled_from(CASES))
    texts = data.draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=14))
    engine = Engine(engines(architecture).loaded, token_budget=data.draw(st.integers(1, 600)))

    result = engine.run(window(texts), arguments_of(architecture, setting))

    assert result.errors == ()
    assert answers(result) == [alone(architecture, setting, text) for text in texts]


@pytest.mark.parametrize("architecture", [*CAUSAL, *SEQ2SEQ])
def test_a_row_runs_as_often_as_it_has_tokens_and_no_more(architecture, engines):
    engine = engines(architecture)
    arguments = arguments_of(architecture, "ends" if architecture in CAUSAL else "no pairs twice")
    texts = [text for text in TEXTS if text]
    rows = []
    hook = engine.loaded.network.register_forward_hook(lambda _module, _inputs, out: rows.append(len(out.logits)))
    try:
        engine.run(window(texts), arguments)
    finally:
        hook.remove()

    assert max(rows) == len(texts)
    assert sum(rows) == new_tokens(engine.loaded, texts, arguments)
    assert rows == sorted(rows, reverse=True)
    assert len(set(rows)) > 1  # they left at different steps


def new_tokens(loaded, texts, arguments):
    """Count the tokens that generate writes for each text alone."""
    prompts = [loaded.tokenizer(text, return_tensors="pt") for text in texts]
    written = [
        loaded.network.generate(
            prompt["input_ids"], attention_mask=prompt["attention_mask"], pad_token_id=0, **arguments
        )
        for prompt in prompts
    ]
    before = [1 if loaded.network.config.is_encoder_decoder else prompt["input_ids"].shape[1] for prompt in prompts]
    return sum(len(each[0]) - start for each, start in zip(written, before, strict=True))


@pytest.mark.parametrize("architecture", [*CAUSAL, *SEQ2SEQ])
def test_a_batch_of_many_tokens_is_read_in_parts(architecture, engines):
    from dataclasses import replace

    from airflow_provider_hfreg.inference.engine import Engine

    texts = [f"{text} {number}" for number in range(70) for text in (TEXTS[2], TEXTS[4], TEXTS[8])]
    loaded = engines(architecture).loaded
    reader = loaded.network.get_encoder() if architecture in SEQ2SEQ else loaded.network
    read = []
    hook = reader.register_forward_hook(
        lambda _module, _inputs, given, _out: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    try:
        result = Engine(loaded).run(window(texts), arguments_of(architecture, "ends"))
    finally:
        hook.remove()

    assert sum(len(loaded.tokenizer(text)["input_ids"]) for text in texts) > 2048 >= max(read)
    by_generate = Engine(replace(loaded, rows_leave=False))
    assert answers(result) == answers(by_generate.run(window(texts), arguments_of(architecture, "ends")))


@pytest.mark.parametrize("architecture", [*CAUSAL, "t5"])
def test_rows_that_wait_take_the_places_of_those_that_left(architecture, engines, alone):
    from airflow_provider_hfreg.inference.engine import Engine

    loaded = engines(architecture).loaded
    texts = [text for text in TEXTS if text]
    longest = max(len(loaded.tokenizer(text)["input_ids"]) for text in texts)
    places = 3
    rows, read = [], []
    reader = loaded.network.get_encoder() if architecture in SEQ2SEQ else loaded.network
    hooks = [
        loaded.network.register_forward_hook(lambda _module, _inputs, out: rows.append(len(out.logits))),
        reader.register_forward_hook(
            lambda _module, _inputs, given, _out: read.append(given["input_ids"].shape[1] > 1), with_kwargs=True
        ),
    ]
    try:
        result = Engine(loaded, token_budget=places * (longest + 12)).run(
            window(texts), arguments_of(architecture, "ends")
        )
    finally:
        for hook in hooks:
            hook.remove()

    assert answers(result) == [alone(architecture, "ends", text) for text in texts]
    assert max(rows) == places
    assert sum(rows) == new_tokens(loaded, texts, arguments_of(architecture, "ends"))
    assert sum(read) > -(-len(texts) // places)  # prompts joined while others went on


@pytest.mark.parametrize("architecture", ["t5", "bart", "marian", "mbart"])
def test_texts_that_begin_after_others_have_the_positions_that_they_have_alone(architecture, engines):
    """Drawn ones: what seeded networks find best ends all at one step."""
    from dataclasses import replace

    from airflow_provider_hfreg.inference.engine import Engine

    loaded = engines(architecture).loaded
    texts = [text for text in TEXTS if text]
    longest = max(len(loaded.tokenizer(text)["input_ids"]) for text in texts)
    given = {
        "do_sample": True,
        "num_beams": 1,
        "max_new_tokens": 12,
        "eos_token_id": ENDS[::5],
        "forced_bos_token_id": None,
    }
    read = []
    hook = loaded.network.get_encoder().register_forward_hook(lambda *_: read.append(None))
    try:
        result = Engine(loaded, token_budget=3 * (longest + 12)).run(window(texts), given, seed=7)
    finally:
        hook.remove()

    assert len(read) > -(-len(texts) // 3)  # texts joined while others went on
    by_generate = Engine(replace(loaded, rows_leave=False)).run(window(texts), given, seed=7)
    assert answers(result) == answers(by_generate)


@pytest.mark.parametrize("architecture", CAUSAL)
def test_a_beginning_that_all_prompts_share_is_read_once(architecture, engines, alone):
    loaded = engines(architecture).loaded
    beginning = "a dull plot, wooden acting, and an ending nobody asked for!"
    texts = [f"{beginning} {rest}" for rest in ("good", "the film was good", "10/10 :)", "it's", "year after year")]
    lengths = [len(loaded.tokenizer(text)["input_ids"]) for text in texts]
    read = []
    hook = loaded.network.get_input_embeddings().register_forward_hook(
        lambda _module, inputs, _out: read.append(inputs[0].numel())
    )
    try:
        result = engines(architecture).run(window(texts), arguments_of(architecture, "one token"))
    finally:
        hook.remove()

    assert answers(result) == [alone(architecture, "one token", text) for text in texts]
    shared = read[0]
    assert shared >= 16
    assert sum(read) == shared + len(texts) * (max(lengths) - shared)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_texts_that_begin_alike_stay_what_they_are(data, engines, alone):
    from airflow_provider_hfreg.inference.engine import Engine

    architecture = data.draw(st.sampled_from(CAUSAL))
    sentence = "the film was good and the music better than anything I heard this year"
    beginning = sentence[: data.draw(st.integers(40, len(sentence)))]
    rests = data.draw(st.lists(st.sampled_from(["", " it", " it's bad", " at the ending", "! 10/10 :)"]), min_size=1))
    texts = [beginning + rest for rest in rests]
    engine = Engine(engines(architecture).loaded, token_budget=data.draw(st.integers(40, 400)))

    result = engine.run(window(texts), arguments_of(architecture, "ends"))

    assert answers(result) == [alone(architecture, "ends", text) for text in texts]


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_drawn_texts_depend_on_the_seed_alone_whoever_leaves(architecture, engines):
    from airflow_provider_hfreg.inference.engine import Engine

    loaded = engines(architecture).loaded
    drawn = {"do_sample": True, "num_beams": 1, "max_new_tokens": 12, "eos_token_id": ENDS, "top_k": 0}
    texts = list(TEXTS[2:])

    together = answers(Engine(loaded).run(window(texts), drawn, seed=3))
    by_few = answers(Engine(loaded, token_budget=100).run(window(texts), drawn, seed=3))
    each = [answers(Engine(loaded).run(window([text]), drawn, seed=3, first_row=row)) for row, text in enumerate(texts)]

    assert [[answer] for answer in together] == [[answer] for answer in by_few] == each
    assert answers(Engine(loaded).run(window(texts), drawn, seed=4)) != together


@pytest.mark.parametrize("given", [{"num_beams": 2}, {"encoder_no_repeat_ngram_size": 2}, {"use_cache": False}])
def test_settings_that_look_beyond_the_row_or_need_all_rows_are_left_to_generate(given, engines, folder_of):
    arguments = {"num_beams": 1, "max_new_tokens": 8, "eos_token_id": ENDS[:20], **given}
    texts = [text for text in TEXTS if text]
    engine = engines("t5")
    rows = []
    hook = engine.loaded.network.register_forward_hook(lambda _module, _inputs, out: rows.append(len(out.logits)))
    try:
        result = engine.run(window(texts), arguments)
    finally:
        hook.remove()

    pipe = inference.pipeline("text2text-generation", str(folder_of("t5")), device="cpu")
    assert answers(result) == [pipe(text, **arguments) for text in texts]
    assert sum(rows) > len(set(rows))


def test_a_network_that_mixes_the_rows_of_a_batch_keeps_them_and_the_log_says_so(folder_of, caplog):
    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder

    folder = folder_of("llama")
    loaded = load_pipeline(folder, describe_folder(folder, "text-generation", {}), device="cpu")
    embeddings = loaded.network.get_input_embeddings()
    embeddings.register_forward_hook(lambda _module, _inputs, states: states + states.mean(dim=0, keepdim=True))

    assert fitted(loaded).rows_leave is False
    assert "with rows that leave their batch" in caplog.text


def test_a_network_with_windows_keeps_its_rows(tmp_path, load, caplog):
    from airflow_provider_hfreg.inference.frameworks import transformers
    from airflow_provider_hfreg.testing.models import byte_level_tokenizer, write_model

    tokenizer = byte_level_tokenizer("llama")
    config = transformers.MistralConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        sliding_window=8,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.4,
    )
    folder = write_model(tmp_path / "mistral", transformers.AutoModelForCausalLM, config, tokenizer, 0)

    assert load("gpt2", folder).rows_leave is False
    assert "is not the plain cache" in caplog.text


def test_a_network_that_counts_positions_from_the_padding_runs_texts_of_one_length_together(tmp_path, load, caplog):
    """BART's decoder alone takes no positions: beside a longer prompt, a shorter one would begin in the middle."""
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.frameworks import transformers
    from airflow_provider_hfreg.testing.models import byte_level_tokenizer, write_model

    tokenizer = byte_level_tokenizer("roberta")
    config = transformers.BartConfig(
        d_model=32,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=64,
        max_position_embeddings=128,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        is_decoder=True,
        is_encoder_decoder=False,
        tie_word_embeddings=False,
        forced_eos_token_id=None,
    )
    folder = write_model(tmp_path / "bart", transformers.AutoModelForCausalLM, config, tokenizer, 0)
    loaded = load("gpt2", folder)
    assert loaded.reads_padding
    assert "reads padding" in caplog.text
    given = {"do_sample": False, "num_beams": 1, "max_new_tokens": 8}
    pipe = inference.pipeline("text-generation", str(folder), device="cpu")
    texts = [text for text in TEXTS if text]
    result = Engine(loaded).run(window(texts), given)
    assert [text[0]["generated_text"] for text in answers(result)] == [
        pipe(text, **given)[0]["generated_text"] for text in texts
    ]


@pytest.mark.parametrize("architecture", CAUSAL)
def test_a_pad_token_that_only_the_tokenizer_knows_is_no_hindrance(architecture, folder_of, tmp_path, load, alone):
    import shutil

    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.frameworks import transformers

    folder = shutil.copytree(folder_of(architecture), tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[NOBODY KNOWS]"})
    tokenizer.save_pretrained(folder)
    loaded = load(architecture, folder)
    assert loaded.tokenizer.pad_token_id >= len(loaded.network.get_input_embeddings().weight)
    assert (loaded.reads_padding, loaded.rows_leave, loaded.rows_wait) == (False, True, True)
    result = Engine(loaded).run(window(TEXTS), arguments_of(architecture, "ends"))
    assert result.errors == ()
    assert answers(result) == [alone(architecture, "ends", text) for text in TEXTS]


@pytest.mark.parametrize("architecture", [*CAUSAL, *SEQ2SEQ])
def test_the_plain_architectures_read_no_padding(architecture, engines):
    assert not engines(architecture).loaded.reads_padding


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_who_cancels_waits_for_one_step_and_not_for_the_batch(architecture, beams, engines):
    from airflow_provider_hfreg.errors import RunCancelledError

    engine, asked = engines(architecture), []

    def cancelled():
        asked.append(None)
        return len(asked) > 3

    settings = {"do_sample": False, "num_beams": beams, "min_new_tokens": 30, "max_new_tokens": 30}
    forwards = []
    hook = engine.loaded.network.register_forward_hook(lambda *_: forwards.append(None))
    try:
        with pytest.raises(RunCancelledError, match="while texts were generated"):
            engine.run(window(TEXTS[:1]), settings, cancelled=cancelled)
    finally:
        hook.remove()
    assert len(forwards) <= len(asked) == 4


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_who_cancels_waits_for_one_part_of_the_prompts_and_not_for_all(architecture, engines):
    from airflow_provider_hfreg.errors import RunCancelledError

    engine, asked, read = engines(architecture), [], []
    network = engine.loaded.network
    texts = [f"{number} nobody asked for the music, and it simply is what it is" for number in range(200)]

    def cancelled():
        asked.append(None)
        return len(asked) > 2  # before the batch, and before its first part

    reader = network.get_encoder() if network.config.is_encoder_decoder else network
    hook = reader.register_forward_hook(lambda *_: read.append(None))
    try:
        with pytest.raises(RunCancelledError):
            engine.run(window(texts), {"do_sample": False, "num_beams": 1, "max_new_tokens": 2}, cancelled=cancelled)
    finally:
        hook.remove()
    assert len(read) == 1


def test_a_row_stops_at_a_text_whoever_else_goes_on(engines):
    from dataclasses import replace

    from airflow_provider_hfreg.inference.engine import Engine

    loaded = engines("gpt2").loaded
    arguments = {"do_sample": False, "max_new_tokens": 12, "stop_sequence": "e", "return_full_text": False}
    by_generate = Engine(replace(loaded, rows_leave=False), token_budget=1)

    result = Engine(loaded).run(window(TEXTS[2:]), arguments)

    assert answers(result) == answers(by_generate.run(window(TEXTS[2:]), arguments))
    assert len({len(answer[0]["generated_text"]) for answer in answers(result)}) > 2


@pytest.mark.parametrize("beams", [1, 2])
def test_a_batch_asks_the_tokenizer_nothing_about_where_to_stop(beams, engines, monkeypatch):
    """It may be busy with the next window in another thread, and refuses two at once."""
    from airflow_provider_hfreg.inference.frameworks import transformers

    engine, made = engines("gpt2"), []
    original = transformers.StopStringCriteria.__init__

    def init(criteria, *arguments):
        made.append(engine._tokenizing.locked())
        original(criteria, *arguments)

    monkeypatch.setattr(transformers.StopStringCriteria, "__init__", init)
    given = {"do_sample": False, "num_beams": beams, "max_new_tokens": 4, "stop_sequence": ["e", "."]}
    engine.with_token_budget(8).run(window([text for text in TEXTS if text]), given)
    assert made == [True]


def test_a_text_whose_numbers_fail_spoils_none_that_takes_its_place(folder_of):
    """As below, of texts: their keys and values are those that the decoder looks across to."""
    from airflow_provider_hfreg.inference.decode_loop import DecodeLoop
    from airflow_provider_hfreg.inference.frameworks import torch, transformers

    network = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder_of("bart")).eval()
    failing = [7, *[11, 12] * 7]

    def fail(_module, _inputs, given, outputs):
        outputs.last_hidden_state[(given["input_ids"] == failing[0]).any(dim=1)] = torch.nan

    network.get_encoder().register_forward_hook(fail, with_kwargs=True)
    texts = [[13, 14] * 8, failing, [21, 22, 23, 24]]
    width = max(map(len, texts))
    inputs = {
        "input_ids": torch.tensor([text + [0] * (width - len(text)) for text in texts]),
        "attention_mask": torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts]),
    }
    loop = DecodeLoop(2)
    plain = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": 0, "pad_token_id": 0}  # 0: the best of no numbers
    with torch.inference_mode():
        together = network.generate(**inputs, **loop.arguments(network, inputs), **plain)
        assert loop.lengths[1] == 1  # so that its place was free while the first one went on
        for row in (0, 2):
            alone = network.generate(
                **{name: each[row : row + 1, : len(texts[row])] for name, each in inputs.items()}, **plain
            )
            assert together[row].tolist() == alone[0].tolist()


def test_a_row_whose_numbers_fail_spoils_none_that_takes_its_place(folder_of, tmp_path):
    """An embedding without end, as half precision makes one: keys and values of its row are no numbers."""
    from airflow_provider_hfreg.inference.decode_loop import DecodeLoop
    from airflow_provider_hfreg.inference.frameworks import torch, transformers

    network = transformers.AutoModelForCausalLM.from_pretrained(folder_of("llama")).eval()
    with torch.no_grad():
        network.get_input_embeddings().weight[7] = torch.inf
    prompts = [[11, 12, 13] * 6, [7, *[11, 12] * 8], [21, 22, 23, 24]]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    loop = DecodeLoop(2)
    plain = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": 0, "pad_token_id": 0}  # 0: the best of no numbers
    with torch.inference_mode():
        together = network.generate(input_ids=ids, attention_mask=mask, custom_generate=loop, **plain)
        alone = network.generate(input_ids=ids[2:, -4:], attention_mask=mask[2:, -4:], **plain)
    assert together[2, width:].tolist() == alone[0, 4:].tolist()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_decoder_that_looks_at_padding_lets_nobody_join_in_coarse_numbers_either(dtype, tmp_path):
    """LED's, at a step: keys of nought take little of its attention, less than half precision rounds."""
    from dataclasses import replace

    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.frameworks import transformers
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder
    from airflow_provider_hfreg.testing.models import unigram_tokenizer, write_model

    tokenizer = unigram_tokenizer()
    sides = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    config = transformers.LEDConfig(
        d_model=32,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_encoder_position_embeddings=128,
        max_decoder_position_embeddings=64,
        attention_window=8,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
        **sides,
    )
    folder = write_model(tmp_path / "led", transformers.AutoModelForSeq2SeqLM, config, tokenizer, 0)
    spec = replace(describe_folder(folder, "text2text-generation", {}), dtype=dtype)
    loaded = fitted(load_pipeline(folder, spec, device="cpu"))
    assert (loaded.rows_leave, loaded.rows_wait) == (True, False)


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_positions_that_depend_on_the_longest_text_keep_all_rows_in_their_batch(kind):
    from airflow_provider_hfreg.inference.fitting import _depends_on_longest
    from airflow_provider_hfreg.inference.frameworks import transformers

    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 16}
    scaling = {"rope_type": kind, "factor": 2.0, "rope_theta": 10_000.0, **(factors if kind == "longrope" else {})}
    config = {"vocab_size": 32, "max_position_embeddings": 32, **size}
    name = "rope_scaling" if transformers.__version__.startswith("4.") else "rope_parameters"
    assert _depends_on_longest(transformers.LlamaForCausalLM(transformers.LlamaConfig(**config, **{name: scaling})))
    assert not _depends_on_longest(transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)))


def test_a_network_that_a_short_text_would_switch_is_not_tried():
    from airflow_provider_hfreg.inference.fitting import _has_switch
    from airflow_provider_hfreg.inference.frameworks import transformers

    size = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 32, "block_size": 4}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    config = transformers.BigBirdPegasusConfig(**size, **heads, attention_type="block_sparse")
    assert _has_switch(transformers.BigBirdPegasusForConditionalGeneration(config))
    config.attention_type = "original_full"
    assert not _has_switch(transformers.BigBirdPegasusForConditionalGeneration(config))


def test_what_is_no_number_agrees_with_nothing():
    import numpy as np

    from airflow_provider_hfreg.inference.fitting import _difference

    good = {"first": np.array([1.0]), "second": np.array([1.0])}
    assert np.isnan(_difference(good, good | {"second": np.array([np.nan])}))
