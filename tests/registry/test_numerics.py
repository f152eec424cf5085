"""Other numbers and other threads, where somebody asks for them, and what the result says of both."""

import numpy as np
import pandas as pd
import pytest

from airflow_provider_hfreg.errors import InvalidOptionError
from airflow_provider_hfreg.registry.residency import release_residents
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

FRAME = pd.DataFrame({"text": ["the film was good", "a dull plot", "Great value :) would buy again 10/10"]})


@pytest.fixture
def version(file_registry, classifier):
    release_residents()
    yield file_registry.log_folder(classifier, model_name="finbert", version_name="v1", task="text-classification")
    release_residents()


@pytest.mark.parametrize(
    ("precision", "name", "within"), [("bf16", "bfloat16", 5e-2), ("float16", "float16", 1e-2), ("fp32", "float32", 0)]
)
def test_a_precision_is_what_was_asked_for_and_the_result_says_so(precision, name, within, version):
    own = version.run(FRAME)

    result = version.run(FRAME, precision=precision)

    assert own.attrs["hfreg"]["precision"] == "float32"
    assert result.attrs["hfreg"]["precision"] == name
    assert ("within 1e-5" in result.attrs["hfreg"]["numerics"]) is (name == "float32")
    difference = np.abs(result["score"].to_numpy(float) - own["score"].to_numpy(float)).max()
    assert difference <= within
    assert bool(difference > 0) is (name != "float32")


def test_the_versions_own_precision_is_the_resident_that_is_there(version):
    assert version.engine(precision="float32") is version.engine()
    assert version.engine(precision="bf16") is not version.engine()
    assert version.engine(precision="bfloat16") is version.engine(precision="bf16")


@pytest.mark.parametrize("precision", ["int8", "", "Float32", "bf"])
def test_a_precision_that_there_is_not_is_refused_by_name(precision, version):
    with pytest.raises(InvalidOptionError, match="it must be one of float32, bfloat16, float16"):
        version.run(FRAME, precision=precision)


def test_a_method_with_a_signature_of_its_own_has_no_precision_to_choose(file_registry, classifier):
    text = ModelSignature([FeatureSpec("text", DataType.STRING)], [FeatureSpec("label", DataType.STRING)])
    version = file_registry.log_folder(
        classifier,
        model_name="finbert",
        version_name="both",
        task="text-classification",
        options={"target_methods": ["predict"]},
        signatures={"predict": text},
    )
    with pytest.raises(InvalidOptionError, match="'predict' of finbert/both is a method with a signature of its own"):
        version.run(FRAME, function_name="predict", precision="bf16")
    with pytest.raises(InvalidOptionError, match="token_budget is 64, and 'predict' of finbert/both is called with"):
        version.run(FRAME, function_name="predict", token_budget=64)
    assert "precision" not in version.run(FRAME, function_name="predict").attrs["hfreg"]


def test_a_token_budget_is_the_runs_own_and_changes_no_label(version):
    forwards = []
    hook = version.engine().loaded.network.register_forward_hook(lambda *_: forwards.append(None))
    try:
        result = version.run(FRAME, token_budget=1)
    finally:
        hook.remove()
    own = version.run(FRAME)
    assert len(forwards) == len(FRAME)
    assert result.attrs["hfreg"]["token_budget"] == 1 < own.attrs["hfreg"]["token_budget"]
    assert result["label"].tolist() == own["label"].tolist()
    np.testing.assert_allclose(result["score"].to_numpy(float), own["score"].to_numpy(float), atol=1e-6)


def test_a_token_budget_that_had_to_shrink_is_remembered_for_who_asks_for_it_again(version):
    forwards = []

    def act(_network, _arguments, given):
        forwards.append(len(given["input_ids"]))
        if len(given["input_ids"]) * given["input_ids"].shape[1] > 20:
            raise MemoryError

    network = version.engine().loaded.network
    hook = network.register_forward_pre_hook(act, with_kwargs=True)
    frame = pd.DataFrame({"text": ["the film was good", "the film was bad!", "a dull plot, it was"] * 4})
    try:
        first = version.run(frame, token_budget=1000)
        tried = len(forwards)
        again = version.run(frame, token_budget=1000)
    finally:
        hook.remove()
    assert again.attrs["hfreg"]["token_budget"] <= first.attrs["hfreg"]["token_budget"] <= 500
    assert len(forwards) - tried <= tried
    assert version.engine().token_budget > 1000


def test_threads_that_share_a_budget_take_turns_and_get_their_own_rows(version):
    import threading
    from concurrent.futures import ThreadPoolExecutor

    import pyarrow as pa

    engine, inside, most = version.engine().with_token_budget(32), threading.Semaphore(1), []

    def enter(*_):
        most.append(inside.acquire(blocking=False))

    hooks = [
        engine.loaded.network.register_forward_pre_hook(enter),
        engine.loaded.network.register_forward_hook(lambda *_: inside.release()),
    ]
    texts = [[f"{'good ' * (row % 7)}film {number} {row}" for row in range(30)] for number in range(4)]
    windows = [pa.record_batch({"text": each, "text_pair": pa.nulls(len(each), pa.string())}) for each in texts]
    try:
        alone = [engine.run(window) for window in windows]
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(lambda window: version.engine().with_token_budget(32).run(window), windows))
    finally:
        for hook in hooks:
            hook.remove()
    assert all(most)
    assert [result.outputs for result in together] == [result.outputs for result in alone]


def test_the_files_of_a_model_are_held_while_one_with_another_budget_runs(version):
    import gc
    import weakref

    other = version.engine().with_token_budget(64)
    resident = weakref.ref(version.engine())
    release_residents()
    gc.collect()
    assert resident() is not None
    del other
    gc.collect()
    assert resident() is None


@pytest.mark.parametrize("budget", [0, -1, 2.0, True, "64"])
def test_a_token_budget_that_is_no_count_is_refused(budget, version):
    with pytest.raises(InvalidOptionError, match=r"token_budget is .*; write a whole number from 1 on"):
        version.run(FRAME, token_budget=budget)


def test_threads_hold_for_the_run_alone(version):
    import torch

    before = torch.get_num_threads()
    result = version.run(FRAME, threads=before + 1)

    assert result.attrs["hfreg"]["threads"] == before + 1
    assert torch.get_num_threads() == before
    assert version.run(FRAME).attrs["hfreg"]["threads"] == before


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_threads_that_cannot_be_are_refused_before_a_model_is_loaded(threads, version):
    from airflow_provider_hfreg.registry.residency import resident_digests

    with pytest.raises(InvalidOptionError, match=f"threads is {threads!r}; write a whole number from 1 on"):
        version.run(FRAME, threads=threads)
    assert resident_digests() == []
