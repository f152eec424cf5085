"""
One logged version gives the same answers under transformers 4.57 and 5, tokenizer included.

Needs a second environment with the other family: ``HFREG_OTHER_FAMILY_PYTHON`` names its interpreter, else it is
the one that ``make test-families`` makes beside this one's.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_hfreg import inference
from airflow_provider_hfreg.pipelines.folder import describe_folder
from airflow_provider_hfreg.testing import models
from airflow_provider_hfreg.testing.encoder_models import sentence_embedder
from airflow_provider_hfreg.testing.hub_folders import HUB_FOLDERS


def _other_python():
    here = Path(sys.prefix)
    name = (
        here.name.removesuffix("-transformers4")
        if here.name.endswith("-transformers4")
        else f"{here.name}-transformers4"
    )
    beside = here.with_name(name) / "bin" / "python"
    return os.environ.get("HFREG_OTHER_FAMILY_PYTHON") or (str(beside) if beside.exists() else None)


OTHER_PYTHON = _other_python()

STAND_INS = {
    "summaries": ("summarization", "t5", {}),
    "answers": ("text2text-generation", "bart", {"num_return_sequences": 2}),
    "one pair": ("translation_en_to_fr", "marian", {}),
    "languages": ("translation", "mbart", {"src_lang": "de_DE", "tgt_lang": "fr_XX"}),
    "chat": ("conversational", "gpt2", {}),
}
# As their authors published them.
OF_THE_HUB = {
    "t5": ("summarization", {}),
    "t5 with tokenizer.json": ("translation_en_to_de", {}),
    "marian": ("translation_en_to_fr", {}),
    "m2m100": ("translation_en_to_fr", {}),
    "nllb": ("translation", {"src_lang": "deu_Latn", "tgt_lang": "fra_Latn"}),
    "mbart": ("translation", {"src_lang": "de_DE", "tgt_lang": "fr_XX"}),
    "bert": ("text-classification", {"top_k": 2}),
}


@pytest.fixture
def versions(tmp_path, classifiers, generators, plain, package, word_lengths, keeping_capitals):
    """Log a pipeline of every kind of tokenizer under the family that runs this test."""

    def log(name, pipe):
        folder, spec = package(pipe)
        folder.rename(tmp_path / "versions" / name)
        (tmp_path / "versions" / f"{name}.json").write_text(json.dumps(spec.to_json()))

    (tmp_path / "versions").mkdir()
    for architecture in ("bert", "distilbert", "roberta"):
        log(architecture, plain("text-classification", classifiers(architecture), top_k=2))
    log(
        "class",
        plain("text-classification", classifiers("bert"), tokenizer=_class_tokenizer(tmp_path, plain, classifiers)),
    )
    for architecture in ("gpt2", "llama"):
        log(architecture, plain("text-generation", generators(architecture), do_sample=False, max_new_tokens=8))
    log("sampled", plain("text-generation", generators("llama"), max_new_tokens=8))
    nli = classifiers("bert", labels=("contradiction", "neutral", "entailment"))
    log("zero-shot", plain("zero-shot-classification", nli))
    embedder = sentence_embedder(tmp_path / "made embeddings", pooling="cls")
    log("embeddings", inference.pipeline("feature-extraction", str(embedder), device="cpu"))
    classed = keeping_capitals(Path(shutil.copytree(classifiers("bert"), tmp_path / "made classed")))
    word_lengths.tokenizer = plain("text-classification", classed).tokenizer
    log("a class of their own", word_lengths)
    for name, (task, architecture, arguments) in STAND_INS.items():
        folder = _folder_of(tmp_path / f"made {name}", task, architecture)
        log(name, inference.pipeline(task, str(folder), device="cpu", max_new_tokens=8, **arguments))
    for name, (task, given) in OF_THE_HUB.items():
        arguments = given if "classification" in task else {**given, "max_new_tokens": 8, "num_beams": 2}
        folder = HUB_FOLDERS[name](tmp_path / f"hub {name}")
        log(f"hub {name} as a pipeline", inference.pipeline(task, str(folder), device="cpu", **arguments))
        as_it_is = tmp_path / "versions" / f"hub {name} as it is"
        spec = describe_folder(folder.rename(as_it_is), task, arguments)
        as_it_is.with_name(f"{as_it_is.name}.json").write_text(json.dumps(spec.to_json()))
    _leave_as_the_family_saved_it(tmp_path / "versions", "unprepared bert", "bert", classifiers("bert"))
    _leave_as_the_family_saved_it(tmp_path / "versions", "unprepared gpt2", "gpt2", generators("gpt2"))
    return tmp_path / "versions"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")  # Marian's, which never calls it
@pytest.mark.skipif(
    OTHER_PYTHON is None,
    reason="no other family: HFREG_OTHER_FAMILY_PYTHON names no Python, and `make test-families` made none",
)
def test_both_families_give_the_same_answers(versions):
    ours, theirs = _answers(sys.executable, versions), _answers(OTHER_PYTHON, versions)

    for name, answers in ours.items():
        for what in ("encoded", "pairs", "decoded", "limits", "special"):
            if what == "decoded" and "marian" in name:
                continue  # the families put other spaces beside a special token that stays; both leave them out
            assert theirs[name][what] == answers[what], (name, what)
        assert _numbers_apart(theirs[name]["outputs"]) == pytest.approx(_numbers_apart(answers["outputs"]), abs=1e-5)
        assert _words(theirs[name]["outputs"]) == _words(answers["outputs"]), name
        if answers["plain"] is not None and "_text" in json.dumps(answers["plain"]):
            assert theirs[name]["plain"] == answers["plain"], name


def _folder_of(folder, task, architecture):
    """Make a model; T5 tells what stands before a text."""
    folder.mkdir()
    if task == "conversational":
        return models.text_generator(folder, architecture=architecture)
    settings = {"summarization": {"prefix": "summarize: ", "num_beams": 2}}
    models.text_to_text_model(folder, architecture=architecture, task_specific_params=settings)
    return _as_version_1_1(folder) if architecture == "t5" else folder


def _as_version_1_1(folder):
    """Make of a T5 what its hub has since: words go out by other weights than they came in, and unscaled."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["shared.weight"].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config.pop("scale_decoder_outputs", None)
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return folder


