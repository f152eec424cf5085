"""
What a sentence-transformers folder says of its embeddings: pooling, normalisation, and how texts are read; and the
files of such a folder for a model that was logged with these as parameters.

Such a folder is a Hugging Face one with a list of modules beside it, each with a small file of its own:

.. code-block:: text

    modules.json                        Transformer → Pooling → Normalize, by class and folder
    1_Pooling/config.json               pooling_mode, in older ones a flag for each
    sentence_bert_config.json           max_seq_length, do_lower_case; named after other models, too
    config_sentence_transformers.json   prompts, and which of them is the default

The library is not needed and nothing of the folder is run. A chain that would give other vectors than ours is refused
by the name of what is in it, never run without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.json_files import read_json_list, read_json_object

_MODULES, _PROMPTS = "modules.json", "config_sentence_transformers.json"
_CHAINS = (("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize"))
_POOLINGS = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last"}
# Before version 6; a file in which none is set means the mean.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_WAY_OUT = (
    "If vectors that are only pooled are what you want, say so with pipeline_kwargs={'pooling': 'mean', 'normalize': "
    "True}; with both given, this file is not asked."
)


def read_pooling(folder: Path) -> dict[str, Any]:
    """
    Return ``pooling`` and ``normalize``; nothing where the folder is none of sentence-transformers.

    :raises UnsupportedPipelineError: a module, or a way of pooling, that this package does not run.
    """
    modules = read_json_list(folder / _MODULES)
    if modules is None:
        return {}
    kinds, paths = zip(*(_kind_and_path(module, folder) for module in modules), strict=True) if modules else ((), ())
    if kinds not in _CHAINS:
        raise UnsupportedPipelineError(
            f"{folder / _MODULES} lists {' → '.join(kinds) or 'nothing'}, and embeddings are made here by "
            f"{' → '.join(_CHAINS[0])}, with Normalize or without. {_WAY_OUT}"
        )
    if paths[0]:
        raise UnsupportedPipelineError(
            f"{folder} has its transformer in {paths[0]}, as sentence-transformers wrote it long ago. Load it with "
            "sentence-transformers and save it again, or log that folder with pipeline_kwargs={'pooling': …}."
        )
    return {"pooling": _read_mode(folder / paths[1] / "config.json"), "normalize": kinds[-1] == "Normalize"}


def _kind_and_path(module: Any, folder: Path) -> tuple[str, str]:
    if not isinstance(module, Mapping) or not isinstance(module.get("type"), str):
        raise UnsupportedPipelineError(f"{folder / _MODULES} lists {module!r:.80}, which names no module's type.")
    return module["type"].rpartition(".")[2], str(module.get("path", ""))


def _read_mode(path: Path) -> str:
    config = read_json_object(path)
    if config is None:
        raise UnsupportedPipelineError(f"{path} is missing, which says how vectors are pooled. Fetch the whole folder.")
    modes = _modes(config)
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise UnsupportedPipelineError(
            f"{path} pools by {' + '.join(modes)}, and vectors are pooled here by one of {', '.join(_POOLINGS)}. "
            f"{_WAY_OUT}"
        )
    if config.get("include_prompt") is False:
        raise UnsupportedPipelineError(
            f"{path} leaves the tokens of a prompt out of pooling (include_prompt), which is not done here. {_WAY_OUT}"
        )
    return _POOLINGS[modes[0]]


def _modes(config: Mapping[str, Any]) -> list[str]:
    """
    Return the ways of pooling, of which several are concatenated.

    >>> _modes({"pooling_mode": ["cls", "mean"]}), _modes({"pooling_mode_max_tokens": True}), _modes({})
    (['cls', 'mean'], ['max'], ['mean'])
    """
    mode = config.get("pooling_mode")
    if mode is None:
        return [mode for flag, mode in _FLAGS.items() if config.get(flag)] or ["mean"]
    return [str(each) for each in mode] if isinstance(mode, list) else [str(mode)]


def read_reading(folder: Path) -> dict[str, Any]:
    """
    Return how texts become tokens, where it is not the tokenizer's own way: ``max_length``, ``do_lower_case``,
    ``prompt``.

    :raises UnsupportedPipelineError: a damaged file.
    """
    path = next(iter(sorted(folder.glob("sentence_*_config.json"))), None)
    config = {} if path is None else read_json_object(path) or {}
    found: dict[str, Any] = {}
    longest = config.get("max_seq_length")
    if longest is not None:
        if not isinstance(longest, int) or longest < 1:
            raise UnsupportedPipelineError(
                f"{path} says max_seq_length {longest!r:.80}; it must be a number of tokens."
            )
        found["max_length"] = longest
    if config.get("do_lower_case"):
        found["do_lower_case"] = True
    prompt = _read_default_prompt(folder / _PROMPTS)
    return found | ({"prompt": prompt} if prompt else {})


def _read_default_prompt(path: Path) -> str | None:
    told = read_json_object(path) or {}
    prompts, name = told.get("prompts") or {}, told.get("default_prompt_name")
    if name is None:
        return None
    prompt = prompts.get(name) if isinstance(prompts, Mapping) and isinstance(name, str) else None
    if not isinstance(prompt, str):
        raise UnsupportedPipelineError(
            f"{path} says default_prompt_name {name!r:.80} and prompts {prompts!r:.80}; the name must be one of the "
            "prompts', each a text. Correct the file, or take the name out of it and give prompt in pipeline_kwargs."
        )
    return prompt


def files_saying(parameters: Mapping[str, Any], dimension: int | None) -> dict[str, Any]:
    """
    Return the JSON files, by path, from which :func:`read_pooling` and :func:`read_reading` read these parameters.

    They are spelt as before version 6 of sentence-transformers, which later versions read, too.

    :param parameters: with ``pooling`` and ``normalize``; ``truncation`` and ``tokenize_kwargs`` have no place there.
    :param dimension: of the vectors, without which sentence-transformers asks for it; None where nobody knows it.

    >>> list(files_saying({"pooling": "cls", "normalize": True, "max_length": 128}, 384))
    ['modules.json', '1_Pooling/config.json', 'sentence_bert_config.json']
    """
    kinds = _CHAINS[1] if parameters["normalize"] else _CHAINS[0]
    modes = {ours: theirs for theirs, ours in _POOLINGS.items()}
    mode = modes[parameters["pooling"]]
    files: dict[str, Any] = {
        _MODULES: [
            {
                "idx": index,
                "name": str(index),
                "path": f"{index}_{kind}" if index else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for index, kind in enumerate(kinds)
        ],
        "1_Pooling/config.json": ({} if dimension is None else {"word_embedding_dimension": dimension})
        | {"include_prompt": True}
        | {flag: mode == named for flag, named in _FLAGS.items()},
    }
    if parameters.get("max_length") is not None or parameters.get("do_lower_case"):
        files["sentence_bert_config.json"] = {
            "max_seq_length": parameters.get("max_length"),
            "do_lower_case": bool(parameters.get("do_lower_case")),
        }
    if parameters.get("prompt"):
        files[_PROMPTS] = {"prompts": {"default": parameters["prompt"]}, "default_prompt_name": "default"}
    return files
