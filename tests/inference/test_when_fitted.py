"""A network is fitted once, before a window that could need it, and never for a process that runs one row."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import DeviceLostError
from airflow_provider_hfreg.inference.engine import Engine
from airflow_provider_hfreg.inference.fitting import fitted
from airflow_provider_hfreg.inference.loading import load_pipeline
from airflow_provider_hfreg.inference.numerics import described
from airflow_provider_hfreg.pipelines.folder import describe_folder

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

ONE, SEVERAL = ["the film was good"], ["the film was good", "a dull plot " * 9, "10/10", "it's"]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Load a fresh classifier."""
    from airflow_provider_hfreg.testing.encoder_models import sequence_classifier

    folders = {}

    def loaded(architecture):
        if architecture not in folders:
            folders[architecture] = sequence_classifier(tmp_path_factory.mktemp("model"), architecture=architecture)
        folder = folders[architecture]
        return load_pipeline(folder, describe_folder(folder, "text-classification", {}), device="cpu")

    return loaded


@pytest.fixture
def lazy(load):
    """Return an engine that fits when it has to, and the list of its fittings."""

    def engine(architecture="bert"):
        fittings = []

        def fit(loaded):
            fittings.append(threading.current_thread())
            return fitted(loaded, prepacks=lambda _: True)

        return Engine(load(architecture), fit=fit), fittings

    return engine


def scores(result):
    assert result.errors == ()
    return result.outputs.column("score").to_numpy(zero_copy_only=False)


def test_the_first_window_of_one_sequence_runs_through_the_network_as_it_came(lazy, load, text_window):
    engine, fittings = lazy()
    plain = Engine(load("bert"))

    first = engine.run(text_window(ONE * 3))
    assert (fittings, engine.loaded.layout) == ([], plain.loaded.layout)
    assert scores(first).tolist() == scores(plain.run(text_window(ONE * 3))).tolist()

    second = engine.run(text_window(ONE * 3))
    assert fittings == [threading.current_thread()]
    assert engine.loaded.layout.last is not None
    np.testing.assert_allclose(scores(second), scores(first), atol=1e-6)

    engine.run(text_window(SEVERAL))
    assert len(fittings) == 1


@pytest.mark.parametrize("begin", ["several sequences", "fit", "no sequence"])
def test_whatever_comes_first_the_network_is_fitted_before_sequences_share_a_batch(begin, lazy, load, text_window):
    engine, fittings = lazy()
    if begin == "fit":
        engine.fit()
    if begin == "no sequence":
        engine.run(text_window([]))
    assert len(fittings) == (begin == "fit")

    result = engine.run(text_window(SEVERAL))

    assert len(fittings) == 1
    alone = Engine(load("bert"), token_budget=1).run(text_window(SEVERAL))
    np.testing.assert_allclose(scores(result), scores(alone), atol=1e-6)


@pytest.mark.parametrize("architecture", ["bert", "xlnet", "convbert", "mpnet"])
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_windows_that_were_prepared_before_the_network_was_fitted_run_as_those_after(
    architecture, lazy, load, text_window, data
):
    """Two of these read padding, which only a fitted engine knows."""
    engine, fittings = lazy(architecture)
    windows = data.draw(
        st.lists(st.lists(st.sampled_from(SEVERAL), min_size=1, max_size=4), min_size=1, max_size=4), label="windows"
    )
    ready = [engine.prepared(text_window(texts)) for texts in windows]
    order = data.draw(st.permutations(range(len(windows))), label="order")

    results = {place: ready[place](cancelled=lambda: False) for place in order}

    alone = Engine(load(architecture), token_budget=1)
    for place, texts in enumerate(windows):
        np.testing.assert_allclose(scores(results[place]), scores(alone.run(text_window(texts))), atol=1e-6)
    assert len(fittings) == (len(windows) > 1 or len(set(windows[0])) > 1)


def test_threads_and_budgets_that_share_an_engine_fit_it_once(lazy, load, text_window):
    engine, fittings = lazy()
    budgets = [None, 8, 64, None]
    windows = [text_window([*SEVERAL, f"the film {number}"]) for number in range(4)]

    with ThreadPoolExecutor(4) as threads:
        jobs = zip(budgets, windows, strict=True)
        results = list(threads.map(lambda job: engine.with_token_budget(job[0]).run(job[1]), jobs))

    assert len(fittings) == 1
    alone = Engine(load("bert"), token_budget=1)
    for window, result in zip(windows, results, strict=True):
        np.testing.assert_allclose(scores(result), scores(alone.run(window)), atol=1e-6)
    assert engine.with_token_budget(8).loaded is engine.loaded


def test_a_prompt_writes_what_it_writes_in_a_fitted_engine(generators, prompt_window):
    folder = generators("gpt2")
    spec = describe_folder(folder, "text-generation", {"max_new_tokens": 6, "do_sample": True})
    fittings = []

    def fit(loaded):
        fittings.append(loaded)
        return fitted(loaded)

    engine = Engine(load_pipeline(folder, spec, device="cpu"), fit=fit)
    first = engine.run(prompt_window(ONE), seed=5)
    assert fittings == []

    again = engine.run(prompt_window(ONE), seed=5)

    assert len(fittings) == 1
    assert engine.loaded.rows_leave
    assert again.outputs == first.outputs


def test_a_run_tells_no_layout_that_nobody_found_yet(lazy, text_window):
    """ConvBERT reads padding, and as one sequence has none, its first run does not know."""
    engine, _ = lazy("convbert")
    engine.run(text_window(ONE))
    assert described(engine, None)["layout"] == "as it came"
    engine.run(text_window(SEVERAL))
    assert described(engine, None)["layout"] == "one length at a time, prepacked layers"


def test_layers_that_were_prepacked_after_a_first_run_are_told(lazy, text_window):
    engine, _ = lazy("mpnet")
    engine.run(text_window(ONE))
    assert not engine.loaded.is_prepacked
    engine.run(text_window(ONE))
    assert engine.loaded.is_prepacked


def test_a_device_that_is_lost_while_a_network_is_fitted_is_lost(load, text_window):
    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    loaded = load("bert")
    loaded.network.register_forward_pre_hook(fail)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        Engine(loaded, fit=fitted).run(text_window(SEVERAL))