def _leave_as_the_family_saved_it(versions, name, like, folder):
    """Log a folder as it stands, as a registry does that streams its files."""
    shutil.copytree(folder, versions / name)
    config = versions / name / "tokenizer_config.json"
    shutil.copy(versions / f"{like}.json", versions / f"{name}.json")
    if like == "bert" and json.loads(config.read_text())["tokenizer_class"] == "PreTrainedTokenizerFast":
        said = json.loads(config.read_text())
        del said["model_input_names"]  # older tokenizers have none, and 4.57 gives token types all the same
        config.write_text(json.dumps(said))


def _class_tokenizer(tmp_path, plain, classifiers):
    """Return a tokenizer of a class of its own, cased against its model's habit, with special tokens without a role."""
    import transformers

    generic = plain("text-classification", classifiers("bert")).tokenizer
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(sorted(generic.get_vocab(), key=generic.get_vocab().get)), encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(vocabulary), do_lower_case=False, model_max_length=40)
    tokenizer.truncation_side = "left"
    return tokenizer


def _answers(python, versions):
    script = Path(__file__).with_name("answers.py")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, script, versions], capture_output=True, text=True, check=False, env=environment, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _leaves(value):
    if isinstance(value, str) and value.startswith("[{"):
        value = json.loads(value)
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for inner in value for leaf in _leaves(inner)] if isinstance(value, list) else [value]


def _numbers_apart(outputs):
    return [leaf for leaf in _leaves(outputs) if isinstance(leaf, float)]


def _words(outputs):
    return [leaf for leaf in _leaves(outputs) if not isinstance(leaf, float)]
