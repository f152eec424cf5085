"""Generated text against transformers' own pipeline, one prompt at a time, as the oracle."""

import json

import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ENDS = list(range(30, 130))  # so many end tokens that rows of a batch finish at different lengths

GREEDY = {
    "plain": {},
    "several end tokens": {"eos_token_id": ENDS},
    "special tokens shown": {"eos_token_id": ENDS, "skip_special_tokens": False},
    "new text alone": {"return_full_text": False},
    "repetition penalty": {"repetition_penalty": 1.3},
    "no repeated pairs": {"no_repeat_ngram_size": 2},
    "at least": {"min_new_tokens": 4, "eos_token_id": ENDS},
    "total length": {"max_new_tokens": None, "max_length": 52},
    "with a prefix": {"prefix": "good "},
    "total length without the prefix": {"max_new_tokens": None, "max_length": 52, "prefix": "good "},
    "stop at a text": {"stop_sequence": "e"},
    "beams": {"num_beams": 3},
    "beams, several texts": {"num_beams": 3, "num_return_sequences": 3, "eos_token_id": ENDS},
    "beams, special tokens shown": {
        "num_beams": 3,
        "num_return_sequences": 2,
        "eos_token_id": ENDS,
        "skip_special_tokens": False,
    },
    "beams, early": {"num_beams": 2, "early_stopping": True, "length_penalty": 2.0, "eos_token_id": ENDS},
    "beams, stop at a text": {"num_beams": 2, "stop_sequence": "e"},
}


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("arguments", GREEDY.values(), ids=GREEDY.keys())
def test_text_is_the_plain_pipelines(architecture, arguments, generators, plain, engine_of, prompt_window, texts):
    arguments = {"do_sample": False, "max_new_tokens": 12, **arguments}
    arguments = {name: value for name, value in arguments.items() if value is not None}
    pipe = plain("text-generation", generators(architecture), **arguments)
    prompts = [text for text in texts if len(text) < 100]

    result = engine_of(pipe).run(prompt_window(prompts))

    assert result.errors == ()
    assert [json.loads(text) for text in result.outputs.column("outputs").to_pylist()] == [pipe(p) for p in prompts]


def test_a_pipelines_own_defaults_are_recorded_and_no_more(generators, plain, package):
    _, spec = package(plain("text-generation", generators("llama"), max_new_tokens=9))

    assert spec.parameters == {"max_new_tokens": 9}
    assert spec.generation == {"do_sample": True, "temperature": 0.7}


def test_an_untouched_pipeline_records_its_familys_length(generators, plain, package):
    _, spec = package(plain("text-generation", generators("llama")))

    assert spec.parameters == {}
    assert spec.generation == {"do_sample": True, "max_new_tokens": 256, "temperature": 0.7}


def test_a_length_that_the_user_chose_silences_the_familys(generators, plain, package):
    _, spec = package(plain("text-generation", generators("llama"), max_length=33, do_sample=False))

    assert spec.parameters == {"do_sample": False, "max_length": 33}
    assert spec.generation == {}


@pytest.mark.parametrize("texts_each", [1, 2])
def test_a_seed_gives_a_row_its_text_in_any_batch(texts_each, generators, plain, engine_of, prompt_window, texts):
    pipe = plain("text-generation", generators("llama"), max_new_tokens=12, num_return_sequences=texts_each)
    prompts = [text for text in texts if len(text) < 100]
    engine = engine_of(pipe)

    together = engine.run(prompt_window(prompts), seed=7).outputs.column("outputs").to_pylist()
    alone = [
        engine.run(prompt_window([prompt]), seed=7, first_row=row).outputs.column("outputs")[0].as_py()
        for row, prompt in enumerate(prompts)
    ]
    engine._executor.token_budget = 40
    in_small_batches = engine.run(prompt_window(prompts), seed=7).outputs.column("outputs").to_pylist()

    assert together == alone == in_small_batches
    assert all(len(json.loads(output)) == texts_each for output in together)


