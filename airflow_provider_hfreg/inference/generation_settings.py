"""
Generation settings: what a user gave, what the family adds, and what a setting means for batching.

Each family keeps what a pipeline was built with in another place: ``pipe.generation_config`` from 4.52 to 4.57,
``pipe._generate_kwargs`` with ``_generation_defaults`` in 5. Both are read here and nowhere else. A version records two
mappings: the settings that the user gave, and those that the family added on top of the model's own
``generation_config.json`` (from 4.52, text generation samples, at temperature 0.7, up to 256 new tokens). Given goes
before added, added before the model's. So another family gives the same text.

Where 4.57 drops a given setting because it equals transformers' global default and the model's file says otherwise
(``num_beams=1`` on a model that says 4), the user's word holds here, as it does in 5.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_provider_hfreg.inference.frameworks import transformers
from airflow_provider_hfreg.pipelines.generation import generation_arguments

# What generate does when nobody says anything; equal in both families.
_DEFAULTS: Mapping[str, Any] = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "max_length": 20}

# Settings that act on drawing alone, with the values that switch each off.
SAMPLING_OFF: Mapping[str, Any] = {
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": None,
    "top_h": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}

# Settings under which a row's text does not depend on the padding to its left.
_BLIND_TO_PADDING = frozenset(
    {
        *SAMPLING_OFF,
        "max_new_tokens",
        "min_new_tokens",
        "do_sample",
        "num_beams",
        "num_return_sequences",
        "early_stopping",
        "length_penalty",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "decoder_start_token_id",
        "use_cache",
        "stop_strings",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "output_logits",
        "return_dict_in_generate",
        "transformers_version",
    }
)
# Settings that look at the text that was read: padding would change what they see, other rows would not.
_SEE_WHAT_WAS_READ = frozenset({"encoder_repetition_penalty", "encoder_no_repeat_ngram_size"})
# As above, at what is written or at total lengths: padded where the text goes on from its prompt.
_SEE_PADDING = _SEE_WHAT_WAS_READ | frozenset(
    {
        "max_length",
        "min_length",
        "repetition_penalty",
        "no_repeat_ngram_size",
        "exponential_decay_length_penalty",
        "bad_words_ids",
        "sequence_bias",
        "suppress_tokens",
        "begin_suppress_tokens",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "renormalize_logits",
        "remove_invalid_values",
    }
)


class Company(Enum):
    """With which other sequences one may run so that its text is the same as alone."""

    ANY = "any"
    EQUAL_LENGTH = "equal_length"
    NONE = "none"


@dataclass(frozen=True)
class GenerationSettings:
    """
    Everything ``generate`` is told, and what follows from it.

    :param given: keyword arguments for ``network.generate``: the version's and the run's.
    :param model: the model's own settings beneath them, from its ``generation_config.json``.
    """

    given: Mapping[str, Any]
    model: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        for source in (self.given, self.model, _DEFAULTS):
            if source.get(name) is not None:
                return source[name]
        return SAMPLING_OFF.get(name)

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn, so that the text depends on the seed."""
        return bool(self["do_sample"])

    def company_of(self, *, decoder_only: bool) -> Company:
        """
        Tell who may share a batch. A setting that is not known here runs alone: slow, and never wrong.

        >>> GenerationSettings({"max_new_tokens": 5}, {}).company_of(decoder_only=True)
        <Company.ANY: 'any'>
        >>> GenerationSettings({"max_new_tokens": 5, "repetition_penalty": 1.1}, {}).company_of(decoder_only=True)
        <Company.EQUAL_LENGTH: 'equal_length'>
        >>> GenerationSettings({"max_new_tokens": 5, "repetition_penalty": 1.1}, {}).company_of(decoder_only=False)
        <Company.ANY: 'any'>
        >>> GenerationSettings({"do_sample": True, "num_beams": 2}, {}).company_of(decoder_only=True)
        <Company.NONE: 'none'>

        :param decoder_only: the text goes on from its prompt, and padding stands before both.
        """
        names = self._acting()
        if names - _BLIND_TO_PADDING - _SEE_PADDING or (self.searches and (self.samples or self["stop_strings"])):
            return Company.NONE
        if decoder_only:
            return Company.EQUAL_LENGTH if names & _SEE_PADDING or self["max_new_tokens"] is None else Company.ANY
        return Company.EQUAL_LENGTH if names & _SEE_WHAT_WAS_READ else Company.ANY

    @property
    def rows_may_leave(self) -> bool:
        """
        Tell whether each step of a row depends on that row's tokens and nothing else, so that it may leave its batch.

        >>> GenerationSettings({"max_new_tokens": 5, "repetition_penalty": 1.1}, {}).rows_may_leave
        True
        >>> GenerationSettings({"num_beams": 2}, {}).rows_may_leave
        False
        """
        known = (_BLIND_TO_PADDING | _SEE_PADDING) - _SEE_WHAT_WAS_READ
        return not self.searches and self["use_cache"] is not False and self._acting() <= known

    @property
    def rows_may_wait(self) -> bool:
        """
        Tell whether a step depends on nothing but a row's last tokens, so that it may begin after others in its batch.

        >>> GenerationSettings({"max_new_tokens": 5, "do_sample": True}, {}).rows_may_wait
        True
        >>> GenerationSettings({"max_new_tokens": 5, "min_new_tokens": 2}, {}).rows_may_wait
        False
        """
        return self.rows_may_leave and self._acting() <= _BLIND_TO_PADDING - {"min_new_tokens"}

    @property
    def searches(self) -> bool:
        """Whether several beams are followed."""
        return int(self["num_beams"]) > 1

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Tokens that end a text, in the model's order."""
        tokens = self["eos_token_id"]
        return tuple(tokens) if isinstance(tokens, list | tuple) else () if tokens is None else (tokens,)

    @property
    def new_tokens(self) -> int:
        """How many tokens may follow a prompt, at most: what a batch's budget must allow for."""
        return int(self["max_length"] if self["max_new_tokens"] is None else self["max_new_tokens"])

    def without_prefix(self, tokens: int) -> GenerationSettings:
        """
        Return the settings under which total lengths do not count the pipeline's own prefix.

        >>> GenerationSettings({"max_length": 30}, {}).without_prefix(4).given
        {'max_length': 34}
        """
        limits = (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens"))
        said = {**self.model, **self.given}
        longer = {name: said[name] + tokens for name, new in limits if said.get(name) and self[new] is None}
        return GenerationSettings({**self.given, **longer}, self.model)

    def _acting(self) -> set[str]:
        return {name for name in {**self.model, **self.given} if self[name] is not None and self._acts(name)}

    def _acts(self, name: str) -> bool:
        """Tell whether a setting does anything; max_length is silenced by max_new_tokens, as generate does it."""
        if name == "max_length":
            return self["max_new_tokens"] is None
        return bool(self[name] != _global_defaults().get(name))


def names() -> frozenset[str]:
    """Return the names of all generation settings that the installed family knows."""
    return frozenset(name for name in vars(transformers.GenerationConfig()) if not name.startswith("_"))


def settings_for(
    parameters: Mapping[str, Any], added: Mapping[str, Any], model_config: Any, *, pad_token_id: int | None
) -> GenerationSettings:
    """
    Return the settings of one run.

    :param parameters: what somebody gave, the pipeline's other parameters among them.
    :param added: what the family of logging added.
    :param model_config: the network's ``generation_config``.
    :param pad_token_id: of the tokenizer, for models that name neither a pad nor an end token.
    """
    known = names()
    arguments = generation_arguments(parameters)
    given = merged(added, {name: value for name, value in arguments.items() if name in known})
    settings = GenerationSettings(given, model_settings(model_config))
    if settings["pad_token_id"] is None:  # generate would take the first end token, and warn
        given["pad_token_id"] = next(iter(settings.end_tokens), pad_token_id)
    return settings


def merged(added: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Put what was given over what the family added.

    An added ``max_new_tokens`` would silence a given ``max_length``, and added drawing settings mean nothing where
    nothing is drawn (transformers warns of them).

    >>> merged({"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}, {"max_length": 30, "do_sample": False})
    {'do_sample': False, 'max_length': 30}
    """
    given = {name: value for name, value in given.items() if value is not None}
    settings = {**added, **given}
    if "max_length" in given and "max_new_tokens" not in given:
        settings.pop("max_new_tokens", None)
    return _without_drawing(settings, given) if settings.get("do_sample") is False else settings


def model_settings(config: Any) -> dict[str, Any]:
    """Return what a ``GenerationConfig`` says beyond transformers' global defaults."""
    defaults = _global_defaults()
    return {
        name: value
        for name, value in config.to_diff_dict().items()
        if name != "transformers_version"
        and not name.startswith("_")
        and value is not None
        and value != defaults.get(name)
    }


def best_tokens(config: Any) -> dict[str, Any]:
    """Return settings under which ``generate`` takes the best token of untouched scores, whatever a model's own say."""
    touching = _SEE_PADDING - {"max_length"} | {"min_new_tokens"}
    alone = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "early_stopping": False}
    off = {**SAMPLING_OFF, **alone, "length_penalty": 1.0}
    known = names()
    return {
        **dict.fromkeys(model_settings(config).keys() & touching),
        **{name: value for name, value in off.items() if name in known},
    }


def settings_of_pipeline(pipe: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Read a ``transformers.Pipeline``.

    :return: the settings that its user gave, and those that the family added; neither holds what the model itself says.
    """
    if not (getattr(pipe, "_pipeline_calls_generate", False) and pipe.model.can_generate()):
        return {}, {}
    given, in_force = _of_pipeline_5(pipe) if hasattr(pipe, "_generate_kwargs") else _of_pipeline_4(pipe)
    model = model_settings(pipe.model.generation_config)
    added = {name: value for name, value in in_force.items() if name not in given and model.get(name) != value}
    return given, added


def _of_pipeline_5(pipe: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    given = dict(pipe._generate_kwargs)  # noqa: SLF001  there is no public way
    config = given.pop("generation_config", None)
    if config is not None:
        given = {**model_settings(config), **given}
    given = {name: value for name, value in given.items() if value is not None}
    said = {**pipe.model.generation_config.to_diff_dict(), **given}  # a False of the model's file speaks here, too
    defaults = {name: value for name, value in pipe._generation_defaults.items() if name not in said}  # noqa: SLF001
    if not {**defaults, **said}.get("do_sample"):
        defaults = _without_drawing(defaults)
    return given, merged(defaults, {**model_settings(pipe.model.generation_config), **given})


def _of_pipeline_4(pipe: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    prepare = pipe.model._prepare_generation_config  # noqa: SLF001  the very merge that the pipeline ran
    base = getattr(pipe, "_default_generation_config", None) or transformers.GenerationConfig()
    untouched, _ = prepare(generation_config=base, use_model_defaults=True)
    untouched.update(**(pipe.model.config.task_specific_params or {}).get(pipe.task, {}))
    before, after = vars(untouched), vars(pipe.generation_config)
    given = {
        name: after[name]
        for name in names() - {"transformers_version", "pad_token_id"}
        if after.get(name) is not None and after[name] != before.get(name)
    }
    in_force, _ = prepare(generation_config=pipe.generation_config)
    settings = model_settings(in_force)
    return given, settings if in_force.do_sample else _without_drawing(settings, given)


def _without_drawing(settings: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
    """Drop settings that mean nothing where nothing is drawn, unless somebody gave them."""
    return {name: value for name, value in settings.items() if name in given or name not in SAMPLING_OFF}


def _global_defaults() -> dict[str, Any]:
    config = transformers.GenerationConfig()
    if hasattr(config, "_get_default_generation_params"):  # 5: unset fields are None, the defaults stand apart
        return dict(config._get_default_generation_params())  # noqa: SLF001
    return dict(vars(config))
