"""Tiny models in folders, made once per session, and windows of rows to put through them."""

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import pyarrow as pa
import pytest

OWN = Path(__file__).parent / "own_classes" / "word_lengths.py"
TEXTS = (
    "the film was good",
    "",
    "Das Essen war größtenteils köstlich, der Service leider nicht.",
    "この映画はとても面白かったです。",
    "it's",
    "the film was good",
    "👩‍👩‍👧 zero\u200dwidth \u0000 joiners and \t tabs",
    "10/10 ",
    "a dull plot " * 60,
    "이 영화는",
)


@pytest.fixture(scope="session")
def classifiers(tmp_path_factory):
    """Return the folder of a classifier of an architecture, made when first asked for."""
    from airflow_provider_hfreg.testing.models import text_classifier

    return _made_once(tmp_path_factory, text_classifier)


@pytest.fixture(scope="session")
def generators(tmp_path_factory):
    """Return the folder of a causal language model of an architecture, made when first asked for."""
    from airflow_provider_hfreg.testing.models import text_generator

    return _made_once(tmp_path_factory, text_generator)


@pytest.fixture
def package(tmp_path):
    """Package a pipeline into a fresh folder; give the folder and the spec."""
    from airflow_provider_hfreg.inference.packaging import package_pipeline

    counter = iter(range(1000))

    def packaged(pipe):
        folder = tmp_path / f"packaged-{next(counter)}"
        return folder, package_pipeline(pipe, folder)

    return packaged


@pytest.fixture
def engine_of(package):
    """Package a pipeline and load it into an engine."""
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.loading import load_pipeline

    def engine(pipe, **options):
        folder, spec = package(pipe)
        return Engine(fitted(load_pipeline(folder, spec, device="cpu")), **options)

    return engine


@pytest.fixture
def plain():
    """Build transformers' own pipeline: the oracle."""
    import transformers

    def build(task, folder, **arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return transformers.pipeline(task, model=str(folder), device="cpu", **arguments)

    return build


@pytest.fixture
def word_lengths(monkeypatch, classifiers):
    """A pipeline of a class that a user wrote, registered for a task of its own."""
    import transformers

    spec = importlib.util.spec_from_file_location("word_lengths", OWN)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "word_lengths", module)
    spec.loader.exec_module(module)
    known = transformers.pipelines.PIPELINE_REGISTRY.supported_tasks
    monkeypatch.setitem(known, "word-lengths", None)  # taken back when the test ends
    del known["word-lengths"]
    transformers.pipelines.PIPELINE_REGISTRY.register_pipeline(
        "word-lengths", pipeline_class=module.WordLengths, pt_model=transformers.AutoModelForSequenceClassification
    )
    return transformers.pipeline("word-lengths", model=str(classifiers("bert")), device="cpu", power=2)


@pytest.fixture
def keeping_capitals():
    """Give a folder's tokenizer a class that makes small letters, and a tokenizer.json that keeps capitals."""

    def classed(folder):
        described = json.loads((folder / "tokenizer.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps(described | {"normalizer": {"type": "NFC"}}))
        vocabulary = described["model"]["vocab"]
        (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)), encoding="utf-8")
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "BertTokenizer"}))
        return folder

    return classed


@pytest.fixture(scope="session")
def text_window():
    """Make a window of a text classifier."""

    def window(texts, pairs=None):
        pairs = [None] * len(texts) if pairs is None else pairs
        return pa.record_batch({"text": pa.array(texts, pa.string()), "text_pair": pa.array(pairs, pa.string())})

    return window


@pytest.fixture(scope="session")
def prompt_window():
    """Make a window of a text generator."""
    return lambda texts: pa.record_batch({"inputs": pa.array(texts, pa.string())})


@pytest.fixture(scope="session")
def texts():
    """Ragged, repeated, empty, over-long, in many scripts."""
    return list(TEXTS)


def _made_once(tmp_path_factory, make):
    made = {}

    def folder(architecture, **config):
        key = (architecture, *sorted(config.items()))
        if key not in made:
            made[key] = make(tmp_path_factory.mktemp(architecture), architecture=architecture, **config)
        return made[key]

    return folder