def test_another_seed_and_another_row_give_another_text(generators, plain, engine_of, prompt_window):
    engine = engine_of(plain("text-generation", generators("llama"), max_new_tokens=12))

    def run(**place):
        return engine.run(prompt_window(["good", "good"]), **place).outputs.column("outputs").to_pylist()

    assert run(seed=1) == run(seed=1)
    assert len({*run(seed=1), *run(seed=2)}) == 4


def test_beam_sampling_is_reproducible_too(generators, plain, engine_of, prompt_window):
    import torch

    engine = engine_of(plain("text-generation", generators("gpt2"), max_new_tokens=8, num_beams=2))
    state = torch.get_rng_state()

    first = engine.run(prompt_window(["good", "bad"]), seed=3).outputs.column("outputs").to_pylist()
    second = engine.run(prompt_window(["bad"]), seed=3, first_row=1).outputs.column("outputs").to_pylist()

    assert first[1:] == second
    assert torch.equal(torch.get_rng_state(), state)  # the caller's own random numbers are left alone


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=6)
@given(
    arguments=st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.sampled_from([0.3, 1.0, 1.5]),
            "top_k": st.sampled_from([0, 1, 5]),
            "top_p": st.sampled_from([0.5, 0.9]),
            "min_p": st.sampled_from([0.05, 0.3]),
            "typical_p": st.sampled_from([0.5]),
            "epsilon_cutoff": st.sampled_from([0.01]),
            "eta_cutoff": st.sampled_from([0.01]),
            "repetition_penalty": st.sampled_from([1.2]),
            "num_return_sequences": st.sampled_from([1, 3]),
            "return_full_text": st.booleans(),
            "do_sample": st.booleans(),
        },
    )
)
def test_any_arguments_survive_logging_and_loading(arguments, generators, plain, package):
    from airflow_provider_hfreg.inference.loading import to_transformers

    if arguments.get("do_sample") is False:
        arguments.pop("num_return_sequences", None)  # generate refuses several greedy texts
    pipe = plain("text-generation", generators("gpt2"), max_new_tokens=6, **arguments)
    folder, spec = package(pipe)

    loaded = to_transformers(folder, spec, device="cpu")

    for prompt in ("good", "この映画"):
        transformers.set_seed(11)
        before = pipe(prompt)
        transformers.set_seed(11)
        assert loaded(prompt) == before
    assert package(loaded)[1] == spec


def test_the_drawn_tokens_have_the_pipelines_distribution(generators, plain, engine_of, prompt_window):
    import collections

    arguments = {"max_new_tokens": 1, "top_k": 4, "temperature": 1.5, "return_full_text": False}
    pipe = plain("text-generation", generators("llama"), **arguments)
    draws = 3000

    outputs = engine_of(pipe).run(prompt_window(["good"] * draws), seed=5).outputs.column("outputs").to_pylist()

    transformers.set_seed(5)
    oracle = pipe("good", num_return_sequences=draws)
    ours = collections.Counter(json.loads(output)[0]["generated_text"] for output in outputs)
    theirs = collections.Counter(answer["generated_text"] for answer in oracle)
    assert set(ours) == set(theirs)
    # Four standard deviations of the difference of two counts.
    assert all(abs(ours[text] - theirs[text]) <= 4 * (2 * draws * 0.25) ** 0.5 for text in theirs)


def test_a_prompt_longer_than_the_model_reads_keeps_its_end(generators, plain, engine_of, prompt_window):
    pipe = plain("text-generation", generators("gpt2"), do_sample=False, max_new_tokens=8)
    prompt = "a dull plot " * 60

    result = engine_of(pipe).run(prompt_window([prompt, "good"]))

    assert result.errors == ()
    assert result.truncated_rows == 1
    oracle = [pipe(prompt, handle_long_generation="hole", max_new_tokens=8), pipe("good")]
    assert [json.loads(text) for text in result.outputs.column("outputs").to_pylist()] == oracle


def test_parameters_under_which_no_text_can_be_made_blame_no_row(generators, plain, engine_of, prompt_window):
    from airflow_provider_hfreg.errors import InferenceError

    pipe = plain("text-generation", generators("gpt2"), do_sample=False, max_new_tokens=5)

    with pytest.raises(InferenceError, match="No row is at fault"):
        engine_of(pipe).run(prompt_window(["good", "bad"]), {"num_return_sequences": 2})
