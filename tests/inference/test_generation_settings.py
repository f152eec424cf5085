import pytest
import transformers

from airflow_provider_hfreg.inference.generation_settings import Company, GenerationSettings, names, settings_for


def settings_of(parameters, added=None, **model):
    return settings_for(parameters, added or {}, transformers.GenerationConfig(**model), pad_token_id=9)


def test_the_users_word_goes_before_the_familys_and_that_before_the_models():
    settings = settings_of({"temperature": 0.2}, {"temperature": 0.7, "top_p": 0.9}, top_p=0.5, min_p=0.1)

    assert (settings["temperature"], settings["top_p"], settings["min_p"]) == (0.2, 0.9, 0.1)


def test_what_is_no_generation_setting_never_reaches_generate():
    assert set(settings_of({"return_full_text": False, "prefix": "x", "max_new_tokens": 3}).given) <= names()


def test_none_means_not_given():
    assert settings_of({"max_new_tokens": None}, {"max_new_tokens": 256})["max_new_tokens"] == 256


@pytest.mark.parametrize(
    ("model", "pad"), [({"eos_token_id": [4, 5]}, 4), ({"eos_token_id": 3, "pad_token_id": 1}, 1), ({}, 9)]
)
def test_padding_is_what_generate_itself_would_take(model, pad):
    assert settings_of({"max_new_tokens": 3}, **model)["pad_token_id"] == pad


@pytest.mark.parametrize(
    ("parameters", "model", "company"),
    [
        ({"max_new_tokens": 3}, {}, Company.ANY),
        ({"max_new_tokens": 3, "max_length": 30}, {}, Company.ANY),
        ({"max_length": 30}, {}, Company.EQUAL_LENGTH),
        ({"max_new_tokens": 3}, {"repetition_penalty": 1.1}, Company.EQUAL_LENGTH),
        ({"max_new_tokens": 3, "repetition_penalty": 1.0}, {}, Company.ANY),
        ({"max_new_tokens": 3, "do_sample": True, "temperature": 0.5}, {}, Company.ANY),
        ({"max_new_tokens": 3, "do_sample": True, "num_beams": 2}, {}, Company.NONE),
        ({"max_new_tokens": 3, "prompt_lookup_num_tokens": 2}, {}, Company.NONE),
    ],
)
def test_who_may_share_a_batch(parameters, model, company):
    assert settings_of(parameters, **model).company_of(decoder_only=True) is company


def test_settings_hold_plain_defaults_where_nobody_speaks():
    settings = GenerationSettings({}, {})

    assert (settings["num_beams"], settings["top_k"], settings.samples, settings.end_tokens) == (1, 50, False, ())
