"""What generating tasks share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.pipelines.base import PromptCut
from airflow_provider_hfreg.pipelines.generation import (
    GENERATION_ARGUMENTS,
    generation_arguments,
    kept_tokens,
    run_params,
    unset_defaults,
)

FAMILY = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}


@pytest.mark.parametrize(
    ("given_settings", "model", "held"),
    [
        ({}, {}, FAMILY),
        ({"max_new_tokens": 5}, {}, {"do_sample": True, "temperature": 0.7}),
        ({"do_sample": False}, {}, {"max_new_tokens": 256}),
        ({"max_length": 30}, {"temperature": 0.2}, {"do_sample": True}),
        ({}, {"do_sample": False}, {"max_new_tokens": 256}),
        ({"do_sample": True}, {"do_sample": False}, {"max_new_tokens": 256, "temperature": 0.7}),
        ({"temperature": None}, {}, FAMILY),
    ],
)
def test_a_familys_defaults_hold_where_nobody_said_otherwise(given_settings, model, held):
    assert unset_defaults(FAMILY, given_settings, model) == held


def test_the_pipelines_own_defaults_are_these():
    import transformers

    defaults = transformers.TextGenerationPipeline._default_generation_config.to_diff_dict()
    assert {name: value for name, value in defaults.items() if name != "transformers_version"} == FAMILY


def test_the_installed_family_knows_every_argument():
    import transformers

    known = {*vars(transformers.GenerationConfig()), "stop_sequence"}
    # top_h came with 5.
    assert GENERATION_ARGUMENTS - known <= {"top_h"}


def test_the_parameters_of_a_run_are_distinct_and_may_be_narrowed():
    names = [param.name for param in run_params({}, without=frozenset({"top_k"}))]
    assert len(set(names)) == len(names)
    assert "top_k" not in names


@pytest.mark.parametrize("stop", ["end", ["end"], ("end",)])
def test_a_stop_sequence_is_stop_strings_to_generate(stop):
    assert generation_arguments({"stop_sequence": stop, "top_p": 0.5}) == {"stop_strings": ["end"], "top_p": 0.5}


@given(st.lists(st.integers(0, 100)), st.integers(1, 64), st.integers(0, 100), st.sampled_from(PromptCut))
def test_a_cut_prompt_leaves_room_and_no_other_is_touched(lengths, limit, new_tokens, cut):
    given_lengths = np.array(lengths, dtype=np.int64)
    kept = kept_tokens(given_lengths, limit=limit, new_tokens=new_tokens, cut=cut)
    is_cut = kept != given_lengths
    assert (kept <= given_lengths).all()
    assert (kept[is_cut] + new_tokens == limit).all()
    assert (kept[is_cut] > 0).all()
    if cut is PromptCut.TOO_LONG:
        assert (given_lengths[is_cut] > limit).all()
    if cut is PromptCut.NEVER:
        assert not is_cut.any()
